"""Training and evaluation: the step, the loop, and the checks before them."""

from .checkpoint import ReportingCheckpointer
from .checks import check_classes, check_data, check_output_dir, check_values, dataset_names
from .device import resolve_amp, resolve_device
from .freeze import KeepFrozen, freeze_parts
from .loop import do_eval_only, do_test, do_train
from .parameters import get_parameter_groups
from .recompute import recompute_parts
from .setup import check_processes, prepare_dataset, setup
from .trainer import Trainer
from .writers import ProgressWriter, build_writers

__all__ = [
    "KeepFrozen",
    "ProgressWriter",
    "ReportingCheckpointer",
    "Trainer",
    "build_writers",
    "check_classes",
    "check_data",
    "check_output_dir",
    "check_processes",
    "check_values",
    "dataset_names",
    "do_eval_only",
    "do_test",
    "do_train",
    "freeze_parts",
    "get_parameter_groups",
    "prepare_dataset",
    "recompute_parts",
    "resolve_amp",
    "resolve_device",
    "setup",
]
