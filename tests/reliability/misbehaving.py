"""Processes of which one fails: ``python misbehaving.py --num-gpus 2 HOW RANK [FOLDER]``."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import time
from pathlib import Path

import torch
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ms_detr.engine import Trainer, argument_parser, launch
from ms_detr.errors import ConfigError


def on_cpu(args: argparse.Namespace) -> torch.device:
    """Where the processes compute, also on a machine with a GPU."""
    return torch.device("cpu")


class NaNHere(nn.Module):
    """A model whose loss is NaN in one process."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.weight, self.rank = nn.Parameter(torch.ones(())), rank

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        factor = float("nan") if comm.get_rank() == self.rank else 1.0
        return {"mixed/0/l1": self.weight * factor, "mixed/0/giou": self.weight}


def train(rank: int) -> None:
    """One step of training, with an image named like the process."""
    model = create_ddp_model(NaNHere(rank), device_ids=None)
    batch = [{"image_id": 70 + comm.get_rank(), "file_name": "x.jpg"}]
    trainer = Trainer(model, [batch], torch.optim.SGD(model.parameters(), lr=1.0))
    with EventStorage(0):
        trainer.iter = 0
        trainer.run_step()


def main(args: argparse.Namespace) -> None:
    """One process does what it is told, the others wait for it."""
    how, rank = args.opts[0], int(args.opts[1])
    if how == "well":
        atexit.register(sys.stdout.write, "last words; ")  # in one piece
    if len(args.opts) > 2:  # each says where it is, whole files only
        path = Path(args.opts[2]) / f"{comm.get_rank()}.pid"
        path.with_suffix(".part").write_text(str(os.getpid()))
        path.with_suffix(".part").rename(path)
    if how == "nan":
        train(rank)
    if comm.get_rank() == rank:
        if how == "wrong":
            raise ConfigError("this value is wrong")
        if how == "crash":
            raise RuntimeError("this code is wrong")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leave":
            sys.exit(7)
        if how == "sleep":
            time.sleep(1000)
    comm.synchronize()


if __name__ == "__main__":
    sys.exit(launch(main, argument_parser().parse_args(), on_cpu))
