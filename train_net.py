#!/usr/bin/env python
"""Trains or evaluates the model of a lazy config.

    python train_net.py --config-file configs/demo/shapes.py --num-gpus 0
    python train_net.py --config-file CONFIG --resume
    python train_net.py --config-file CONFIG --eval-only train.init_checkpoint=model_final.pth

Overrides follow the options: ``key=value`` replaces a value of the config, ``+key=value`` adds
one, ``~key`` deletes one. ``--num-gpus`` is the number of processes on this machine, each with a
GPU of its own, or on CPUs; with 0 or 1 there is one process. They compute on ``train.device``
("auto": the GPU if there is one). Started by torchrun or srun, the processes are there already;
see docs/distributed.md.
"""

from __future__ import annotations

import argparse
import sys

from ms_detr.engine import argument_parser, chosen_device, do_eval_only, do_train, launch, setup


def main(args: argparse.Namespace) -> dict:
    """Runs one process."""
    cfg = setup(args)
    return do_eval_only(cfg) if args.eval_only else do_train(cfg, resume=args.resume)


if __name__ == "__main__":
    sys.exit(launch(main, argument_parser(__doc__).parse_args(), chosen_device))
