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

from detectron2.engine import default_argument_parser, launch

from ms_detr.data.errors import DatasetError
from ms_detr.engine import check_processes, do_eval_only, do_train, setup
from ms_detr.errors import ConfigError, NonFiniteError


def main(args: argparse.Namespace) -> dict:
    """Runs one process."""
    cfg = setup(args)
    return do_eval_only(cfg) if args.eval_only else do_train(cfg, resume=args.resume)


def invoke_main() -> int:
    """Reads the command line and starts the processes; a wrong input ends in one clear line."""
    args = default_argument_parser(epilog=__doc__).parse_args()
    try:
        check_processes(args.num_gpus)
        launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    except (ConfigError, DatasetError, NonFiniteError) as error:
        print(f"{args.config_file or 'train_net.py'}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(invoke_main())
