"""Values that are refused before anything runs, devices, schedules, and the progress line."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf

from ms_detr.engine import (
    ProgressWriter,
    check_processes,
    check_values,
    dataset_names,
    resolve_amp,
    resolve_device,
)
from ms_detr.errors import ConfigError

CPU = torch.device("cpu")


def common(repository, name):
    return LazyConfig.load(str(repository / "configs" / "common" / name))


@pytest.mark.parametrize(
    "override",
    [
        "train.max_iter=0",
        "train.max_iter=-5",
        "train.max_iter=null",
        "train.eval_period=-1",
        "train.log_period=0",
        "train.checkpointer.period=0",
        "train.checkpointer.max_to_keep=0",
        "train.clip_grad.max_norm=0",
        "train.clip_grad.max_norm=-0.1",
        "train.clip_grad.max_norm=nan",
        "optimizer.lr=0",
        "optimizer.lr=-1e-4",
        "optimizer.lr=nan",
        "optimizer.lr=inf",
        "optimizer.weight_decay=-1",
        "dataloader.train.total_batch_size=0",
        "dataloader.train.num_workers=-1",
        "lr_multiplier.milestones=[5000000]",
        "lr_multiplier.milestones=[0]",
        "lr_multiplier.milestones=[20,10]",
        "lr_multiplier.milestones=[10,20]",
        "lr_multiplier.values=[1.0,nan]",
    ],
)
def test_bad_value(tiny_config, override):
    cfg = tiny_config(override)
    key = override.split("=")[0]
    with pytest.raises(ConfigError) as caught:
        check_values(cfg)
    assert key in str(caught.value) or key.rpartition(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["train.eval_period=0", "train.clip_grad.max_norm=null", "train.checkpointer.max_to_keep=null",
     "train.seed=-1", "optimizer.weight_decay=0"],
)  # fmt: skip
def test_good_edges(tiny_config, override):
    check_values(tiny_config(override))


def test_missing_key_is_asked_for(tiny_config):
    cfg = tiny_config()
    cfg.dataset.root = "???"
    with pytest.raises(ConfigError, match=r"dataset\.root=\.\.\."):
        check_values(cfg)


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == CPU
    for name in ("gpu", "meta", "cuda:99"):
        with pytest.raises(ConfigError, match=f"train.device='{name}'"):
            resolve_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for CUDA where there is none")
def test_cuda_without_cuda():
    with pytest.raises(ConfigError, match="sees 0 CUDA devices; set train.device=auto"):
        resolve_device("cuda")


def test_amp_types():
    assert resolve_amp(True, "bf16", CPU) == torch.bfloat16
    assert resolve_amp(False, "bf16", CPU) is None
    with pytest.raises(ConfigError, match="'float16': use one of bf16, fp16"):
        resolve_amp(False, "float16", CPU)


def test_process_counts():
    for count in (0, 1, 64):
        check_processes(count, CPU)
    with pytest.raises(ConfigError, match="or train.device=cpu"):
        check_processes(torch.cuda.device_count() + 1, torch.device("cuda"))


def test_dataset_names(tiny_config):
    cfg = tiny_config()
    cfg.dataloader.train.dataset.names = ["a", "b"]
    assert dataset_names(cfg) == ["a", "b", "tiny"]
    assert dataset_names(cfg, "test") == ["tiny"]
    del cfg.dataloader["test"]
    assert dataset_names(cfg) == ["a", "b"]


@pytest.mark.parametrize("epochs, drop", [(12, 11), (24, 20), (36, 30), (50, 40)])
def test_published_schedules(repository, epochs, drop):
    """The rate drops to a tenth with the first iteration after ``drop`` epochs of 7393."""
    schedule = common(repository, "schedule.py")[f"lr_multiplier_{epochs}ep"]
    factor, last = instantiate(schedule), epochs * 7393
    assert factor(0) == 1 and factor((drop * 7393 - 1) / last) == 1
    assert factor(drop * 7393 / last) == factor((last - 1) / last) == 0.1


def test_published_optimizer(repository):
    cfg = common(repository, "optim.py").AdamW
    net = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    cfg.params.model = net
    optimizer = instantiate(cfg)
    assert isinstance(optimizer, torch.optim.AdamW)
    by_name = {group["name"]: group for group in optimizer.param_groups}
    assert by_name["base"]["lr"] == 2e-4 and by_name["backbone"]["lr"] == pytest.approx(2e-5)
    assert {g["weight_decay"] for g in optimizer.param_groups} == {1e-4}
    assert {tuple(g["betas"]) for g in optimizer.param_groups} == {(0.9, 0.999)}


def test_published_run(repository):
    train = common(repository, "train.py").train
    check_values(OmegaConf.create({"train": train}))
    assert train.max_iter == 88716 and train.clip_grad.max_norm == 0.1 and train.seed == 42


def test_progress_line(caplog):
    with EventStorage(0) as storage, caplog.at_level(logging.INFO, "ms_detr"):
        ProgressWriter(10).write()
        assert not caplog.records, "nothing is known before the first step"
        storage.iter = 4
        terms = {f"mixed/{layer}/giou": 0.5 for layer in range(6)}
        storage.put_scalars(total_loss=5.0, mixed=3.0, **terms)
        storage.put_scalars(time=2.0, data_time=0.25, lr=2e-4, grad_norm=7.0)
        ProgressWriter(10).write()
    (line,) = [record.getMessage() for record in caplog.records]
    for part in ("eta 0:00:10", "iter 5/10", "total_loss 5", "mixed 3", "grad_norm 7", "lr 0.0002",
                 "2.000 s/iter", "0.250 data s", "memory"):  # fmt: skip
        assert part in line
    assert "giou" not in line
