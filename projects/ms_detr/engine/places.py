"""Where a process stands among those of a run: read from arguments or from the environment.

Three ways of starting processes are known, and told apart by what is there, in this order:

1. torchrun's environment: one of ``RANK``, ``LOCAL_RANK`` or ``WORLD_SIZE`` is set. The process is
   one of those that torchrun has started.
2. SLURM's environment of a *step* of several tasks: ``SLURM_STEP_NUM_TASKS`` is above 1. ``srun``
   sets it for what it starts. An allocation (the shell of ``salloc``, the script of ``sbatch``)
   has ``SLURM_NTASKS`` and even ``SLURM_PROCID``, but nobody has started its tasks, and the shell
   of an interactive step is a step of one task: neither counts.
3. Otherwise the arguments say how many processes are to be started here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigError

Environment = Mapping[str, str]

_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_TORCHRUN_ALL = (*_TORCHRUN, "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """The place of one process.

    Attributes:
        rank: number of the process in the run, in [0, world_size).
        local_rank: its number on its machine, in [0, local_size).
        world_size: processes of the run.
        local_size: processes of a machine, the same on all machines.
        host, port: where the processes meet (a ``torch.distributed.TCPStore``).
        serves: whether this process opens the port; otherwise somebody else does.
        attempt: tells apart several starts that meet at the same port.

    Raises:
        ConfigError: numbers that contradict each other.
    """

    rank: int
    local_rank: int
    world_size: int
    local_size: int
    host: str = "127.0.0.1"
    port: int = 0
    serves: bool = False
    attempt: str = "0"

    def __post_init__(self) -> None:
        machines, rest = divmod(self.world_size, max(self.local_size, 1))
        if self.world_size < 1 or self.local_size < 1 or rest:
            raise ConfigError(
                f"{self.world_size} processes cannot lie on machines of {self.local_size} each: "
                "start the same number on every machine"
            )
        if not 0 <= self.rank < self.world_size or self.rank % self.local_size != self.local_rank:
            raise ConfigError(
                f"process {self.rank} of {self.world_size} cannot be number {self.local_rank} of "
                f"the {self.local_size} on its machine: those of a machine have neighbouring "
                "numbers (with SLURM: --distribution=block)"
            )
        if machines > 1 and not 0 < self.port < 2**16:
            raise ConfigError(f"port {self.port} to meet at: it must be in 1 ... 65535")

    @property
    def machine(self) -> int:
        """Number of the machine."""
        return self.rank // self.local_size

    @property
    def num_machines(self) -> int:
        """Machines of the run."""
        return self.world_size // self.local_size


def torchrun_place(environment: Environment) -> Place | None:
    """Reads torchrun's environment; None where it is not there.

    Raises:
        ConfigError: only a part of it is there (and several processes are spoken of), or a value
            is no whole number.
    """
    given = [name for name in _TORCHRUN if environment.get(name)]
    missing = [name for name in _TORCHRUN_ALL if not environment.get(name)]
    if not given or (missing and environment.get("WORLD_SIZE", "1") == "1"):
        return None
    if missing:
        raise ConfigError(
            f"{', '.join(given)} in the environment: this process looks started by torchrun, but "
            f"{', '.join(missing)} is missing; start it with torchrun, or unset {' '.join(given)}"
        )
    number = {name: _whole(environment, name) for name in _TORCHRUN_ALL if name != "MASTER_ADDR"}
    return Place(
        rank=number["RANK"],
        local_rank=number["LOCAL_RANK"],
        world_size=number["WORLD_SIZE"],
        local_size=number["LOCAL_WORLD_SIZE"],
        host=environment["MASTER_ADDR"],
        port=number["MASTER_PORT"],
        # torchrun opens the port itself, but for some of its rendezvous.
        serves=number["RANK"] == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


def slurm_place(environment: Environment) -> Place | None:
    """Reads the environment of a SLURM step of several tasks; None where it is not there.

    The first task opens the port, on the first node of the step unless ``MASTER_ADDR`` names a
    host. The port is ``MASTER_PORT``, or one in 20000 ... 31999 that follows from the numbers of
    job and step, so that all tasks know it and two jobs on a node rarely share it.

    Raises:
        ConfigError: a variable is missing, no number, or contradicts another one.
    """
    if environment.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        return None
    world_size = _whole(environment, "SLURM_STEP_NUM_TASKS")
    rank = _whole(environment, "SLURM_PROCID")
    host = environment.get("MASTER_ADDR") or first_host(_slurm(environment, "STEP_NODELIST"))
    return Place(
        rank=rank,
        local_rank=_whole(environment, "SLURM_LOCALID"),
        world_size=world_size,
        local_size=_tasks_of_a_node(environment, world_size),
        host=host,
        port=_slurm_port(environment),
        serves=rank == 0,
        attempt=environment.get("SLURM_RESTART_COUNT", "0"),
    )


def spawned_places(
    num_processes: int, num_machines: int = 1, machine_rank: int = 0, dist_url: str = "auto"
) -> list[Place]:
    """Places of the processes that are to be started on this machine.

    Args:
        num_processes: on every machine; 0 is one process as well.
        num_machines: of the run.
        machine_rank: number of this machine.
        dist_url: ``tcp://HOST:PORT`` of the first machine, or "auto", a free port of this one.

    Raises:
        ConfigError: numbers out of their range, or no address although there are several machines.
    """
    if num_processes < 0:
        raise ConfigError(f"--num-gpus is {num_processes}: it must be at least 0")
    if num_machines < 1:
        raise ConfigError(f"--num-machines is {num_machines}: it must be at least 1")
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(
            f"--machine-rank is {machine_rank}: machines are counted from 0 to {num_machines - 1} "
            "(--num-machines)"
        )
    host, port = ("127.0.0.1", 0) if dist_url == "auto" else read_address(dist_url)
    if dist_url == "auto" and num_machines > 1:
        raise ConfigError(
            "--dist-url auto finds a port for one machine only; give --dist-url tcp://HOST:PORT "
            "of machine 0, the same on all machines"
        )
    size = max(1, num_processes)
    return [
        Place(machine_rank * size + local, local, num_machines * size, size, host, port)
        for local in range(size)
    ]


def read_address(url: str) -> tuple[str, int]:
    """Host and port of ``tcp://HOST:PORT``.

    Raises:
        ConfigError: anything else.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or not port or parts.scheme != "tcp":
        raise ConfigError(f"--dist-url is {url!r}: use tcp://HOST:PORT, or auto on one machine")
    return host, port


def first_host(nodes: str) -> str:
    """First host of a list as SLURM writes it: ``node[07-09,12],other`` begins with ``node07``."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first.group() if first else "")


def tasks_per_node(text: str) -> list[int]:
    """Tasks of every node, as SLURM writes them: ``2(x3),1`` is [2, 2, 2, 1].

    Raises:
        ConfigError: it is written otherwise.
    """
    tasks: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            raise ConfigError(f"SLURM's tasks per node are {text!r}: expected e.g. 2(x3),1")
        tasks += [int(found[1])] * int(found[2] or 1)
    return tasks


def _tasks_of_a_node(environment: Environment, world_size: int) -> int:
    text = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE")
    if text is None:
        return _whole(environment, "SLURM_NTASKS_PER_NODE")
    tasks = tasks_per_node(text)
    if sum(tasks) != world_size:
        raise ConfigError(
            f"SLURM's tasks per node are {text}, which are {sum(tasks)} tasks, but the step has "
            f"{world_size} (SLURM_STEP_NUM_TASKS)"
        )
    if len(set(tasks)) > 1:
        raise ConfigError(
            f"SLURM's tasks per node are {text}: every node needs the same number of tasks, see "
            "--ntasks-per-node"
        )
    return tasks[0]


def _slurm_port(environment: Environment) -> int:
    if environment.get("MASTER_PORT"):
        return _whole(environment, "MASTER_PORT")
    job = int(re.sub(r"\D", "", _slurm(environment, "JOB_ID")) or 0)
    step = int(re.sub(r"\D", "", environment.get("SLURM_STEP_ID", "")) or 0)
    return 20000 + (31 * job + step) % 12000


def _slurm(environment: Environment, name: str) -> str:
    value = environment.get(f"SLURM_{name}")
    if not value:
        raise ConfigError(
            f"SLURM_STEP_NUM_TASKS says that srun has started this process, but SLURM_{name} is "
            "missing; unset SLURM_STEP_NUM_TASKS if it has not"
        )
    return value


def _whole(environment: Environment, name: str) -> int:
    text = _slurm(environment, name[6:]) if name.startswith("SLURM_") else environment[name]
    if not re.fullmatch(r"\d+", text):
        raise ConfigError(f"{name}={text!r} in the environment: it must be a whole number")
    return int(text)
