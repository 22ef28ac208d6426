"""Ground truth, collected once a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from detectron2.structures import Instances
from torch import Tensor
from torchvision.ops import box_convert

from .masks import ObjectMasks


def send(indices: Tensor, device: torch.device) -> Tensor:
    """Indices made on the host, on the device; the host does not wait for the copy.

    From pinned memory it is queued like a kernel; from other memory it would be waited for.
    """
    if device.type == "cuda":
        indices = indices.pin_memory()
    return indices.to(device, non_blocking=True)


def count_boxes(here: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The normaliser of the published losses: objects per process, on average.

    Without any object it is that of one: not 1 for each process, as in the published code, which
    makes an update of several processes with fewer objects than processes smaller than the same
    update of one process.

    Args:
        here: number of objects of this process.
        dtype: of the result.
        device: of the result, a scalar; for a GPU the host does not wait for it.
    """
    num_boxes = torch.full((), here, dtype=dtype, device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(num_boxes)
        return num_boxes.clamp(min=1) / torch.distributed.get_world_size()
    return num_boxes.clamp(min=1)


@dataclass(frozen=True)
class Targets:
    """Ground truth of one batch, flattened over its images.

    Attributes:
        labels_G: class index of every object, int64.
        boxes_G4: its box (cx, cy, w, h).
        counts: number of objects of every image; objects of one image are neighbours in G.
        num_boxes: (), number of objects of all processes (at least 1) by that of processes: the
            normaliser of the published losses, see :func:`count_boxes`.
        masks: the masks of the objects; None where nothing is taught masks.
        image_G: image of every object, int64; made from ``counts``.
    """

    labels_G: Tensor
    boxes_G4: Tensor
    counts: tuple[int, ...]
    num_boxes: Tensor
    masks: ObjectMasks | None = None
    image_G: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made here, once a batch, so that assigners have nothing to bring to the device.
        count_B = torch.tensor(self.counts, dtype=torch.int64)
        image_G = torch.arange(len(self.counts)).repeat_interleave(count_B)
        object.__setattr__(self, "image_G", send(image_G, self.labels_G.device))

    @classmethod
    def from_instances(
        cls,
        instances: Sequence[Instances],
        dtype: torch.dtype = torch.float32,
        *,
        with_masks: bool = False,
        num_boxes: Tensor | None = None,
    ) -> Targets:
        """Collect ``gt_boxes`` and ``gt_classes`` of detectron2 Instances, one per image.

        Args:
            instances: of every image.
            dtype: of the boxes.
            with_masks: collect ``gt_masks`` as well.
            num_boxes: (), the normaliser where these images are only a part of an update; None
                counts it, which takes a reduction over all processes.
        """
        boxes = []
        for image in instances:
            height, width = image.image_size
            xyxy = image.gt_boxes.tensor.to(dtype)
            boxes.append(box_convert(xyxy / xyxy.new_tensor([width, height] * 2), "xyxy", "cxcywh"))
        labels = torch.cat([image.gt_classes for image in instances])
        if num_boxes is None:
            num_boxes = count_boxes(len(labels), dtype, labels.device)
        masks = ObjectMasks.from_instances(instances) if with_masks else None
        counts = tuple(map(len, instances))
        return cls(labels, torch.cat(boxes), counts, num_boxes.to(dtype), masks)

    def as_objectness(self) -> Targets:
        """The same objects, all of class 0."""
        return replace(self, labels_G=torch.zeros_like(self.labels_G))

    def repeated(self, times: int, counts: tuple[int, ...]) -> tuple[Targets, Tensor]:
        """The objects of every image, ``times`` times one after the other.

        Three objects in two images, twice: 0, 1, 0, 1, 2, 2.

        Args:
            times: how often.
            counts: of the result: the repeated objects may be those of one image, or of several.

        Returns:
            the repeated objects, and which of the objects each is, (times * G,).
        """
        rows = torch.arange(sum(self.counts)).split(self.counts)
        object_P = send(torch.cat([row.repeat(times) for row in rows]), self.labels_G.device)
        repeated = Targets(
            labels_G=self.labels_G[object_P],
            boxes_G4=self.boxes_G4[object_P],
            counts=counts,
            num_boxes=self.num_boxes * times,
            masks=None if self.masks is None else self.masks.select(object_P),
        )
        return repeated, object_P
