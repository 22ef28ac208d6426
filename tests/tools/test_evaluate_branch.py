"""Auxiliary heads evaluated by the command line, beside the decoder."""

import importlib
import json
import math
import re
import sys

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from supervision.small_heads import CentreHead

from ms_detr.config import load_config
from ms_detr.data import generate_shapes
from ms_detr.engine import do_test
from ms_detr.heads import NMSDetections
from ms_detr.supervision import Supervision
from ms_detr.supervision.auxiliary import BranchDetector, CoarserLevel
from ms_detr.supervision.sources import (
    CollaborativeQueries,
    FeatureEmbedding,
    PositionedBoxEmbedding,
    PositivesOnly,
)


@pytest.fixture(scope="module")
def tool(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "tools"))
        yield importlib.import_module("evaluate_branch")
        for name in ("evaluate_branch", "visualize"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    generate_shapes(folder, num_train=1, num_val=3)
    forget_shapes()
    yield folder
    forget_shapes()


def forget_shapes():
    """Other tests register scenes of their own under the same names."""
    for name in {"shapes_train", "shapes_val"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def entry():
    source = L(CollaborativeQueries)(
        head=L(CentreHead)(num_classes=5, strides=[4, 8, 16, 32], embed_dim=128),
        selection=L(PositivesOnly)(),
        boxes=L(PositionedBoxEmbedding)(embed_dim=128),
        features=L(FeatureEmbedding)(embed_dim=128),
        num_layers=2,
    )
    return L(Supervision)(source=source, assigner=None, terms="${..one_to_one.terms}")


@pytest.fixture(scope="module")
def config_file(repository, scenes, tmp_path_factory):
    """config.yaml of a small collaborative detector with two heads."""
    cfg = load_config(repository / "configs/demo/shapes.py", [f"dataset.root={scenes}"])
    strides = [4, 8, 16, 32]
    cfg.model.supervisions.adapter = L(CoarserLevel)(embed_dim=128, strides=strides)
    cfg.model.supervisions.one, cfg.model.supervisions.other = entry(), entry()
    cfg.train.device = "cpu"
    path = tmp_path_factory.mktemp("run") / "config.yaml"
    cfg.train.output_dir = str(path.parent)
    LazyConfig.save(cfg, str(path))
    return path


@pytest.fixture(scope="module")
def weights(config_file):
    """The last checkpoint of the run."""
    torch.manual_seed(0)
    model = instantiate(load_config(config_file, []).model)
    with torch.no_grad():
        for name in ("one", "other"):
            model.supervisions[name].source.head.tower.classes.weight.normal_(std=0.05)
    path = config_file.parent / "model_0000001.pth"
    torch.save({"model": model.state_dict()}, path)
    (config_file.parent / "last_checkpoint").write_text(path.name)
    return path


def test_every_branch_is_a_row_beside_the_decoder(tool, config_file, weights, capsys):
    assert tool.main(["--config-file", str(config_file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("|")]
    assert [row[0].strip() for row in rows[2:]] == ["decoder", "one", "other"]
    assert [name.strip() for name in rows[0][1:]] == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    written = json.loads((config_file.parent / "branches.json").read_text())
    assert lines[-1] == str(config_file.parent / "branches.json")
    assert written["weights"] == str(weights)
    assert written["nms"] == {"num_detections": 100, "iou_threshold": 0.6}
    assert list(written["metrics"]) == ["decoder", "one", "other"]
    cfg = load_config(config_file, [])
    model = instantiate(cfg.model).eval()
    model.load_state_dict(torch.load(weights, weights_only=True)["model"])
    for name, metrics in written["metrics"].items():
        detector = model
        if name != "decoder":
            detector = BranchDetector(model, name, NMSDetections(100, 0.6))
        wanted = do_test(cfg, detector)["bbox"]
        assert len(metrics) == len(wanted) > 12
        for key, value in wanted.items():
            assert metrics[key] == (value if math.isfinite(value) else None)


def test_what_the_command_line_says_is_done(tool, config_file, weights, tmp_path, monkeypatch):
    seen = []

    def note(cfg, detector, loader):
        seen.append(detector)
        return {"bbox": {"AP": 50.0, "AP-circle": 3.0, "AR1": 2.0, "APl": float("nan")}}

    monkeypatch.setattr(tool, "do_test", note)
    torch.save(torch.load(weights, weights_only=True), tmp_path / "copy.pth")
    options = ["--branch", "other", "--branch", "other", "--weights", str(tmp_path / "copy.pth")]
    options += ["--iou-threshold", "0.5", "--num-detections", "7"]
    options += ["--output", str(tmp_path / "new" / "x.json")]
    assert tool.main(["--config-file", str(config_file), *options]) == 0
    decoder, branch = seen
    assert branch.name == "other" and branch.model is decoder
    assert (branch.postprocess.num_detections, branch.postprocess.iou_threshold) == (7, 0.5)
    written = json.loads((tmp_path / "new" / "x.json").read_text())
    assert written["weights"] == str(tmp_path / "copy.pth")
    assert written["metrics"]["other"] == {"AP": 50, "AP-circle": 3, "AR1": 2, "APl": None}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--branch", "atss"], "--branch atss: no such auxiliary head.* has one, other"),
        (["--iou-threshold", "2"], "iou_threshold must be in"),
        (["--num-detections", "0"], "num_detections must be at least 1"),
        (["--weights", "nowhere.pth"], "nowhere.pth does not exist"),
        (["dataloader.evaluator=null"], "no dataloader.test and dataloader.evaluator"),
        (["~model.supervisions.one", "~model.supervisions.other", "~model.supervisions.adapter"],
         "no such auxiliary head; model.supervisions has none"),
        (["model.supervisions=null"], "no such auxiliary head; model.supervisions has none"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(tool, config_file, weights, options, message, capsys):
    assert tool.main(["--config-file", str(config_file), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert re.search(message, error), error


def test_weights_without_the_heads_are_refused(tool, config_file, weights, tmp_path, capsys):
    """A deployed checkpoint has none: fresh heads would be evaluated in their place."""
    state = torch.load(weights, weights_only=True)["model"]
    for part, said in (("one.source.head.", "one.source.head"), ("adapter.", "adapter.down")):
        left = {k: v for k, v in state.items() if not k.startswith(f"supervisions.{part}")}
        torch.save({"model": left}, tmp_path / "left.pth")
        command = ["--config-file", str(config_file), "--weights", str(tmp_path / "left.pth")]
        assert tool.main(command) == 2
        assert f"the first is supervisions.{said}" in capsys.readouterr().err
