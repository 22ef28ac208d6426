#!/usr/bin/env python
"""Trains or evaluates the model of a lazy config.

    python train_net.py --config-file configs/demo/shapes.py --num-gpus 0
    python train_net.py --config-file CONFIG --resume
    python train_net.py --config-file CONFIG --eval-only train.init_checkpoint=model_final.pth

Overrides follow the options: ``key=value`` replaces a value of the config, ``+key=value`` adds
one, ``~key`` deletes one. ``--num-gpus`` is the number of processes on this machine; with 0 or 1
there is one process, which computes on ``train.device`` ("auto": the GPU if there is one).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch.multiprocessing as mp
from detectron2.engine import default_argument_parser, launch

from ms_detr.data.errors import DatasetError
from ms_detr.engine import check_processes, do_eval_only, do_train, setup
from ms_detr.errors import ConfigError, NonFiniteError, OutputError

USER_ERRORS = (ConfigError, DatasetError, NonFiniteError, OutputError)


def main(args: argparse.Namespace, messages: Any = None) -> dict:
    """Runs one process.

    One of several processes hands a wrong input to ``messages`` and ends with code 2: the parent
    would only see that an exception was raised, not which. Any of them may be the one that finds
    it (a NaN of its own images), not only the first.
    """
    try:
        cfg = setup(args)
        return do_eval_only(cfg) if args.eval_only else do_train(cfg, resume=args.resume)
    except USER_ERRORS as error:
        if messages is None:
            raise
        messages.put(str(error))
        sys.exit(2)


def invoke_main() -> int:
    """Reads the command line and starts the processes; a wrong input ends in one clear line."""
    args = default_argument_parser(epilog=__doc__).parse_args()
    several = args.num_gpus * args.num_machines > 1
    messages = mp.get_context("spawn").SimpleQueue() if several else None
    try:
        check_processes(args.num_gpus)
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args, messages),
        )
    except USER_ERRORS as error:
        return _refuse(args, str(error))
    except (mp.ProcessExitedException, mp.ProcessRaisedException):
        # The others fail too once the first is gone; its message says why.
        if messages is None or messages.empty():
            raise
        return _refuse(args, messages.get())
    return 0


def _refuse(args: argparse.Namespace, message: str) -> int:
    print(f"{args.config_file or 'train_net.py'}: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(invoke_main())
