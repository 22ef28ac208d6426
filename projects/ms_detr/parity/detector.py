"""The config that a recorded case asks for."""

from __future__ import annotations

from pathlib import Path

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from omegaconf import DictConfig

from ..assigners import FocalCost, OverrideByOneToMany
from ..heads import NMSDetections
from ..supervision import PredictedProposalSupervision
from .case import CaseError, GoldenCase

TERMS = {"class": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
ENDINGS = {"one_to_one": "", "mixed": "_o2m", "proposals": "_enc"}

# (two stages, box refinement, mixed selection, look forward twice) -> file, without supervision
DETECTORS = {
    (True, True, False, False): "deformable_detr",
    (True, True, True, True): "deformable_detr_pp",
    (False, True, False, False): "deformable_detr_one_stage",
    (False, False, False, False): "deformable_detr_one_stage_fixed",
}
FLAGS = ("two_stage", "with_box_refine", "mixed_selection", "look_forward_twice")


# Options of the official code that no config here has, with the value that they must have.
NEEDED = {
    "backbone": "resnet50",
    "dilation": False,
    "position_embedding": "sine",
    "masks": False,
    "aux_loss": True,
}


def model_config(case: GoldenCase, configs: Path) -> DictConfig:
    """The model of a case: one of ``configs/models``, with the sizes and settings of the case.

    Raises:
        CaseError: the case is about a model that no config describes.
    """
    for name, value in NEEDED.items():
        if case.args[name] != value:
            raise CaseError(
                f"{case.name}: {name} is {case.args[name]!r}, but only {value!r} is implemented"
            )
    flags = tuple(bool(case.args.get(flag)) for flag in FLAGS)
    if flags not in DETECTORS:
        stated = ", ".join(f"{name}={value}" for name, value in zip(FLAGS, flags))
        raise CaseError(f"{case.name}: configs/models has no model with {stated}")
    name = DETECTORS[flags]
    if case.args.get("use_ms_detr"):
        name = name.replace("deformable_detr", "ms_detr")
        name += "_a" if case.has_own_class_heads else ""
    path = configs / "models" / f"{name}.py"
    if not path.is_file():
        raise CaseError(f"{case.name}: configs/models has no {name}.py")
    model = LazyConfig.load(str(path)).model
    _set_sizes(model, case)
    _set_costs_and_weights(model, case)
    if case.args.get("use_ms_detr"):
        _set_mixed(model, case)
    return model


def _set_sizes(model: DictConfig, case: GoldenCase) -> None:
    args = case.args
    model.neck.update(embed_dim=args["hidden_dim"], num_levels=args["num_feature_levels"])
    model.encoder.update(
        num_layers=args["enc_layers"],
        feedforward_dim=args["dim_feedforward"],
        dropout=args["dropout"],
        num_heads=args["nheads"],
        num_points=args["enc_n_points"],
    )
    model.decoder.num_layers = args["dec_layers"]
    model.decoder.layer.update(num_heads=args["nheads"], num_points=args["dec_n_points"])
    model.queries.num_queries = args["num_queries"]
    model.heads.num_classes = case.num_classes
    model.postprocess.num_detections = args["topk_eval"]
    if args["nms_iou_threshold"] is not None:
        model.postprocess = L(NMSDetections)(
            num_detections=args["topk_eval"], iou_threshold=args["nms_iou_threshold"]
        )


def _set_costs_and_weights(model: DictConfig, case: GoldenCase) -> None:
    criterion = case.facts["criterion"]
    for name, matcher in (("one_to_one", "matcher"), ("proposals", "enc_matcher")):
        if name not in model.supervisions:
            continue
        costs = model.supervisions[name].assigner.costs
        for cost, weight in zip(("class", "l1", "giou"), criterion[matcher]):
            if cost in costs:
                costs[cost].weight = float(weight)
            elif weight:
                costs[cost] = L(FocalCost)(weight=float(weight))
    if "proposals" in model.supervisions and not criterion["use_anchors_enc_match"]:
        model.supervisions.proposals._target_ = PredictedProposalSupervision
    for name in model.supervisions.keys() & ENDINGS.keys():
        supervision = model.supervisions[name]
        for term, key in TERMS.items():
            weight = case.facts["weight_dict"][key + ENDINGS[name]]
            supervision.terms[term].weight = float(weight)
        supervision.terms["class"].alpha = criterion["focal_alpha"]


def _set_mixed(model: DictConfig, case: GoldenCase) -> None:
    mixed, criterion = model.supervisions.mixed, case.facts["criterion"]
    if abs(criterion["o2m_coef_box"] + criterion["o2m_coef_cls"] - 1) > 1e-12:
        raise CaseError(f"{case.name}: o2m_coef_box and o2m_coef_cls must sum to 1")
    if not case.args["use_aux_ffn"]:
        mixed.branch = None
    mixed.assigner.update(
        k=criterion["o2m_k"],
        threshold=criterion["o2m_threshold"],
        alpha=criterion["o2m_coef_cls"],
    )
    if criterion["use_indices_merge"]:
        mixed.merge = L(OverrideByOneToMany)(source="one_to_one")
