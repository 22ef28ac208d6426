"""Whole runs in every way of starting processes, and how they end when one of them fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine.tiny_detector import write_scenes
from reliability.deadline import REPOSITORY, Command, Done, run

HERE = Path(__file__).resolve().parent
TINY = REPOSITORY / "tests/engine/tiny_config.py"
TORCHRUN = ("-m", "torch.distributed.run")
MISBEHAVING = HERE / "misbehaving.py"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def slurm(rank: int, port: int, *, per_node: int = 2) -> dict[str, object]:
    """The environment of one of two tasks of a step, on one node or on two."""
    return {
        "SLURM_JOB_ID": 4711,
        "SLURM_STEP_ID": 0,
        "SLURM_STEP_NUM_TASKS": 2,
        "SLURM_STEP_TASKS_PER_NODE": "2" if per_node == 2 else "1(x2)",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_PROCID": rank,
        "SLURM_LOCALID": rank % per_node,
        "MASTER_PORT": port,
    }


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Starts a command; what is left of all of them is ended after the test."""
    commands: list[Command] = []

    def started(*arguments: object, **options) -> Command:
        commands.append(Command(*arguments, **options))
        return commands[-1]

    yield started
    for command in commands:
        command.end()


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> Callable[[Path], list[object]]:
    """Makes the end of a command that trains the tiny detector for four iterations."""
    scenes = tmp_path_factory.mktemp("scenes")
    write_scenes(scenes)

    def arguments(out: Path) -> list[object]:
        given = [f"dataset.root={scenes}", f"train.output_dir={out}", "train.max_iter=4"]
        return [REPOSITORY / "train_net.py", "--config-file", TINY, *given]

    return arguments


@pytest.fixture(scope="module")
def expected(training, tmp_path_factory) -> list[float]:
    """Losses of the same training in one process."""
    out = tmp_path_factory.mktemp("alone")
    done = run(*options(training(out), 0))
    assert done.code == 0, done.err
    return losses(out)


def options(command: list[object], processes: int, *given: object) -> list[object]:
    """Options come before the overrides."""
    return [*command[:3], "--num-gpus", processes, *given, *command[3:]]


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


def good(*done: Done) -> None:
    for one in done:
        assert one.code == 0, one.out + one.err
        assert "Traceback" not in one.out + one.err


def test_torchrun(training, expected, tmp_path):
    """Two processes of one image each log what one process with two images logs."""
    good(run(*TORCHRUN, "--nproc-per-node", 2, "--master-port", free_port(), *training(tmp_path)))
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)
    assert json.loads((tmp_path / "results.json").read_text())["iteration"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("rendezvous", ["static", "c10d"])
def test_two_torchrun_nodes(training, expected, tmp_path, start, rendezvous):
    where = f"127.0.0.1:{free_port()}"
    host, port = where.split(":")
    address = ["--master-addr", host, "--master-port", port]
    if rendezvous == "c10d":
        address = ["--rdzv-backend", "c10d", "--rdzv-endpoint", where, "--rdzv-id", "1"]
    nodes = [
        start(
            *TORCHRUN, "--nnodes", 2, "--nproc-per-node", 1, "--node-rank", rank, *address,
            *training(tmp_path),
        )
        for rank in range(2)
    ]  # fmt: skip
    good(*[node.wait() for node in nodes])
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_two_machines(training, expected, tmp_path, start):
    url = f"tcp://127.0.0.1:{free_port()}"
    given = ["--num-machines", 2, "--dist-url", url, "--machine-rank"]
    machines = [start(*options(training(tmp_path), 1, *given, rank)) for rank in range(2)]
    good(*[machine.wait() for machine in machines])
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("per_node", [2, 1])
def test_slurm(training, expected, tmp_path, start, per_node):
    port = free_port()
    tasks = [
        start(*training(tmp_path), environment=slurm(rank, port, per_node=per_node))
        for rank in range(2)
    ]
    good(*[task.wait() for task in tasks])
    assert losses(tmp_path) == pytest.approx(expected, rel=1e-5)


def one_line(done: Done | list[Done], words: str) -> None:
    """The words are said once by all commands together, and nothing that explains less."""
    err = done.err if isinstance(done, Done) else "".join(one.err for one in done)
    assert err.count(words) == 1, err
    assert "Traceback" not in err


def test_a_good_end_writes_everything():
    """Although the destructors of libraries, of which some abort, are not called any more."""
    done = run(MISBEHAVING, "--num-gpus", 2, "well", 0)
    assert done.code == 0, done.err
    assert done.out.count("last words; ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_wrong_input_of_one_process(rank):
    done = run(MISBEHAVING, "--num-gpus", 2, "wrong", rank)
    assert done.code == 2, done.err
    one_line(done, f"(process {rank} of 2): this value is wrong")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_the_process_with_the_nan_names_its_images(rank):
    """All see a gradient that is NaN; only one knows why."""
    done = run(MISBEHAVING, "--num-gpus", 2, "nan", rank)
    assert done.code == 2, done.err
    one_line(done, "1 of 2 loss terms are not finite")
    assert f"process {rank} of 2" in done.err and f"image_id {70 + rank}" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_wrong_input_with_slurm(start, rank):
    port = free_port()
    tasks = [start(MISBEHAVING, "wrong", rank, environment=slurm(i, port)) for i in range(2)]
    done = [task.wait() for task in tasks]
    assert [one.code for one in done] == [2, 2]
    one_line(done, "this value is wrong")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_wrong_input_on_one_of_two_machines(start, rank):
    given = ["--num-gpus", 1, "--num-machines", 2]
    given += ["--dist-url", f"tcp://127.0.0.1:{free_port()}", "--machine-rank"]
    machines = [start(MISBEHAVING, *given, i, "wrong", rank) for i in range(2)]
    done = [machine.wait() for machine in machines]
    assert [one.code for one in done] == [2, 2]
    one_line(done, "this value is wrong")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_wrong_input_with_torchrun(rank):
    """torchrun itself ends with 1 and a table; our processes say one line and end with 2."""
    given = ["--nproc-per-node", 2, "--master-port", free_port()]
    done = run(*TORCHRUN, *given, MISBEHAVING, "wrong", rank)
    assert done.code == 1
    assert done.err.count("this value is wrong") == 1, done.err
    assert "exitcode  : 2" in done.err
    assert 'misbehaving.py", line' not in done.err, "no traceback of ours"


@pytest.mark.slow
def test_no_double_launch():
    given = ["--nproc-per-node", 2, "--master-port", free_port()]
    done = run(*TORCHRUN, *given, MISBEHAVING, "--num-gpus", 4, "wrong", 0)
    assert done.code == 1
    assert done.err.count("--num-gpus is 4, but torchrun has started this process") == 1, done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, code, words",
    [
        ("crash", 1, "RuntimeError: this code is wrong"),
        ("killed", 128 + signal.SIGKILL, "process 1 of 2 was ended by SIGKILL"),
        ("leave", 7, ""),
    ],
)
def test_a_process_that_fails_ends_all(how, code, words):
    done = run(MISBEHAVING, "--num-gpus", 2, how, 1)
    assert done.code == code, done.err
    assert done.err.count("Traceback") == (how == "crash"), done.err
    assert words in done.err


@pytest.mark.slow
def test_a_killed_process_ends_the_other_machine(start):
    given = ["--num-gpus", 1, "--num-machines", 2]
    given += ["--dist-url", f"tcp://127.0.0.1:{free_port()}", "--machine-rank"]
    machines = [start(MISBEHAVING, *given, i, "killed", 1) for i in range(2)]
    done = [machine.wait() for machine in machines]
    assert [one.code for one in done] == [128 + signal.SIGKILL] * 2, [one.err for one in done]


def pids(folder: Path) -> list[int]:
    """Process ids of two processes, as soon as both are in the group."""
    files = [folder / f"{rank}.pid" for rank in range(2)]
    end = time.monotonic() + 120
    while not all(file.exists() for file in files):
        assert time.monotonic() < end, "the processes do not come"
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.slow
def test_sigterm_reaches_the_processes(start, tmp_path):
    command = start(MISBEHAVING, "--num-gpus", 2, "sleep", 0, tmp_path)
    both = pids(tmp_path)
    command.process.send_signal(signal.SIGTERM)
    done = command.wait()
    assert done.code == 128 + signal.SIGTERM, done.err
    assert not any(map(is_running, both))


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_is_killed(start, tmp_path):
    command = start(MISBEHAVING, "--num-gpus", 2, "sleep", 0, tmp_path)
    both = pids(tmp_path)
    os.kill(command.process.pid, signal.SIGKILL)
    end = time.monotonic() + 120
    while any(map(is_running, both)):
        assert time.monotonic() < end, "orphans"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_machine_that_does_not_come():
    given = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{free_port()}"]
    done = run(MISBEHAVING, "--num-gpus", 1, *given, "--timeout", 0.1, "wrong", 0)
    assert done.code == 2, done.err
    one_line(done, "the 2 processes did not meet at 127.0.0.1:")


@pytest.mark.slow
def test_a_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = run(MISBEHAVING, "--num-gpus", 2, "--dist-url", url, "wrong", 0)
    assert done.code == 2, done.err
    one_line(done, "the port cannot be opened here")
