"""Processes of which one fails: ``python misbehaving.py --num-gpus 2 HOW RANK [FOLDER]``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch
from detectron2.utils import comm

from ms_detr.engine import argument_parser, launch
from ms_detr.errors import ConfigError


def on_cpu(args: argparse.Namespace) -> torch.device:
    """Where the processes compute, also on a machine with a GPU."""
    return torch.device("cpu")


def main(args: argparse.Namespace) -> None:
    """One process does what it is told, the others wait for it."""
    how, rank = args.opts[0], int(args.opts[1])
    if len(args.opts) > 2:  # each says where it is, whole files only
        path = Path(args.opts[2]) / f"{comm.get_rank()}.pid"
        path.with_suffix(".part").write_text(str(os.getpid()))
        path.with_suffix(".part").rename(path)
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
