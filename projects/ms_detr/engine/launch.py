"""One way into a run of one or several processes, however they are started."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from ..data.errors import DatasetError
from ..errors import ConfigError, NonFiniteElsewhere, NonFiniteError, OutputError
from .alarm import GRACE, Alarm, Watch
from .places import Place, slurm_place, spawned_places, torchrun_place
from .setup import check_processes
from .spawn import spawn

USER_ERRORS = (ConfigError, DatasetError, NonFiniteError, OutputError)

Main = Callable[[argparse.Namespace], Any]
FindDevice = Callable[[argparse.Namespace], torch.device]


def argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """detectron2's arguments, with a free port by default, and ``--timeout``."""
    parser = default_argument_parser(epilog)
    parser.set_defaults(dist_url="auto")
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="MINUTES",
        help="how long a process waits for the others, e.g. for the first to evaluate (30)",
    )
    return parser


def launch(main: Main, args: argparse.Namespace, find_device: FindDevice) -> int:
    """Calls ``main(args)`` in every process of the run and returns the exit code.

    The processes are those of torchrun or of SLURM where one of them has started this one (see
    :mod:`.places`), otherwise those that ``args`` ask for, which are started here. Several
    processes form detectron2's process groups, with NCCL on GPUs and gloo on CPUs. A process of a
    group ends when ``main`` has returned, and not this function.

    A wrong input (ConfigError, DatasetError, NonFiniteError) or a full disk (OutputError) ends in
    one message on stderr and code 2, whichever process finds it; any other exception in its
    traceback and code 1.

    Args:
        main: a function of a module, so that new processes can import it.
        args: of :func:`argument_parser`.
        find_device: another one: what the processes compute on, given ``args``.
    """
    try:
        started = _started(os.environ)
        if started is not None and started[1].world_size > 1:
            return run_in_group(started[1], main, args, _agreeing(*started, find_device))
        if started is not None:
            check_agreement(*started, args)
        device = find_device(args)
        places = spawned_places(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)
        check_processes(places[0].local_size, device)
        if places[0].world_size > 1:
            read_timeout(args)
            return spawn(run_in_group, (main, args, find_device), places)
        main(args)
    except USER_ERRORS as error:
        _say(args, error)
        return 2
    return 0


def _started(environment: Mapping[str, str]) -> tuple[str, Place] | None:
    """Who has started this process, and its place; None if nobody has."""
    for starter, read in (("torchrun", torchrun_place), ("srun", slurm_place)):
        place = read(environment)
        if place is not None:
            return starter, place
    return None


def check_agreement(starter: str, place: Place, args: argparse.Namespace) -> None:
    """Compares ``args`` with the processes that there are: defaults, or what is the case, agree.

    Raises:
        ConfigError: ``args`` ask for other processes.
    """
    agreeing = {
        "num_gpus": (0, 1, place.local_size),
        "num_machines": (1, place.num_machines),
        "machine_rank": (0, place.machine),
        "dist_url": ("auto",),
    }
    for name, values in agreeing.items():
        value, option = getattr(args, name), "--" + name.replace("_", "-")
        if value not in values:
            raise ConfigError(
                f"{option} is {value}, but {starter} has started this process already: "
                f"{place.local_size} on each of {place.num_machines} machines; leave {option} "
                f"out, or start without {starter}"
            )


def _agreeing(starter: str, place: Place, find_device: FindDevice) -> FindDevice:
    def checked(args: argparse.Namespace) -> torch.device:
        check_agreement(starter, place, args)
        return find_device(args)

    return checked


def read_timeout(args: argparse.Namespace) -> timedelta:
    """``--timeout``.

    Raises:
        ConfigError: it is not above 0.
    """
    if not 0 < args.timeout < 1e6:
        raise ConfigError(f"--timeout is {args.timeout:g} minutes: it must be above 0")
    return timedelta(minutes=args.timeout)


def run_in_group(
    place: Place, main: Main, args: argparse.Namespace, find_device: FindDevice
) -> int:
    """Runs ``main(args)`` as one process of several, which ends here and now.

    After a failure, whoever waits for its partners while they wait for it, as in leaving the
    process group, would wait for ever.  Returns an exit code only if there never was a group.
    """
    try:
        timeout = read_timeout(args)
        store, alarm = meet(place, timeout)
    except USER_ERRORS as error:
        _say(args, error, place)
        return 2
    watch = Watch(alarm, place.rank)
    watch.start()
    try:
        enter_group(place, find_device(args), store, timeout)
        main(args)
        comm.synchronize()
    except BaseException as error:
        code = _failed(error, args, place, alarm)
        if code:
            _end(code, place, alarm)
    watch.end()
    dist.destroy_process_group()
    leave()


def leave() -> NoReturn:
    """Ends this process with everything written and code 0, but without destructors of libraries.

    When these run, threads of gloo may not have ended: of 30 short runs of two processes, 3 ended
    in SIGABRT after all of their work (torch 2.11).
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def meet(place: Place, timeout: timedelta) -> tuple[dist.Store, Alarm]:
    """The store at which processes meet, and the alarm that they share.

    Raises:
        ConfigError: nobody serves the address within ``timeout``, or it cannot be served.
    """
    try:
        store = dist.TCPStore(
            place.host, place.port, is_master=place.serves, timeout=timeout, wait_for_workers=False
        )
        alarm = Alarm(dist.TCPStore(place.host, place.port, timeout=timeout), place.attempt)
    except RuntimeError as error:
        raise ConfigError(_apart(place, timeout, error)) from error
    return dist.PrefixStore(f"ms_detr/group/{place.attempt}", store), alarm


def enter_group(place: Place, device: torch.device, store: dist.Store, timeout: timedelta) -> None:
    """Joins the process group and that of the machine, as detectron2 expects them.

    Args:
        place: of this process.
        device: GPUs communicate through NCCL, each process with its own; CPUs through gloo.
        store: of :func:`meet`.
        timeout: of joining, and of every collective operation.

    Raises:
        ConfigError: the others do not come, or there is no GPU for this process.
    """
    if device.type == "cuda":
        torch.cuda.set_device(gpu_of(place, device))
    elif "OMP_NUM_THREADS" not in os.environ:
        # Otherwise each process would start as many threads as the machine has cores.
        torch.set_num_threads(max(1, torch.get_num_threads() // place.local_size))
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.world_size, timeout=timeout
        )
        _enter_local_group(place)
    except RuntimeError as error:
        raise ConfigError(_apart(place, timeout, error)) from error


def _apart(place: Place, timeout: timedelta, error: Exception) -> str:
    return (
        f"the {place.world_size} processes did not meet at {place.host}:{place.port} within "
        f"{timeout.total_seconds() / 60:g} minutes ({str(error).strip().splitlines()[0]}); check "
        "that all were started, and that address and port are reachable and free"
    )


def gpu_of(place: Place, device: torch.device) -> int:
    """Number of the GPU of a process; where each process sees one GPU only, that one is its own.

    Raises:
        ConfigError: there are fewer GPUs than processes, or one for all is asked for.
    """
    count = torch.cuda.device_count()
    if device.index is not None:
        raise ConfigError(
            f"train.device={device} is one GPU, but there are {place.world_size} processes: use "
            "train.device=cuda, and every process takes its own"
        )
    if place.local_rank >= count > 1:
        raise ConfigError(
            f"process {place.local_rank} of {place.local_size} on this machine has no GPU: PyTorch "
            f"sees {count}; start at most {count} processes on a machine"
        )
    return 0 if count == 1 else place.local_rank


def _enter_local_group(place: Place) -> None:
    """Makes detectron2's group of the processes of one machine; version 0.5 has no function."""
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(place.local_size)
        return
    for first in range(0, place.world_size, place.local_size):
        group = dist.new_group(list(range(first, first + place.local_size)))
        if first == place.rank - place.local_rank:
            comm._LOCAL_PROCESS_GROUP = group


def _failed(error: BaseException, args: argparse.Namespace, place: Place, alarm: Alarm) -> int:
    """Says what happened, unless another process has; returns the exit code, 0 for a good end."""
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        if code:
            alarm.sound(code)
        return code
    if isinstance(error, NonFiniteElsewhere) and (known := alarm.wait(GRACE)):
        return known  # the process that knows the images says it
    if isinstance(error, USER_ERRORS):
        if alarm.sound(2):
            _say(args, error, place)
        return 2
    # Without partners every collective operation fails: only the first failure is worth a word.
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    known = alarm.wait(1.0)  # of a process that was killed its parent tells, a little later
    if known is not None:
        return known
    if alarm.sound(code) and code == 1:
        traceback.print_exception(error)
    return code


def _end(code: int, place: Place, alarm: Alarm) -> None:
    """Ends the process; the one that others reach the store through lets them know first."""
    with contextlib.suppress(RuntimeError):
        alarm.hear(place.rank)
        if place.serves:
            alarm.linger(place.world_size)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _say(args: argparse.Namespace, error: Exception, place: Place | None = None) -> None:
    where = args.config_file or os.path.basename(sys.argv[0])
    who = f" (process {place.rank} of {place.world_size})" if place is not None else ""
    print(f"{where}{who}: {error}", file=sys.stderr, flush=True)
