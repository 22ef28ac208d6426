"""Faster R-CNN as an auxiliary head, of detectron2's parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import FastRCNNConvFCHead, FastRCNNOutputLayers, ROIHeads
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor

from ...arguments import require_number, require_whole
from ...errors import NonFiniteError
from ...registry import AUXILIARY_HEADS
from ...structures import LayerPredictions, Targets
from .head import BACKGROUND, UNUSED, AuxiliaryHead, AuxiliaryOutput, Candidates
from .maps import AuxiliaryMaps
from .proposals import proposal_network

_POOLED = 7  # cells of a pooled region, in height and width
_DETECTIONS = 1000  # (proposal, class) pairs of an image that predictions tell of


@AUXILIARY_HEADS.register()
class FasterRCNNHead(AuxiliaryHead):
    """A region proposal network, and a head that classifies and refines its proposals.

    Settings are those of the released config of Co-DETR.  Candidates are the sampled proposals;
    their features are the means of the pooled regions, their boxes the proposals.  In the released
    code no region is pooled from the coarsest map, here those of 1792 pixels and more are if its
    stride is 128.

    Sampling, matching and losses are detectron2's.  So the losses of proposals are divided by 256
    anchors an image, those of regions by the number of sampled regions; mmdet, which the released
    code rests on, divides by the anchors that were sampled, which are fewer only in maps with fewer
    anchors.  An object also gets the anchors that overlap it most, however little that is; in mmdet
    only if that is at least 0.3.  Anchors on the padding of a batch are taken like all others.

    Args:
        num_classes: classes of the detector.
        strides: pixels from one cell to the next, per level; powers of 2, each twice the one
            before.
        embed_dim: channels of the maps.
        hidden_dim: width of the two fully connected layers.
        proposals: of an image, at most, after their non-maximum suppression.
        samples: proposals of an image that are taught, at most.
        positive_fraction: of the samples, at most, in [0, 1].
        proposal_weight: factor of both losses of the proposals: binary cross-entropy of
            objectness, L1 of the boxes.
        class_weight: factor of the cross-entropy of classes and background.
        box_weight: factor of the boxes' generalised IoU loss.

    Raises:
        ValueError: an argument that is no such number.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        strides: Sequence[int],
        embed_dim: int = 256,
        hidden_dim: int = 1024,
        proposals: int = 1000,
        samples: int = 512,
        positive_fraction: float = 0.25,
        proposal_weight: float = 1.0,
        class_weight: float = 1.0,
        box_weight: float = 10.0,
    ):
        super().__init__(num_classes, embed_dim)
        require_whole("proposals of FasterRCNNHead", proposals)
        require_whole("samples of FasterRCNNHead", samples)
        require_number("positive_fraction of FasterRCNNHead", positive_fraction, 0, 1)
        require_number("proposal_weight of FasterRCNNHead", proposal_weight, 0)
        require_number("class_weight of FasterRCNNHead", class_weight, 0)
        require_number("box_weight of FasterRCNNHead", box_weight, 0)
        self.strides = _pyramid_strides(strides)
        self.samples = samples
        self.rpn = proposal_network(self.strides, embed_dim, proposals, proposal_weight)
        self.sampler = ROIHeads(
            num_classes=num_classes,
            batch_size_per_image=samples,
            positive_fraction=positive_fraction,
            proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
            proposal_append_gt=True,
        )
        self.pooler = ROIPooler(
            output_size=_POOLED,
            scales=[1 / stride for stride in self.strides],
            sampling_ratio=0,
            pooler_type="ROIAlignV2",
        )
        self.box_head = FastRCNNConvFCHead(
            ShapeSpec(channels=embed_dim, height=_POOLED, width=_POOLED),
            conv_dims=[],
            fc_dims=[hidden_dim, hidden_dim],
        )
        self.predictor = FastRCNNOutputLayers(
            self.box_head.output_shape,
            box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
            num_classes=num_classes,
            box_reg_loss_type="giou",
            loss_weight={"loss_cls": class_weight, "loss_box_reg": box_weight},
        )

    def forward(self, pyramid: AuxiliaryMaps, targets: Targets) -> AuxiliaryOutput:
        """See :class:`AuxiliaryHead`.

        What detectron2 counts of samples and accuracy goes to its ``EventStorage``, if there is
        one.

        Raises:
            NonFiniteError: proposals are NaN or infinite.
            ValueError: the maps have other strides.
        """
        instances = _instances_of(pyramid, targets)
        with _event_storage():
            proposals, rpn_losses = self._propose(pyramid, instances)
            sampled = self.sampler.label_and_sample_proposals(proposals, instances)
            pooled_RCHW = self._pool(pyramid, sampled)
            losses = self.predictor.losses(self._predictions(pooled_RCHW), sampled)
        return AuxiliaryOutput(
            losses={
                "rpn_class": rpn_losses["loss_rpn_cls"],
                "rpn_box": rpn_losses["loss_rpn_loc"],
                "class": losses["loss_cls"],
                "giou": losses["loss_box_reg"],
            },
            candidates=self._candidates(sampled, pooled_RCHW.mean((2, 3))),
        )

    def predict(self, pyramid: AuxiliaryMaps) -> LayerPredictions:
        """The best 1000 (proposal, class) pairs of every image, a row each.

        Every class of a proposal has a box of its own: the logits of a row are -inf but for the
        class of its pair.  Rows that no pair is left for are -inf throughout.

        Raises:
            ValueError: the maps have other strides.
        """
        proposals, _ = self._propose(pyramid)
        predictions = self._predictions(self._pool(pyramid, proposals))
        images = zip(
            self.predictor.predict_probs(predictions, proposals),
            self.predictor.predict_boxes(predictions, proposals),
        )
        rows = [self._best_pairs(scores_RX[:, :-1], boxes_RD) for scores_RX, boxes_RD in images]
        logits, boxes = zip(*rows)
        return LayerPredictions(torch.stack(logits), pyramid.fractions(torch.stack(boxes)))

    def _propose(
        self, pyramid: AuxiliaryMaps, instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals of every image, and losses where objects are given."""
        if tuple(pyramid.strides) != self.strides:
            raise ValueError(
                f"FasterRCNNHead is made for maps of strides {self.strides}, but was given some of "
                f"{tuple(pyramid.strides)}; give it the strides of model.supervisions.adapter"
            )
        features = {str(level): features for level, features in enumerate(pyramid.maps)}
        images = ImageList(pyramid.maps[0], list(pyramid.sizes))  # of which only sizes are read
        # Its mode says nothing but whether there are objects, and how many proposals are looked at.
        self.rpn.train(instances is not None)
        try:
            return self.rpn(images, features, instances)
        except FloatingPointError as error:
            raise NonFiniteError("proposals of FasterRCNNHead are NaN or infinite") from error

    def _pool(self, pyramid: AuxiliaryMaps, proposals: list[Instances]) -> Tensor:
        """Features (R, C, 7, 7) of the proposals of all images; there is no kernel for bfloat16."""
        maps = [features.to(pyramid.dtype) for features in pyramid.maps]
        return self.pooler(maps, [image.proposal_boxes for image in proposals])

    def _predictions(self, pooled_RCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (R, K + 1), the last of background, and box deltas (R, 4 * K)."""
        logits, deltas = self.predictor(self.box_head(pooled_RCHW))
        return logits.float(), deltas.float()  # as detectron2 has all boxes

    def _candidates(self, sampled: list[Instances], features_RC: Tensor) -> Candidates:
        """As many places for every image; in those that are left over there is nobody."""
        objects, boxes = [], []
        for image in sampled:
            if image.has("gt_objects"):
                object_A = image.gt_objects.where(image.gt_classes < self.num_classes, BACKGROUND)
            else:  # detectron2 leaves the field out where there are no objects
                object_A = torch.full_like(image.gt_classes, BACKGROUND)
            objects.append(F.pad(object_A, (0, self.samples - len(image)), value=UNUSED))
            boxes.append(_filled_up(image.proposal_boxes.tensor, self.samples))
        parts = features_RC.split([len(image) for image in sampled])
        return Candidates(
            boxes_BA4=torch.stack(boxes).to(features_RC.dtype),
            object_BA=torch.stack(objects),
            tokens_BTC=torch.stack([_filled_up(part_RC, self.samples) for part_RC in parts]),
            token_A=torch.arange(self.samples, device=features_RC.device),
        )

    def _best_pairs(self, scores_RK: Tensor, boxes_RD: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and boxes (N, 4) of the best pairs of an image."""
        scores_P = scores_RK.flatten()
        scores_P, pair_P = scores_P.topk(min(_DETECTIONS, len(scores_P)))
        logits_NK = scores_P.new_full((_DETECTIONS, self.num_classes), -math.inf)
        row_P = torch.arange(len(pair_P), device=pair_P.device)
        logits_NK[row_P, pair_P % self.num_classes] = scores_P.logit()
        return logits_NK, _filled_up(boxes_RD.reshape(-1, 4)[pair_P], _DETECTIONS)


def _pyramid_strides(strides: Sequence[int]) -> tuple[int, ...]:
    """The strides, which detectron2's pooling takes as powers of 2 without a gap."""
    strides = tuple(strides)
    wanted = tuple(strides[0] * 2**level for level in range(len(strides))) if strides else None
    if strides != wanted or strides[0] < 1 or not math.log2(strides[0]).is_integer():
        raise ValueError(
            f"strides of FasterRCNNHead must be powers of 2, each twice the one before, e.g. "
            f"[8, 16, 32, 64, 128], got {list(strides)}"
        )
    return strides


def _instances_of(pyramid: AuxiliaryMaps, targets: Targets) -> list[Instances]:
    """The objects as detectron2 has them; ``gt_objects`` is their index in the targets."""
    counts = list(targets.counts)
    object_G = torch.arange(len(targets.labels_G), device=targets.labels_G.device)
    images = zip(
        pyramid.sizes,
        pyramid.boxes_of(targets).split(counts),
        targets.labels_G.split(counts),
        object_G.split(counts),
    )
    return [
        Instances(size, gt_boxes=Boxes(boxes), gt_classes=labels, gt_objects=objects)
        for size, boxes, labels, objects in images
    ]


def _event_storage() -> AbstractContextManager[EventStorage]:
    """The storage of the run; without one detectron2's heads get one that is thrown away."""
    try:
        return nullcontext(get_event_storage())
    except (AssertionError, IndexError):  # the latter if assertions are switched off
        return EventStorage()


def _filled_up(rows: Tensor, number: int) -> Tensor:
    """So many rows (N, D), the last ones zeros."""
    return F.pad(rows, (0, 0, 0, number - len(rows)))
