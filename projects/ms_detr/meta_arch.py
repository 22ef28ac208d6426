"""The detector: images in, losses or detections out."""

from __future__ import annotations

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn

from .decoder import Decoder
from .encoder import ChannelMapper, DeformableEncoder, DenseEncoder, SingleLevelNeck
from .heads import Postprocess, PredictionHeads
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
    ):
        super().__init__()
        offered = {name: spec.channels for name, spec in backbone.output_shape().items()}
        if not neck.in_channels.items() <= offered.items():
            raise ValueError(
                f"model.neck.in_channels {neck.in_channels} does not fit the backbone's maps "
                f"{offered}; name maps of the backbone with their channels"
            )
        check_layers("model.heads", heads.class_heads, len(decoder.layers))
        if supervisions is not None:
            supervisions.check_fit(heads.num_classes, len(decoder.layers))
        self.backbone = backbone
        self.neck = neck
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.heads = heads
        self.postprocess = postprocess
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

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """Train or detect.

        Args:
            batched_inputs: detectron2's standard format; per image "image" (3, H, W), in training
                "instances" with gt_boxes and gt_classes, at inference optionally "height" and
                "width" of the wanted output.

        Returns:
            In training weighted losses by "<supervision>/<layer>/<term>", whose sum is the
            objective; at inference one {"instances": Instances} per image with pred_boxes, scores
            and pred_classes, best score first.
        """
        images = self.preprocess(batched_inputs)
        if self.training:
            return self._losses(images, batched_inputs)
        states, _ = self.detect(images.tensor, images.image_sizes)
        sizes = [self._output_size(item) for item in batched_inputs]
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
        memory = self.encode(images_B3HW, image_sizes)
        queries, proposals = self.queries(memory)
        return self.decoder(queries, memory, self.heads), proposals

    def encode(self, images_B3HW: Tensor, image_sizes: list[tuple[int, int]]) -> FeaturePyramid:
        """Normalised, padded images to memory."""
        maps = self.neck(self.backbone(images_B3HW))
        return self.encoder(maps, padding_mask(image_sizes, images_B3HW))

    def _losses(self, images: ImageList, batched_inputs: list[dict]) -> dict[str, Tensor]:
        if self.supervisions is None:
            raise ValueError(
                "this detector has nothing that teaches it; give model.supervisions, or call "
                "eval() first"
            )
        memory = self.encode(images.tensor, images.image_sizes)
        instances = [item["instances"].to(self.device) for item in batched_inputs]
        targets = Targets.from_instances(instances, memory.dtype)
        queries, proposals = self.queries(memory)
        context = SourceContext(memory, targets, self.queries, queries, proposals)
        extra = self.supervisions.extra_queries(context)
        states = self.decoder(joined(queries, extra), memory, self.heads)
        return self.supervisions(by_group(states, proposals, self.heads, extra), targets)

    def predict(self, states: DecoderStates) -> LayerPredictions:
        """Predictions of the last layer."""
        last = len(states.references) - 1
        return self.heads(states.taps["output"][last], states.references[last], last)

    @staticmethod
    def _output_size(item: dict) -> tuple[int, int]:
        """(height, width) that the detections are wanted in: by default that of the input."""
        height, width = item["image"].shape[-2:]
        return item.get("height", height), item.get("width", width)
