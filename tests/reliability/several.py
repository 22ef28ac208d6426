"""What the tests of several processes run: small models on batches that are divided in two.

As a script it is one run of our launcher: ``python several.py --num-gpus 2 FOLDER [RANK]``; each
process leaves what it found in ``FOLDER/<rank>.pt``. At the end process RANK finds a wrong input.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import torch  # noqa: E402
from detectron2.config import LazyConfig, instantiate  # noqa: E402
from detectron2.data import (  # noqa: E402
    DatasetMapper,
    build_detection_test_loader,
)
from detectron2.engine.defaults import create_ddp_model  # noqa: E402
from detectron2.evaluation import inference_on_dataset  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from detectron2.utils import comm  # noqa: E402
from small_models import CONFIGS, item, load, shrink  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from ms_detr.data import checked_dataset_dicts, register_coco_json  # noqa: E402
from ms_detr.engine import argument_parser, launch  # noqa: E402
from ms_detr.engine.evaluate import share_buffers  # noqa: E402
from ms_detr.errors import ConfigError  # noqa: E402
from ms_detr.evaluation import CocoEvaluator  # noqa: E402
from ms_detr.losses import UncertainPoints  # noqa: E402
from ms_detr.supervision.sources import NoisedBoxes  # noqa: E402

add_heads = LazyConfig.load(
    str(CONFIGS / "common/supervision/collaborative.py"), "add_collaborative"
)
# Without what depends on a process's own batch: noise that is drawn, blocks by number of objects.
MODELS = {
    "ms_detr": "ms_detr/ms_detr_r50_300q_12ep.py",
    "plain": "baselines/deformable_detr_r50_300q_12ep.py",
    "hybrid": "comparators/h_deformable_detr_r50_300q_12ep.py",
    "group": "comparators/group_deformable_detr_r50_300q_12ep.py",
    "dn": "comparators/dn_deformable_detr_pp_r50_300q_12ep.py",
    "masks": "mask/ms_detr_mask_r50_12ep.py",
    "co": "collaborative/co_deformable_detr_pp_atss_rcnn_positives_r50_300q_12ep.py",
    "co_rcnn": "collaborative/co_deformable_detr_pp_atss_rcnn_positives_r50_300q_12ep.py",
}
# Objects of four images; the first half is the batch of the first of two processes.
BATCHES = {
    "usual": (3, 2, 1, 3),
    "empty": (3, 2, 0, 0),
    "alone": (0, 0, 0, 1),
    "none": (0, 0, 0, 0),
    "thousand": (0, 2, 1000, 3),
}
# DN and Co-DETR fill up the queries of an image to the largest number of a batch, and so know it.
FILLED = ("dn", "co", "co_rcnn")
INEXACT = {("dn", "empty"), ("co", "usual")}
INEXACT |= {("co_rcnn", batch) for batch in ("usual", "empty", "none")}  # regions are drawn
NUM_IMAGES = (1, 5)  # of the data sets that are evaluated


class ShrunkBoxes(NoisedBoxes):
    """The same noise for all boxes; without any, the L1 loss would be where it has no slope."""

    def noisy_boxes(self, boxes_P4: Tensor, extra_P: Tensor) -> Tensor:
        return boxes_P4 * 0.9


class Grid(UncertainPoints):
    """The same points for all masks, so that nothing is drawn."""

    def __call__(self, logits_Phw: Tensor, extent_P2: Tensor) -> Tensor:
        line = (torch.arange(10, dtype=logits_Phw.dtype) + 0.5) / 10
        return torch.cartesian_prod(line, line).expand(len(logits_Phw), -1, -1)


def all_heads_that_draw_nothing(node) -> None:
    """Put every other auxiliary head in the place of Faster R-CNN, whose regions are drawn."""
    selection = node.supervisions.atss.source.selection
    del node.supervisions.faster_rcnn
    add_heads(node, "paa", "retinanet", "fcos", "gfl")
    for name in ("paa", "retinanet", "fcos", "gfl"):
        node.supervisions[name].source.selection = selection


def model_of(name: str) -> nn.Module:
    """A small model in float64, with the same weights wherever it is made."""
    node = load(MODELS[name]).model
    if name == "co":
        all_heads_that_draw_nothing(node)
    node = shrink(node)
    node.encoder.dropout = 0.0
    for part in (node.backbone.stem, *node.backbone.stages):
        part.norm = "FrozenBN"  # as in the published models; batch norm knows its batch
    if name == "dn":
        node.supervisions.denoising.source.update(_target_=ShrunkBoxes, flip_probability=0.0)
    torch.manual_seed(0)
    model = instantiate(node).double().train()
    for _, supervision in model.supervisions.named():
        if supervision.masks is not None:
            supervision.masks.points = Grid()
    return model


def images_of(batch: str) -> list[dict]:
    """Four images of one size."""
    return [item(48, 64, count, seed=seed) for seed, count in enumerate(BATCHES[batch])]


def learn(model: nn.Module, images: list[dict]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses and gradients of a batch, by name."""
    model.zero_grad(set_to_none=True)
    losses = model(images)
    torch.stack(list(losses.values())).sum().backward()
    names = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    found = {name: grad.clone() for name, grad in names.items() if grad is not None}
    return {name: loss.detach() for name, loss in losses.items()}, found


def cases() -> list[tuple[str, str]]:
    """Models and their batches; a thousand denoised objects or masks would only take long."""
    every = [("ms_detr", batch) for batch in BATCHES]
    every += [(model, batch) for model in list(MODELS)[1:] for batch in ("usual", "empty")]
    every += [(model, "none") for model in ("dn", "masks", "co", "co_rcnn")]
    return every + [("hybrid", "thousand"), ("masks", "alone"), ("co", "alone")]


class Known(nn.Module):
    """Detects the true boxes of a json, each moved by a pixel more than the one before."""

    def __init__(self, json_file: Path) -> None:
        super().__init__()
        self.true: dict[int, list[float]] = {}
        for entry in json.loads(json_file.read_text())["annotations"]:
            x, y, width, height = entry["bbox"]
            self.true[entry["image_id"]] = [x, y, x + width, y + height]

    def forward(self, batch: list[dict]) -> list[dict]:
        return [self._instances(image) for image in batch]

    def _instances(self, image: dict) -> dict:
        number = image["image_id"]
        found = Instances((image["height"], image["width"]))
        boxes = [self.true[number]] if number in self.true else [[0, 0, 9, 9]]
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32) + number)
        found.scores = torch.tensor([1 / (1 + number)])
        found.pred_classes = torch.tensor([number % 2])
        return {"instances": found}


def evaluate(folder: Path, count: int) -> tuple[dict, list[dict]]:
    """Results of ``count`` images, and on the first process the detections that were scored."""
    scenes = folder / f"scenes{count}"
    name = register_coco_json(
        name=f"scenes{count}", json_file=str(scenes / "scenes.json"), image_root=str(scenes)
    )
    loader = build_detection_test_loader(
        dataset=checked_dataset_dicts(names=name),
        mapper=DatasetMapper(is_train=False, augmentations=[], image_format="RGB"),
        num_workers=0,
    )
    out = folder / f"out{comm.get_world_size()}_{count}"
    evaluator = CocoEvaluator(name, output_dir=str(out))
    results = inference_on_dataset(Known(scenes / "scenes.json"), loader, evaluator)
    file = out / "coco_instances_results.json"
    return dict(results or {}), json.loads(file.read_text()) if comm.is_main_process() else []


def on_cpu(args: argparse.Namespace) -> torch.device:
    """Where the processes compute, also on a machine with a GPU."""
    return torch.device("cpu")


def main(args: argparse.Namespace) -> None:
    """Everything that a pair of processes is asked; each takes its half of every batch."""
    torch.set_num_threads(1)
    folder, rank, size = Path(args.opts[0]), comm.get_rank(), comm.get_world_size()
    found: dict = {"place": (rank, comm.get_local_rank(), size, comm.get_local_size())}
    for name in MODELS:
        model = create_ddp_model(model_of(name), device_ids=None, broadcast_buffers=False)
        for batch in (batch for known, batch in cases() if known == name):
            images, share = images_of(batch), 4 // size
            found[name, batch] = learn(model, images[rank * share : (rank + 1) * share])
    norm = nn.BatchNorm1d(3)
    norm.running_mean.fill_(rank + 1)
    share_buffers(norm)
    found["running mean"] = norm.running_mean
    found["evaluation"] = {count: evaluate(folder, count) for count in NUM_IMAGES}
    torch.save(found, folder / f"{rank}.pt")
    if [str(rank)] == args.opts[1:]:
        raise ConfigError("this value is wrong")
    comm.synchronize()


if __name__ == "__main__":
    sys.exit(launch(main, argument_parser().parse_args(), on_cpu))
