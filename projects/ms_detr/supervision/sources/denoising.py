"""Queries made of objects and noise, which learn to find back (DN-DETR, DINO).

The objects of an image are there several times, with other noise each time: every such group is a
block.  Images with fewer objects than the batch's largest number are filled up with queries that
are taught nothing, but seen by the others of their block, as in the published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from ...arguments import require_number, require_whole
from ...heads.boxes import inverse_sigmoid
from ...queries import QueryInitializer
from ...registry import SOURCES
from ...structures import Assignment, send
from ...structures.query_groups import PRIMARY
from .source import ExtraQueries, QuerySource, SourceContext

# What the published code clamps references by before it makes logits of them: they are at least
# 0.000999 and at most 0.999001.  Decoders divide by their sizes.
_MARGIN = 1e-3


class Denoising(QuerySource):
    """What both kinds have in common: labels with noise become contents, boxes references.

    A denoising query sees its block and the primary queries; nobody else sees it.

    Args:
        num_classes: classes of the detector.
        embed_dim: channels.
        box_noise: scale of the noise of boxes, at least 0.
        flip_probability: of a label to be drawn anew from all classes, in [0, 1].
    """

    knows = True
    COPIES = 1  # how often a block has every object; only the first copy is to answer it

    def __init__(
        self, *, num_classes: int, embed_dim: int, box_noise: float, flip_probability: float
    ):
        super().__init__()
        require_number(f"box_noise of {type(self).__name__}", box_noise, 0)
        require_number(f"flip_probability of {type(self).__name__}", flip_probability, 0, 1)
        self.box_noise, self.flip_probability = box_noise, flip_probability
        self.labels = nn.Embedding(num_classes, embed_dim)

    def check_fit(
        self,
        key: str,
        num_classes: int,  # noqa: ARG002
        num_layers: int,  # noqa: ARG002
        queries: QueryInitializer,
    ) -> None:
        if not queries.starts_from_boxes:
            raise ValueError(
                f"{key} makes queries around boxes with noise, but those of model.queries, "
                f"{type(queries).__name__}, start from points; delete it "
                f"('~{key.rpartition('.')[0]}'), or use two-stage queries or learned anchors"
            )

    def forward(self, context: SourceContext) -> ExtraQueries:
        targets = context.targets
        most = max(targets.counts)
        blocks = self.num_blocks(most)
        shape = (len(targets.counts), blocks * self.COPIES * most)
        places = _places(targets.counts, blocks * self.COPIES)
        image_P, slot_P, object_P, copy_P = (send(x, targets.labels_G.device) for x in places)
        extra_P = copy_P.remainder(self.COPIES) > 0
        cells = (image_P, slot_P)
        rows_PC = self.labels(self._noisy_labels(targets.labels_G[object_P]))
        boxes_P4 = self.noisy_boxes(targets.boxes_G4[object_P], extra_P)
        # What fills up has zeros as content and as logits of its box, as in the published code.
        reference_BN4 = boxes_P4.new_full((*shape, 4), 0.5)
        reference_BN4 = reference_BN4.index_put(cells, inverse_sigmoid(boxes_P4, _MARGIN).sigmoid())
        content_BNC = rows_PC.new_zeros(*shape, rows_PC.shape[1]).index_put(cells, rows_PC)
        queries = replace(context.initializer.around(reference_BN4), content_BNC=content_BNC)
        known = Assignment(
            image_P=image_P,
            query_P=slot_P,
            target_P=object_P,
            valid_P=~extra_P,
            labelled_P=~extra_P,
            normalizer=targets.num_boxes * blocks,
        )
        filled_BN = torch.zeros(shape, dtype=torch.bool, device=image_P.device)
        counted_BN = self.counted(filled_BN.index_put(cells, torch.ones_like(extra_P)))
        return ExtraQueries(
            queries, blocks=blocks, sees=(PRIMARY,), known=known, counted_BN=counted_BN
        )

    def num_blocks(self, most: int) -> int:
        """Blocks of this batch, at least 1, given the largest number of objects of an image."""
        raise NotImplementedError

    def noisy_boxes(self, boxes_P4: Tensor, extra_P: Tensor) -> Tensor:
        """Boxes with noise.

        Args:
            boxes_P4: true boxes (cx, cy, w, h), fractions of the image.
            extra_P: True for those that are further copies, which are not to answer their object.
        """
        raise NotImplementedError

    def counted(self, filled_BN: Tensor) -> Tensor | None:
        """Which queries losses count, given those that hold an object; None: all."""
        return filled_BN

    def _noisy_labels(self, labels_P: Tensor) -> Tensor:
        drawn_P = torch.randint_like(labels_P, self.labels.num_embeddings)
        flipped_P = torch.rand(labels_P.shape, device=labels_P.device) < self.flip_probability
        return torch.where(flipped_P, drawn_P, labels_P)


@SOURCES.register()
class NoisedBoxes(Denoising):
    """DN-DETR: centres move within the box, sizes change, labels flip (sections 4.1 and 4.2).

    The centre moves by up to ``box_noise / 2`` of width and height, these change by up to
    ``box_noise`` of themselves.

    Args:
        num_classes: classes of the detector.
        embed_dim: channels.
        num_groups: blocks, each with all objects.
        box_noise: in [0, 1].
        flip_probability: of a label to be drawn anew.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        embed_dim: int = 256,
        num_groups: int = 5,
        box_noise: float = 0.4,
        flip_probability: float = 0.2,
    ):
        require_number("box_noise of NoisedBoxes", box_noise, 0, 1)
        require_whole("num_groups of NoisedBoxes", num_groups)
        super().__init__(
            num_classes=num_classes,
            embed_dim=embed_dim,
            box_noise=box_noise,
            flip_probability=flip_probability,
        )
        self.num_groups = num_groups

    def num_blocks(self, most: int) -> int:  # noqa: ARG002
        return self.num_groups

    def noisy_boxes(self, boxes_P4: Tensor, extra_P: Tensor) -> Tensor:  # noqa: ARG002
        size_P2 = boxes_P4[:, 2:]
        reach_P4 = torch.cat([size_P2 / 2, size_P2], 1)
        noise_P4 = torch.rand_like(boxes_P4) * 2 - 1
        return (boxes_P4 + noise_P4 * reach_P4 * self.box_noise).clamp(0, 1)


@SOURCES.register()
class ContrastiveNoisedBoxes(Denoising):
    """DINO: every object once with little noise and once with more (section 3.3).

    Corners move by up to ``box_noise / 2`` of width and height in the first case; this query is to
    answer the object.  In the second they move by one to two times that; this one is background.
    There are about ``num_pairs`` pairs per image, and so fewer blocks the more objects there are.

    Args:
        num_classes: classes of the detector.
        embed_dim: channels.
        num_pairs: pairs of the image with the most objects, as far as whole blocks allow; at
            least one block.
        box_noise: 1.0 in the text and in the released training script, 0.4 in the paper's Table 8
            and the released config.
        flip_probability: 0.25, which is half of the published "label noise ratio" of 0.5.
    """

    COPIES = 2

    def __init__(
        self,
        *,
        num_classes: int,
        embed_dim: int = 256,
        num_pairs: int = 100,
        box_noise: float = 1.0,
        flip_probability: float = 0.25,
    ):
        require_whole("num_pairs of ContrastiveNoisedBoxes", num_pairs)
        super().__init__(
            num_classes=num_classes,
            embed_dim=embed_dim,
            box_noise=box_noise,
            flip_probability=flip_probability,
        )
        self.num_pairs = num_pairs

    def num_blocks(self, most: int) -> int:
        return max(1, self.num_pairs // max(1, most))

    def noisy_boxes(self, boxes_P4: Tensor, extra_P: Tensor) -> Tensor:
        corners_P4 = box_convert(boxes_P4, "cxcywh", "xyxy")
        reach_P4 = boxes_P4[:, 2:].repeat(1, 2) / 2
        amount_P4 = torch.rand_like(boxes_P4) + extra_P[:, None]
        sign_P4 = torch.randint_like(boxes_P4, 2) * 2 - 1
        moved_P4 = corners_P4 + sign_P4 * amount_P4 * reach_P4 * self.box_noise
        # Corners of a negative may pass each other; its size then becomes the smallest one.
        return box_convert(moved_P4.clamp(0, 1), "xyxy", "cxcywh")


@SOURCES.register()
class ReleasedContrastiveNoisedBoxes(ContrastiveNoisedBoxes):
    """The same as DINO's code has it: what fills up the batch is taught to be background."""

    def counted(self, filled_BN: Tensor) -> None:  # noqa: ARG002
        return None


def _places(counts: Sequence[int], times: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where every object stands, ``times`` times, in rows of as many slots as the largest count.

    Returns:
        image, slot within the image's queries, object and number of the repetition, all (P,).
    """
    count_B = torch.tensor(counts, dtype=torch.int64)
    image_G = torch.arange(len(counts)).repeat_interleave(count_B)
    rank_G = torch.cat([torch.arange(count) for count in counts])
    copy_P = torch.arange(times).repeat_interleave(len(rank_G))
    slot_P = copy_P * max(counts) + rank_G.repeat(times)
    return image_G.repeat(times), slot_P, torch.arange(len(rank_G)).repeat(times), copy_P
