"""A whole run: what it writes, how it resumes, and what it refuses."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

from ms_detr.config import apply_override
from ms_detr.data import register_coco_json
from ms_detr.data.errors import DatasetError
from ms_detr.engine import do_eval_only, do_train, setup
from ms_detr.errors import ConfigError, NonFiniteError

HERE = Path(__file__).resolve().parent


def read_metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def arguments(scenes: Path, out: Path, *more: str) -> argparse.Namespace:
    config = str(HERE / "tiny_config.py")
    given = ["--config-file", config, *more, f"dataset.root={scenes}", f"train.output_dir={out}"]
    return default_argument_parser().parse_args(given)


def test_a_run_writes_everything(scenes, tmp_path):
    out = tmp_path / "out"
    cfg = setup(arguments(scenes, out))
    results = do_train(cfg)
    assert results["bbox"]["AP"] == 6  # one detection for each image

    lines = read_metrics(out)
    steps = {line["iteration"]: line for line in lines if "total_loss" in line}
    assert set(steps) == {1, 3, 5, 7, 9, 11}  # every second iteration, counted from 0
    assert any("bbox/AP" in line for line in lines)
    for line in steps.values():
        assert {"one_to_one/0/class", "one_to_one/0/l1", "mixed/0/l1"} <= set(line)
        assert {"one_to_one", "mixed", "grad_norm", "lr", "data_time"} <= set(line)
    first = steps[1]
    assert first["mixed"] == pytest.approx(first["mixed/0/l1"])
    saved = json.loads((out / "results.json").read_text())
    assert saved == {"iteration": 12, "metrics": {"bbox": {"AP": 6.0, "APl": None}}}
    assert list(out.glob("events.out.tfevents.*"))
    kept = {path.name for path in out.glob("*.pth")}
    assert kept == {"model_0000003.pth", "model_0000007.pth", "model_0000011.pth",
                    "model_final.pth", "model_best.pth"}  # fmt: skip
    config = yaml.unsafe_load((out / "config.yaml").read_text())
    assert config["dataset"]["num_classes"] == 2
    assert config["dataset"]["class_names"] == ["dark", "light"]
    assert (out / "log.txt").exists()


def test_saved_config_runs_again(scenes, tmp_path):
    do_train(setup(arguments(scenes, tmp_path / "out", "train.max_iter=1")))
    again = default_argument_parser().parse_args(
        ["--config-file", str(tmp_path / "out" / "config.yaml"), "train.max_iter=2",
         f"train.output_dir={tmp_path / 'again'}"]
    )  # fmt: skip
    assert do_train(setup(again))["bbox"]["AP"] == 6


def test_loss_falls(tiny_config, tmp_path):
    do_train(tiny_config("train.max_iter=240", "train.eval_period=0"))
    losses = [line["total_loss"] for line in read_metrics(tmp_path / "out") if "total_loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_same_seed_same_losses(scenes, tmp_path):
    runs = []
    for name in ("a", "b"):
        do_train(setup(arguments(scenes, tmp_path / name, "train.max_iter=4")))
        runs.append([line.get("total_loss") for line in read_metrics(tmp_path / name)])
    assert runs[0] == runs[1]


def test_resume_continues(tiny_config, tmp_path):
    """Iteration, learning rate and optimizer state go on, across the drop of the rate."""
    do_train(tiny_config("train.max_iter=12"))
    out = tmp_path / "out"
    (out / "last_checkpoint").write_text("model_0000007.pth")
    (out / "metrics.json").unlink()
    do_train(tiny_config("train.max_iter=12"), resume=True)
    lines = [line for line in read_metrics(out) if "lr" in line]
    # Iteration 7 had not written its line when its checkpoint was saved.
    assert [line["iteration"] for line in lines] == [7, 9, 11]
    # 11 of 12 epochs at the full rate, the rest at a tenth of it.
    assert [line["lr"] for line in lines] == pytest.approx([1e-2, 1e-2, 1e-3])
    state = torch.load(out / "model_final.pth", weights_only=True)["trainer"]
    assert state["iteration"] == 11
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {12}


def test_resume_of_a_finished_run_only_evaluates(tiny_config, tmp_path):
    do_train(tiny_config("train.max_iter=4"))
    before = (tmp_path / "out" / "model_final.pth").read_bytes()
    results = do_train(tiny_config("train.max_iter=4"), resume=True)
    assert results["bbox"]["AP"] == 6
    assert (tmp_path / "out" / "model_final.pth").read_bytes() == before


def test_resume_says_that_another_learning_rate_is_not_taken(tiny_config, caplog):
    do_train(tiny_config("train.max_iter=4"))
    do_train(tiny_config("train.max_iter=6", "optimizer.lr=0.5"), resume=True)
    assert "learning rates" in caplog.text


def test_a_new_run_keeps_the_old_metrics(tiny_config, tmp_path):
    do_train(tiny_config("train.max_iter=4"))
    do_train(tiny_config("train.max_iter=2"))
    assert len(read_metrics(tmp_path / "out")) < 4
    assert (tmp_path / "out" / "metrics.1.json").exists()


def test_evaluates_given_weights(tiny_config, tmp_path):
    do_train(tiny_config("train.max_iter=2"))
    weights = tmp_path / "out" / "model_final.pth"
    assert do_eval_only(tiny_config(f"train.init_checkpoint={weights}"))["bbox"]["AP"] == 6


def test_stops_on_nan_with_its_place(tiny_config, tmp_path):
    cfg = tiny_config("+model.poison=mixed/0/l1", "+model.poison_after=11")
    with pytest.raises(NonFiniteError) as caught:
        do_train(cfg)
    message = str(caught.value)
    assert "supervision mixed, layer 0, term l1: nan" in message
    assert "iteration 11" in message and message.count("image_id") == 2 and ".png" in message
    # The last iteration failed: nothing is evaluated, and no final weights are left.
    assert json.loads((tmp_path / "out" / "results.json").read_text())["iteration"] == 10
    assert not (tmp_path / "out" / "model_final.pth").exists()
    lines = read_metrics(tmp_path / "out")
    assert [line["iteration"] for line in lines if "bbox/AP" in line] == [4, 9]
    assert all(math.isfinite(line.get("total_loss", 0)) for line in lines)


def test_class_count_mismatch(tiny_config):
    with pytest.raises(
        ConfigError, match=r"3 classes.*'tiny' has 2 \(dark, light\).*num_classes=2"
    ):
        do_train(tiny_config("model.num_classes=3"))


PLAIN = "_target_=detectron2.data.build.get_detection_dataset_dicts"


@pytest.mark.parametrize("loader", ["train", "test"])
@pytest.mark.parametrize("reader", ["checked", "plain"])
def test_bad_data_stops_before_the_first_step(tiny_config, scenes, tmp_path, loader, reader):
    """Whichever loader reads the bad file, and whether or not it checks by itself."""
    good, bad = "train" if loader == "test" else "test", tmp_path / "bad.json"
    content = json.loads((scenes / "scenes.json").read_text())
    content["annotations"][0]["bbox"][2] = -4
    bad.write_text(json.dumps(content))
    cfg = tiny_config()
    name = register_coco_json("tiny_bad", bad, scenes)
    cfg.dataloader[loader].dataset.names = name
    if reader == "plain":
        for split in (good, loader):
            apply_override(cfg, f"dataloader.{split}.dataset.{PLAIN}")
    try:
        with pytest.raises(DatasetError, match="annotation 1"):
            do_train(cfg)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_unchecked_where_told(tiny_config, scenes):
    """A box that reaches out of its image is an error, unless the user asks for no checks."""
    content = json.loads((scenes / "scenes.json").read_text())
    content["annotations"][0]["bbox"][2] = 500
    (scenes / "scenes.json").write_text(json.dumps(content))
    overrides = [f"dataloader.{split}.dataset.{PLAIN}" for split in ("train", "test")]
    overrides += ["train.max_iter=2", "+dataloader.train.dataset.filter_empty=false"]
    with pytest.raises(DatasetError, match="annotation 1"):
        do_train(tiny_config(*overrides))
    assert do_train(tiny_config(*overrides, "train.check_data=false"))["bbox"]["AP"] == 5


def test_unwritable_output_dir(scenes, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output_dir"):
        setup(arguments(scenes, tmp_path / "file" / "out"))


def test_missing_checkpoint(scenes, tmp_path):
    with pytest.raises(ConfigError, match="init_checkpoint"):
        setup(arguments(scenes, tmp_path, "train.init_checkpoint=/nowhere/weights.pth"))


def test_batch_must_divide(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 3)
    with pytest.raises(ConfigError, match="multiple of 3"):
        setup(arguments(scenes, tmp_path))


def test_command_line_trains(run_train_net, scenes, tmp_path):
    out = tmp_path / "out"
    done = run_train_net(f"dataset.root={scenes}", f"train.output_dir={out}")
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    assert "iter 12/12" in text and "one_to_one" in text and "s/iter" in text
    assert "copypaste: 6.0000" in text
    assert (out / "results.json").exists()


def test_command_line_refuses_in_one_line(run_train_net, scenes):
    done = run_train_net(f"dataset.root={scenes}", "train.max_itr=3")
    assert done.returncode == 2
    assert "did you mean train.max_iter?" in done.stderr and "Traceback" not in done.stderr


def test_command_line_refuses_wrong_classes_in_one_line(run_train_net, scenes, tmp_path):
    given = [f"dataset.root={scenes}", f"train.output_dir={tmp_path / 'out'}"]
    done = run_train_net(*given, "model.num_classes=3")
    assert done.returncode == 2
    assert "set model.num_classes=2" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes(run_train_net, scenes, tmp_path):
    """Two processes of one image each train and log the same as one of two images."""
    runs = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        given = ["--dist-url", "auto"] if processes == 2 else []
        given += [f"dataset.root={scenes}", f"train.output_dir={out}", "train.max_iter=4"]
        done = run_train_net(*given, processes=processes)
        assert done.returncode == 0, done.stderr
        runs.append([line["total_loss"] for line in read_metrics(out) if "total_loss" in line])
    assert len(runs[0]) == 2
    assert runs[1] == pytest.approx(runs[0], rel=1e-4)
