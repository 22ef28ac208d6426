"""Which config of ``configs/`` builds a converted model, and whether it fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ..config import load_config
from ..engine.build import build
from .converter import Converted
from .errors import CheckpointError
from .layout import Layout
from .official_run import RESNET_DEPTHS
from .settings import flag, whole_number


@dataclass(frozen=True)
class Recipe:
    """A config file with overrides.

    Attributes:
        config: path of the config, None if none of ``configs/`` has such a model.
        model: name of the model's config below ``configs/models``.
        overrides: of ``train_net.py``.
        remarks: what the config cannot say, one sentence each.
    """

    config: Path | None
    model: str
    overrides: tuple[str, ...]
    remarks: tuple[str, ...]


def find_recipe(
    converted: Converted, args: Mapping[str, Any] | None, configs: Path, family: str
) -> Recipe:
    """The config that fits a model converted to ours.

    The order of attentions in a decoder layer is not in the weights: MS-DETR's own depends on the
    family and, where the checkpoint tells it, on the option ``use_ms_detr``.

    Args:
        converted: result of :func:`~ms_detr.convert.to_ours`.
        args: options that the official model was trained with; None if unknown.
        configs: the folder ``configs``.
        family: name of the family.

    Raises:
        CheckpointError: an option is not of its kind.
    """
    args = args or {}
    mixed = family == "ms-detr" and flag(args, "use_ms_detr") is not False
    model = _model_name(converted.layout, mixed)
    queries = _count_queries(converted.state, args)
    config = _find_config(configs, model, mixed, queries, whole_number(args, "epochs"))
    remarks = _remarks(args, family)
    if config is None:
        return Recipe(None, model, (), remarks)
    overrides = _overrides(load_config(config), converted, args, queries)
    return Recipe(config, model, overrides, remarks)


def check_fits(config: str | Path, overrides: list[str], state: Mapping[str, Tensor]) -> None:
    """Build the model of a config, without memory for its weights, and compare names and shapes.

    Raises:
        CheckpointError: names are missing or unknown, or shapes differ; all are listed.
        ConfigError: the config cannot be used.
    """
    cfg = load_config(str(config), overrides)
    with torch.device("meta"):
        wanted = {key: tuple(v.shape) for key, v in build(cfg.model, "model").state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    lines = [f"{key}: only in the config's model, {wanted[key]}" for key in wanted.keys() - found]
    lines += [f"{key}: only in the checkpoint, {found[key]}" for key in found.keys() - wanted]
    lines += [
        f"{key}: {wanted[key]} in the config's model, {found[key]} in the checkpoint"
        for key in wanted.keys() & found
        if wanted[key] != found[key]
    ]
    if lines:
        raise CheckpointError(
            f"the checkpoint does not fit the model of {config} ({len(lines)} differences):\n    "
            + "\n    ".join(sorted(lines))
        )


def _model_name(layout: Layout, mixed: bool) -> str:
    name = "ms_detr" if mixed else "deformable_detr"
    if not layout.two_stage:
        return f"{name}_one_stage" + ("" if layout.refined else "_fixed")
    name += "_pp" if layout.learned_queries else ""
    return name + ("_a" if mixed and layout.own_classes else "")


def _count_queries(state: Mapping[str, Tensor], args: Mapping[str, Any]) -> int:
    for key in ("queries.content.weight", "queries.embedding.weight"):
        if key in state:
            return len(state[key])
    given = whole_number(args, "num_queries_one2one") or whole_number(args, "num_queries")
    return given or 300


def _find_config(
    configs: Path, model: str, mixed: bool, queries: int, epochs: int | None
) -> Path | None:
    """The recipe of this model; best with as many queries, then with as many epochs."""
    pattern = re.compile(rf"{model}_r50_(\d+)q_(\d+)ep\.py")
    found = []
    for folder in ("ms_detr", "variants") if mixed else ("baselines",):
        for path in sorted((configs / folder).glob("*.py")):
            name = pattern.fullmatch(path.name)
            if name:
                distance = (int(name[1]) != queries, abs(int(name[2]) - (epochs or 0)))
                found.append((distance, path))
    return min(found)[1] if found else None


def _overrides(
    cfg: DictConfig, converted: Converted, args: Mapping[str, Any], queries: int
) -> tuple[str, ...]:
    """Overrides for every size in which the checkpoint differs from the config."""
    state, layout = converted.state, converted.layout
    wanted = {
        "model.queries.num_queries": queries,
        "model.neck.embed_dim": len(state["encoder.level_embed"][0]),
        "model.encoder.num_layers": layout.encoder_layers,
        "model.encoder.feedforward_dim": len(state["decoder.layers.0.feed_forward.linear1.weight"]),
        "model.encoder.num_heads": whole_number(args, "nheads"),
        "model.encoder.num_points": whole_number(args, "enc_n_points"),
        "model.decoder.num_layers": layout.decoder_layers,
        "model.decoder.layer.num_heads": whole_number(args, "nheads"),
        "model.decoder.layer.num_points": whole_number(args, "dec_n_points"),
        "model.heads.num_classes": len(state["heads.class_heads.0.weight"]),
        "model.backbone.stages.depth": RESNET_DEPTHS.get(layout.backbone.blocks),
        "model.postprocess.num_detections": whole_number(args, "topk_eval")
        or whole_number(args, "topk"),
    }
    outputs = state.get("queries.proposals.class_head.weight")
    if outputs is not None and len(outputs) != wanted["model.heads.num_classes"]:
        wanted["model.queries.proposals.num_outputs"] = len(outputs)
    changed = [
        f"{key}={value}"
        for key, value in wanted.items()
        if value is not None and OmegaConf.select(cfg, key) != value
    ]
    levels = layout.maps + layout.extra_levels
    if levels != cfg.model.neck.num_levels:
        changed.append(f"model.neck.num_levels={levels}")
    unused = list(cfg.model.neck.in_channels)[: -layout.maps]
    changed += [f"~model.neck.in_channels.{name}" for name in unused]
    if "mixed" in cfg.model.supervisions:
        branch = cfg.model.supervisions.mixed.get("branch")
        if branch is not None and not layout.auxiliary:
            changed.append("model.supervisions.mixed.branch=null")
    return tuple(changed)


def _remarks(args: Mapping[str, Any], family: str) -> tuple[str, ...]:
    remarks = []
    if family == "ms-detr" and args.get("use_ms_detr") is None:
        remarks.append(
            "the checkpoint does not say its options; cross-attention first is assumed, as in all "
            "released models but (a). If it is a Deformable-DETR baseline, use "
            "--from deformable-detr or h-detr"
        )
    if args.get("dilation"):
        remarks.append("trained with a dilated last stage (DC5), which no config here has")
    if args.get("masks"):
        remarks.append("trained with a mask head, of which nothing is converted")
    return tuple(remarks)
