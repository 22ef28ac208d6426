"""What a user gets wrong ends in one message that names the key or the file, and the mend."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import pytest
from detectron2.config import LazyCall
from detectron2.engine import default_argument_parser
from omegaconf import OmegaConf

from ms_detr.config import load_config
from ms_detr.data import register_coco_json
from ms_detr.data.errors import DatasetError
from ms_detr.engine import do_eval_only, do_train, prepare_dataset, setup
from ms_detr.errors import ConfigError

HERE = Path(__file__).resolve().parent


def arguments(scenes: Path, out: Path, *more: str) -> argparse.Namespace:
    config = str(HERE / "tiny_config.py")
    given = ["--config-file", config, *more, f"dataset.root={scenes}", f"train.output_dir={out}"]
    return default_argument_parser().parse_args(given)


@pytest.fixture
def small_config(repository, scenes, tmp_path):
    """The small detector on the tiny scenes."""

    def load(*overrides: str):
        json_file = scenes / "scenes.json"
        data = [f"dataset.{s}_{k}={p}" for s in ("train", "val")
                for k, p in (("json", json_file), ("images", scenes))]  # fmt: skip
        given = [*data, f"train.output_dir={tmp_path / 'out'}", "train.device=cpu",
                 "dataloader.train.num_workers=0", "dataloader.test.num_workers=0"]  # fmt: skip
        cfg = load_config(repository / "configs" / "custom" / "small.py", [*given, *overrides])
        prepare_dataset(cfg)
        return cfg

    return load


@pytest.mark.parametrize(
    "override, words",
    [
        (
            "model.supervisions.mixed.assigner.k=0",
            "^model.supervisions.mixed.assigner cannot be built: k must",
        ),
        ("model.queries.num_queries=0", "^model.queries cannot be built: num_queries must"),
        ("~model.supervisions", "model.supervisions is null or deleted"),
        ("model.supervisions=null", "model.supervisions is null.*at least one"),
        ("optimizer.betas=[2,2]", "^optimizer cannot be built: .*beta"),
    ],
)
def test_a_component_that_refuses_its_arguments(small_config, tmp_path, override, words):
    with pytest.raises(ConfigError, match=words):
        do_train(small_config(override))
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize("evaluate", [False, True])
def test_a_file_that_is_no_checkpoint(tiny_config, repository, evaluate):
    path = repository / "README.md"
    cfg = tiny_config(f"train.init_checkpoint={path}")
    with pytest.raises(ConfigError, match=r"init_checkpoint: '.*README\.md' cannot be loaded") as e:
        do_eval_only(cfg) if evaluate else do_train(cfg)
    assert len(str(e.value).splitlines()) == 1


def test_a_damaged_last_checkpoint_is_named(tiny_config, tmp_path):
    do_train(tiny_config("train.max_iter=2"))
    (tmp_path / "out" / "model_final.pth").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"no checkpoint .*\(model_final\.pth: truncated"):
        do_train(tiny_config("train.max_iter=4"), resume=True)


def test_resuming_does_not_need_the_first_weights(scenes, tmp_path):
    out, gone = tmp_path / "out", f"train.init_checkpoint={tmp_path / 'gone.pth'}"
    with pytest.raises(ConfigError, match=r"gone\.pth' does not exist"):
        do_train(setup(arguments(scenes, out, "--resume", "train.max_iter=2", gone)), resume=True)
    do_train(setup(arguments(scenes, out, "train.max_iter=2")))
    args = arguments(scenes, out, "--resume", "train.max_iter=4", gone)
    assert do_train(setup(args), resume=True)["bbox"]["AP"] == 6


def test_evaluation_leaves_what_the_run_wrote(scenes, tmp_path):
    out = tmp_path / "out"
    do_train(setup(arguments(scenes, out, "train.max_iter=2")))
    before = {name: (out / name).read_bytes() for name in ("results.json", "config.yaml")}
    weights = f"train.init_checkpoint={out / 'model_final.pth'}"
    do_eval_only(setup(arguments(scenes, out, "--eval-only", "train.max_iter=7", weights)))
    assert before == {name: (out / name).read_bytes() for name in before}
    saved = json.loads((out / "results_eval.json").read_text())
    assert saved == {"iteration": None, "metrics": {"bbox": {"AP": 6.0, "APl": None}}}
    assert OmegaConf.load(out / "config_eval.yaml").train.max_iter == 7


def test_evaluation_needs_weights(scenes, tmp_path, tiny_config):
    with pytest.raises(ConfigError, match=r"no weights to evaluate; set train\.init_checkpoint="):
        setup(arguments(scenes, tmp_path / "out", "--eval-only"))
    with pytest.raises(ConfigError, match="no weights to evaluate"):
        do_eval_only(tiny_config())


def test_evaluation_does_not_read_the_training_json(scenes, tmp_path):
    overrides = [f"dataset.root={scenes}", f"train.output_dir={tmp_path}"]
    cfg = load_config(HERE / "tiny_config.py", overrides)
    cfg.dataloader.train.dataset.names = LazyCall(register_coco_json)(
        name="gone", json_file=str(tmp_path / "gone.json"), image_root=str(tmp_path)
    )
    prepare_dataset(cfg, "test")
    assert cfg.dataset.num_classes == 2
    with pytest.raises(DatasetError, match=r"gone\.json"):
        prepare_dataset(cfg)


def test_known_warnings_are_not_shown(scenes, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup(arguments(scenes, tmp_path / "out"))
        caught.clear()
        warnings.warn(
            "Creating a tensor from a list of numpy.ndarrays is extremely slow. X", stacklevel=1
        )
        warnings.warn(
            "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Y", stacklevel=1
        )
        warnings.warn("another", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["another"]


def test_nan_ends_in_one_message(run_train_net, scenes, tmp_path):
    out = tmp_path / "out"
    given = [f"dataset.root={scenes}", f"train.output_dir={out}", "+model.poison=mixed/0/l1"]
    done = run_train_net(*given)
    assert done.returncode == 2
    for text in (done.stderr, (out / "log.txt").read_text()):
        assert "layer 0, term l1: nan" in text and "lower optimizer.lr" in text
    assert "Traceback" not in done.stdout + done.stderr + (out / "log.txt").read_text()


def test_a_refused_part_ends_in_one_message(run_train_net, scenes, tmp_path):
    """Its traceback is in the log, for those who have written the part."""
    out = tmp_path / "out"
    given = [f"dataset.root={scenes}", f"train.output_dir={out}", "optimizer.betas=[2,2]"]
    done = run_train_net(*given)
    assert done.returncode == 2
    assert "optimizer cannot be built: Invalid beta" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Error when instantiating" not in done.stdout + done.stderr
    assert "Traceback" in (out / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "override, words",
    [
        ("train.max_itr=3", "did you mean train.max_iter?"),
        ("model.num_classes=3", "set model.num_classes=2"),
        ("+model.poison=mixed/0/l1", "not finite"),
    ],
)
def test_several_processes_end_in_one_message(run_train_net, scenes, tmp_path, override, words):
    given = ["--dist-url", "auto", f"dataset.root={scenes}"]
    given += [f"train.output_dir={tmp_path / 'out'}", override]
    done = run_train_net(*given, processes=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(words) == 1
    assert "Traceback" not in done.stdout + done.stderr
