"""Our detector on the inputs of a recorded case, and what is compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.structures import ImageList
from torch import Tensor

from ..assigners import run_together
from ..convert import to_official, to_ours
from ..heads import NMSDetections, Postprocess
from ..meta_arch import MSDETR
from ..structures import Lesson
from ..structures.query_groups import PRIMARY
from ..supervision import TrainingOutputs
from .case import CaseError, GoldenCase
from .compare import Row, largest_difference, relative
from .detections import Detections, expected_detections
from .detector import ENDINGS, TERMS, model_config
from .gradients import compare_gradients

F64_TOLERANCE = 1e-9
FLOAT32_ROUNDING = 2**-24
# Both float32 runs err independently: ours may lie as far from float64 as the official one, and a
# little further by chance.
F32_FACTOR = 3.0
F32_UNSTATED = 1e-5
# Of the published evaluation, where it is asked for.
NMS_THRESHOLD = 0.7
# What the official code logs beside its losses, and we do not compute.
LOGGED = ("class_error", "cardinality_error")
GROUPS = {"one_to_one": "o2o", "mixed": "o2m"}


class ParityRun:
    """One case in one precision.

    Args:
        case: what was recorded.
        configs: the folder ``configs`` of the repository.
        precision: "f64" or "f32".
    """

    def __init__(self, case: GoldenCase, configs: Path, precision: str):
        self.case, self.precision = case, precision
        self.read: set[str] = set()
        self.dtype = {"f64": torch.float64, "f32": torch.float32}[precision]
        config = model_config(case, configs)
        self.model: MSDETR = instantiate(config)
        self.official_names = self._fill()
        self.model.to(self.dtype).eval()
        batch = ImageList.from_tensors([image.to(self.dtype) for image in case.images()])
        states, proposals = self.model.detect(batch.tensor, batch.image_sizes)
        self.image_sizes = batch.image_sizes
        self.outputs = TrainingOutputs(states, proposals, self.model.heads)

    def rows(self) -> Iterator[Row]:
        """All comparisons, one after the other."""
        yield from self.predictions()
        yield from self.proposals()
        yield from self.detections()
        for variant in self.case.facts["criterion_results"]:
            yield from self.supervision(variant)

    def predictions(self) -> Iterator[Row]:
        """References, class logits and boxes of all layers and both supervisions."""
        references = self.outputs.states.references
        if "init_reference.f64" in self.case.arrays:
            yield self._array("first references", references[0], "init_reference")
        yield self._array("references", torch.stack(references[1:]), "inter_references", slice(-1))
        for name, group in GROUPS.items():
            if name not in self.model.supervisions:
                continue
            layers = self.model.supervisions[name].predict(self.outputs)
            logits = torch.stack([layer.logits_BNK for layer in layers])
            boxes = torch.stack([layer.boxes_BN4 for layer in layers])
            yield self._array(f"{name} logits, every 10th", logits[..., ::10], f"{group}_logits10")
            yield self._rounded(f"{name} logits, all", logits, f"{group}_logits")
            yield self._array(f"{name} boxes", boxes, f"{group}_boxes")

    def proposals(self) -> Iterator[Row]:
        """Scores, boxes and anchors of the encoder's tokens, and which became queries."""
        proposals = self.outputs.proposals
        if proposals is None:
            return
        yield self._array("proposals scores", proposals.logits_BSK[..., 0], "enc_score")
        yield self._array("proposals boxes", proposals.boxes_BS4, "enc_boxes")
        yield self._array("proposals anchors", proposals.anchors_BS4, "enc_anchors")
        chosen = self.outputs.states.references[0]
        yield self._array("proposals chosen, in order", chosen, "enc_topk_boxes")
        index = torch.from_numpy(self._recorded("enc_topk.f64").astype(np.int64))
        logits = proposals.logits_BSK
        chosen = logits.gather(1, index[..., None].expand(-1, -1, logits.shape[-1]))
        yield self._rounded("proposals logits of the chosen", chosen, "enc_topk_logits")
        on_image = logits[torch.from_numpy(self._recorded("valid_mask"))].double()
        sums = self._recorded("enc_logits_valid.sum_abssum.f64")
        difference = largest_difference(torch.stack([on_image.sum(), on_image.abs().sum()]), sums)
        yield self._row(
            "proposals logits, sums", difference, self._tolerance("enc_logits_valid.abssum")
        )

    def detections(self) -> Iterator[Row]:
        """Detections as published, without and with suppression."""
        top = self.case.args["topk_eval"]
        yield from self._selected(
            "detections", self.model.postprocess, self.case.args["nms_iou_threshold"]
        )
        if self.precision == "f64":
            # In float32 two boxes may overlap by a little more or less than the threshold.
            with_nms = NMSDetections(num_detections=top, iou_threshold=NMS_THRESHOLD)
            yield from self._selected("detections after NMS", with_nms, NMS_THRESHOLD)

    def _selected(
        self, quantity: str, postprocess: Postprocess, threshold: float | None
    ) -> Iterator[Row]:
        found = postprocess(self.model.predict(self.outputs.states), self.image_sizes)
        ours = [Detections.from_instances(instances).ordered() for instances in found]
        expected = expected_detections(self.case, self.image_sizes, threshold)
        theirs = [detections.ordered() for detections in expected]
        wrong = sum(a.count_wrong_classes(b) for a, b in zip(ours, theirs, strict=True))
        yield self._row(f"{quantity}: classes", wrong, 0, "wrong")
        for name, recorded in (("scores", "o2o_logits"), ("boxes", "o2o_boxes")):
            difference = max(
                largest_difference(torch.from_numpy(getattr(a, name)), getattr(b, name))
                for a, b in zip(ours, theirs)
            )
            # Recorded logits were rounded to float32, and detectron2's Boxes are float32.
            tolerance = self._tolerance(recorded) + FLOAT32_ROUNDING
            yield self._row(f"{quantity}: {name}", difference, tolerance)

    def supervision(self, variant: str) -> Iterator[Row]:
        """Pairs, losses and gradients for one set of targets."""
        result = self.case.facts["criterion_results"][variant]
        targets = self.case.targets(variant, self.dtype)
        difference = relative(targets.num_boxes.item(), result["num_boxes"])
        yield self._row(f"{variant} normaliser", difference, 0, "relative")
        supervisions = self.model.supervisions
        lessons = supervisions.prepare({PRIMARY: self.outputs}, targets)
        for name, own in lessons.items():
            recorded = {"one_to_one": "o2o", "mixed": "o2m", "proposals": "enc"}[name]
            if supervisions[name].merge is not None:
                yield self._pairs(f"{variant} {name} merged", own, result["indices"]["merged"])
                alone = {name: supervisions[name].prepare(self.outputs, targets)}
                own = run_together(alone)[name]
            yield self._pairs(f"{variant} {name} pairs", own, result["indices"][recorded])
        losses = supervisions({PRIMARY: self.outputs}, targets)
        yield from self._losses(variant, losses, result)
        yield from compare_gradients(self, variant, losses)

    def _losses(self, variant: str, losses: dict[str, Tensor], result: dict) -> Iterator[Row]:
        official = result["losses"]["f64"]
        names = {self._official_loss(key): key for key in losses}
        logged = {name for name in official if name.startswith(LOGGED)}
        wrong = sorted(names.keys() ^ (official.keys() - logged))
        yield self._row(f"{variant} losses, names", len(wrong), 0, "wrong", ", ".join(wrong))
        differences = {
            key: relative(losses[key].item() / self._weight(key), official[name])
            for name, key in names.items()
            if name in official
        }
        tolerance = F64_TOLERANCE
        if self.precision == "f32":
            tolerance = F32_FACTOR * result["loss_max_rel_f32_f64"]
        for term in TERMS:
            of_term = {key: v for key, v in differences.items() if key.endswith("/" + term)}
            quantity = f"{variant} losses {term} ({len(of_term)})"
            worst = max(of_term, key=of_term.__getitem__, default="")
            yield self._row(quantity, of_term.get(worst, 0), tolerance, "relative", worst)
        totals = {"total": sum(losses.values())}
        if "total_boxes" in result:
            boxes = [loss for key, loss in losses.items() if not key.endswith("/class")]
            totals["total_boxes"] = sum(boxes)
        for name, ours in totals.items():
            difference = relative(ours.item(), result[name]["f64"])
            yield self._row(f"{variant} {name}", difference, tolerance, "relative")

    def unread(self) -> list[str]:
        """Recorded arrays that no row is about; probes only help to find where one starts."""
        read, names = (
            {name.split(".")[0].removesuffix("10") for name in some}
            for some in (self.read, self.case.arrays)
        )
        known = {"probe", "enc_logits_all", "valid_mask"}
        return sorted(name for name in names - read - known if not name.startswith("grad_"))

    def missing(self) -> list[str]:
        """Variants with objects whose gradients were not recorded."""
        return [
            f"gradients of {variant}"
            for variant, images in self.case.facts["targets"].items()
            if any(image["labels"] for image in images)
            and f"grad_{variant}.f64" not in self.case.arrays
        ]

    def _recorded(self, name: str) -> np.ndarray:
        self.read.add(name)
        return self.case.array(name)

    def _fill(self) -> dict[str, str]:
        """Load the official weights; return the official name of every tensor of ours."""
        shapes = self.case.shapes
        if shapes is None:
            official = to_official(self.model.state_dict(), classes="keep").state
            shapes = {key: tuple(tensor.shape) for key, tensor in official.items()}
        converted = to_ours(self.case.official_state(shapes), classes="keep")
        try:
            self.model.load_state_dict(converted.state, strict=True)
        except RuntimeError as error:
            message = f"{self.case.name}: the recorded keys are of another model: {error}"
            raise CaseError(message) from error
        return {pair.ours: pair.theirs[0] for pair in converted.pairs}

    def _pairs(self, quantity: str, lesson: Lesson, recorded: list) -> Row:
        wrong, where = abs(lesson.predictions.layers - len(recorded)), ""
        for layer, images in enumerate(recorded):
            for image, theirs in enumerate(images):
                ours = sorted(pairs_of(lesson, layer, image))
                difference = set(ours) ^ {tuple(pair) for pair in theirs}
                wrong += len(difference) or abs(len(ours) - len(theirs))
                where = where or (f"layer {layer}, image {image}" if difference else "")
        return self._row(quantity, wrong, 0, "wrong", where)

    def _array(self, quantity: str, ours: Tensor, name: str, part: slice = slice(None)) -> Row:
        theirs = self._recorded(f"{name}.f64")[part]
        return self._row(quantity, largest_difference(ours, theirs), self._tolerance(name))

    def _rounded(self, quantity: str, ours: Tensor, name: str) -> Row:
        """Against float64 values that were rounded to float32 when they were recorded."""
        theirs = self._recorded(f"{name}.f64r")
        tolerance = self._tolerance(name) + FLOAT32_ROUNDING
        return self._row(quantity, largest_difference(ours, theirs), tolerance)

    def _tolerance(self, name: str) -> float:
        if self.precision == "f64":
            return F64_TOLERANCE
        name = name.removesuffix("10")
        stated = self.case.facts["f32_vs_f64"].get(name)
        if stated is None:
            return F32_UNSTATED
        return F32_FACTOR * stated["max_abs"] / max(1.0, stated["max_abs_f64"])

    def _row(
        self,
        quantity: str,
        difference: float,
        tolerance: float,
        unit: str = "of scale",
        where: str = "",
    ) -> Row:
        return Row(self.case.name, self.precision, quantity, difference, tolerance, unit, where)

    def _weight(self, key: str) -> float:
        supervision, _, term = key.split("/")
        return self.model.supervisions[supervision].terms.terms[term].weight

    def _official_loss(self, key: str) -> str:
        supervision, layer, term = key.split("/")
        last = int(layer) == self.case.args["dec_layers"] - 1 or supervision == "proposals"
        return TERMS[term] + ("" if last else f"_{layer}") + ENDINGS[supervision]


def pairs_of(lesson: Lesson, layer: int, image: int) -> list[tuple[int, int]]:
    """(query, object) pairs of one image in one layer; objects are counted within the image."""
    index = layer * lesson.predictions.images + image
    assignment, first = lesson.assignment, sum(lesson.targets.counts[:index])
    of_image = assignment.valid_P & (assignment.image_P == index)
    query, target = assignment.query_P[of_image], assignment.target_P[of_image] - first
    return list(zip(query.tolist(), target.tolist()))
