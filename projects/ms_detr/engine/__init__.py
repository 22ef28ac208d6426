"""Training and evaluation: the step, the loop, and the checks before them."""

from .checkpoint import ReportingCheckpointer
from .checks import check_classes, check_data, check_output_dir, dataset_names
from .device import compute_deterministically, resolve_amp, resolve_device
from .ema import WeightAverage
from .evaluate import do_test
from .freeze import KeepFrozen, freeze_parts
from .launch import argument_parser, launch
from .loop import do_eval_only, do_train
from .parameters import get_parameter_groups
from .places import Place, slurm_place, spawned_places, torchrun_place
from .preemption import StopSignals
from .profile import StepProfile
from .recompute import recompute_parts
from .setup import check_processes, chosen_device, prepare_dataset, setup
from .trainer import Trainer
from .value_checks import check_values
from .writers import ProgressWriter, build_writers

__all__ = [
    "KeepFrozen",
    "Place",
    "ProgressWriter",
    "ReportingCheckpointer",
    "StepProfile",
    "Trainer",
    "WeightAverage",
    "argument_parser",
    "build_writers",
    "check_classes",
    "check_data",
    "check_output_dir",
    "check_processes",
    "check_values",
    "chosen_device",
    "dataset_names",
    "compute_deterministically",
    "do_eval_only",
    "do_test",
    "do_train",
    "freeze_parts",
    "get_parameter_groups",
    "launch",
    "prepare_dataset",
    "recompute_parts",
    "resolve_amp",
    "resolve_device",
    "setup",
    "slurm_place",
    "spawned_places",
    "torchrun_place",
]
