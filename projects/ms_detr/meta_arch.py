"""The detector: images in, losses or detections out."""

from __future__ import annotations

from dataclasses import replace

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from .decoder import Decoder
from .encoder import ChannelMapper, DeformableEncoder, DenseEncoder, SingleLevelNeck
from .heads import MaskHead, Postprocess, PredictionHeads
from .queries import QueryInitializer
from .registry import META_ARCH_REGISTRY
from .structures import (
    DecoderStates,
    FeaturePyramid,
    LayerPredictions,
    Proposals,
    Targets,
    padding_mask,
)
from .structures.masks import BatchMasks
from .supervision import SupervisionSet, by_group, check_layers
from .supervision.sources import SourceContext, joined


@META_ARCH_REGISTRY.register()
class MSDETR(nn.Module):
    """A DETR detector, taught by a named set of supervisions.

    backbone -> neck -> encoder -> queries -> decoder -> heads is all there is at inference.
    MS-DETR, its baseline and the methods it is compared with differ in ``supervisions`` and in the
    class of the decoder layer, nowhere else.

    Args:
        backbone: any detectron2 backbone.
        neck: backbone maps to equally wide maps on all levels.
        encoder: maps to memory.
        queries: memory to queries (and proposals, if two-stage).
        decoder: queries and memory to query states of all layers.
        heads: query states to class logits and boxes.
        postprocess: predictions to detections.
        pixel_mean, pixel_std: of the three channels, in the order of the input format.
        supervisions: what teaches the detector; unused at inference, where it may be None.
        mask_head: query states and maps to masks; None: boxes only.

    Raises:
        ValueError: parts that do not fit each other; the message names their keys in the config.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        neck: ChannelMapper | SingleLevelNeck,
        encoder: DeformableEncoder | DenseEncoder,
        queries: QueryInitializer,
        decoder: Decoder,
        heads: PredictionHeads,
        postprocess: Postprocess,
        pixel_mean: list[float],
        pixel_std: list[float],
        supervisions: SupervisionSet | None = None,
        mask_head: MaskHead | None = None,
    ):
        super().__init__()
        offered = {name: spec.channels for name, spec in backbone.output_shape().items()}
        check_maps("model.neck", neck.in_channels, offered)
        if mask_head is not None:
            check_maps("model.mask_head", mask_head.in_channels, offered)
        check_layers("model.heads", heads.class_heads, len(decoder.layers))
        if supervisions is not None:
            supervisions.check_fit(heads.num_classes, len(decoder.layers), queries)
            check_masks_are_taught(mask_head, supervisions)
            check_adapter(supervisions, neck, backbone)
        self.backbone = backbone
        self.neck = neck
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.heads = heads
        self.postprocess = postprocess
        self.mask_head = mask_head
        self.supervisions = supervisions
        for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            value = torch.tensor(list(value), dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where inputs are moved to."""
        return self.pixel_mean.device

    @property
    def num_classes(self) -> int:
        """Classes, without background."""
        return self.heads.num_classes

    def forward(
        self, batched_inputs: list[dict], num_boxes: Tensor | None = None
    ) -> dict[str, Tensor] | list[dict]:
        """Train or detect.

        Args:
            batched_inputs: detectron2's standard format; per image "image" (3, H, W), in training
                "instances" with gt_boxes, gt_classes and, with a mask head, gt_masks; at inference
                optionally "height" and "width" of the wanted output.
            num_boxes: (), what losses are divided by; None takes it from the batch, see
                :meth:`Targets.from_instances`. For a batch that is a part of an update.

        Returns:
            In training weighted losses by "<supervision>/<layer>/<term>", whose sum is the
            objective; at inference one {"instances": Instances} per image with pred_boxes, scores,
            pred_classes and, with a mask head, pred_masks, best score first.
        """
        images = self.preprocess(batched_inputs)
        if self.training:
            return self._losses(images, batched_inputs, num_boxes)
        states, _ = self.detect(images.tensor, images.image_sizes)
        sizes = [self.output_size(item) for item in batched_inputs]
        detections = self.postprocess(self.predict(states), sizes)
        return [{"instances": found} for found in detections]

    def preprocess(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the images and pad them to one size with zeros."""
        images = [
            (item["image"].to(self.device) - self.pixel_mean) / self.pixel_std
            for item in batched_inputs
        ]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def detect(
        self, images_B3HW: Tensor, image_sizes: list[tuple[int, int]]
    ) -> tuple[DecoderStates, Proposals | None]:
        """Normalised, padded images to states of the primary queries, and their proposals."""
        memory, masks = self.encode(images_B3HW, image_sizes)
        queries, proposals = self.queries(memory)
        states = self.decoder(queries, memory, self.heads)
        return replace(states, masks=masks), proposals

    def encode(
        self, images_B3HW: Tensor, image_sizes: list[tuple[int, int]]
    ) -> tuple[FeaturePyramid, BatchMasks | None]:
        """Normalised, padded images to memory, and to what masks are made of if they are wanted."""
        features = self.backbone(images_B3HW)
        memory = self.encoder(self.neck(features), padding_mask(image_sizes, images_B3HW))
        if self.mask_head is None:
            return memory, None
        shape = images_B3HW.shape[-2:]
        return memory, batch_masks(self.mask_head, features, memory, image_sizes, shape)

    def _losses(
        self, images: ImageList, batched_inputs: list[dict], num_boxes: Tensor | None
    ) -> dict[str, Tensor]:
        if self.supervisions is None:
            raise ValueError(
                "this detector has nothing that teaches it; give model.supervisions, or call "
                "eval() first"
            )
        memory, masks = self.encode(images.tensor, images.image_sizes)
        instances = [item["instances"].to(self.device) for item in batched_inputs]
        targets = Targets.from_instances(
            instances, memory.dtype, with_masks=masks is not None, num_boxes=num_boxes
        )
        queries, proposals = self.queries(memory)
        sizes = tuple(images.image_sizes)
        context = SourceContext(memory, targets, self.queries, queries, proposals, sizes)
        extra = self.supervisions.extra_queries(context)
        states = self.decoder(joined(queries, extra), memory, self.heads)
        states = replace(states, masks=masks)
        return self.supervisions(by_group(states, proposals, self.heads, extra), targets)

    def predict(self, states: DecoderStates) -> LayerPredictions:
        """Predictions of the last layer."""
        last = len(states.references) - 1
        output = states.taps["output"][last]
        predictions = self.heads(output, states.references[last], last)
        return replace(predictions, masks=states.masks_of(output, predictions.boxes_BN4))

    @staticmethod
    def output_size(item: dict) -> tuple[int, int]:
        """(height, width) that the detections are wanted in: by default that of the input."""
        height, width = item["image"].shape[-2:]
        return item.get("height", height), item.get("width", width)


def batch_masks(
    mask_head: MaskHead,
    features: dict[str, Tensor],
    memory: FeaturePyramid,
    image_sizes: list[tuple[int, int]],
    padded: tuple[int, int],
) -> BatchMasks:
    """What masks are made of; sizes, also the one that images are padded to, as (height, width)."""
    extents = [(width / padded[1], height / padded[0]) for height, width in image_sizes]
    extent_B2 = torch.tensor(extents, dtype=memory.dtype, device=memory.tokens_BSC.device)
    return BatchMasks(mask_head, mask_head.pixels(features, memory), extent_B2)


def check_maps(key: str, wanted: dict[str, int], offered: dict[str, int]) -> None:
    """Raises ValueError unless the backbone offers the maps that ``key`` wants."""
    if not wanted.items() <= offered.items():
        raise ValueError(
            f"{key}.in_channels {wanted} does not fit the backbone's maps {offered}; name maps of "
            "the backbone with their channels"
        )


def check_adapter(
    supervisions: SupervisionSet, neck: ChannelMapper | SingleLevelNeck, backbone: Backbone
) -> None:
    """Raises ValueError unless an adapter for auxiliary heads expects the levels of the neck."""
    if supervisions.adapter is None:
        return
    shapes = backbone.output_shape()
    strides = [shapes[name].stride for name in neck.in_channels]
    while len(strides) < neck.num_levels:
        strides.append(2 * strides[-1])
    expected = list(supervisions.adapter.memory_strides)
    if strides != expected:
        raise ValueError(
            f"model.supervisions.adapter.strides {list(supervisions.adapter.strides)} are for a "
            f"memory with levels of stride {expected}, but those of model.neck have {strides}; "
            "change either"
        )


def check_masks_are_taught(mask_head: MaskHead | None, supervisions: SupervisionSet) -> None:
    """Raises ValueError if there is a mask head that nothing teaches, or nothing to teach."""
    if mask_head is None and supervisions.teaches_masks():
        raise ValueError(
            "a supervision has mask losses, but model.mask_head is null; give the detector a mask "
            "head, or set model.supervisions.NAME.masks=null"
        )
    if mask_head is not None and not supervisions.teaches_masks():
        raise ValueError(
            "model.mask_head is taught by no supervision; give one of them mask losses, as "
            "configs/common/mask_head.py does, or set model.mask_head=null"
        )
