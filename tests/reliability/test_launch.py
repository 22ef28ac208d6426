"""Who has started a process, and where it stands: readers of environments and arguments."""

from __future__ import annotations

import pytest

from ms_detr.engine import Place, argument_parser, slurm_place, spawned_places, torchrun_place
from ms_detr.engine.launch import check_agreement, read_timeout
from ms_detr.engine.places import first_host, tasks_per_node
from ms_detr.errors import ConfigError

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "node07",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
# What the script of sbatch sees of an allocation of 8 tasks, before any srun.
ALLOCATION = {
    "SLURM_JOB_ID": "4711",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_TASKS_PER_NODE": "4(x2)",
    "SLURM_JOB_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


def test_torchrun():
    place = torchrun_place(TORCHRUN)
    assert place == Place(5, 1, 8, 4, "node07", 29500, serves=False, attempt="0")
    assert (place.machine, place.num_machines) == (1, 2)
    restarted = torchrun_place({**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "2"})
    assert restarted is not None and restarted.attempt == "2"


@pytest.mark.parametrize("agent, serves", [("True", False), ("False", True)])
def test_the_first_process_opens_the_port_unless_torchrun_has(agent, serves):
    first = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": agent}
    place = torchrun_place(first)
    assert place is not None and place.serves is serves


def test_without_torchrun():
    assert torchrun_place({}) is None
    assert torchrun_place({"MASTER_ADDR": "node07", "MASTER_PORT": "1"}) is None
    # Some clusters say this of a container that is alone.
    assert torchrun_place({"RANK": "0", "WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize("missing", ["LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "RANK"])
def test_a_part_of_torchrun(missing):
    given = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(ConfigError, match=f"{missing} is missing.*or unset "):
        torchrun_place(given)


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("RANK", "8", "process 8 of 8"),
        ("RANK", "two", "RANK='two'.*whole number"),
        ("RANK", "-1", "RANK='-1'"),
        ("LOCAL_RANK", "2", "process 5 of 8 cannot be number 2"),
        ("LOCAL_RANK", "7", "cannot be number 7"),
        ("LOCAL_WORLD_SIZE", "3", "same number on every machine"),
        ("LOCAL_WORLD_SIZE", "0", "same number on every machine"),
        ("MASTER_PORT", "70000", "port 70000"),
    ],
)
def test_contradictions_of_torchrun(name, value, words):
    with pytest.raises(ConfigError, match=words):
        torchrun_place({**TORCHRUN, name: value})


def test_slurm():
    place = slurm_place(SLURM)
    assert place is not None
    assert place == Place(5, 1, 8, 4, "gpu07", place.port, serves=False)
    assert 20000 <= place.port < 32000
    assert slurm_place({**SLURM, "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}).port == place.port
    assert slurm_place({**SLURM, "SLURM_JOB_ID": "4712"}).port != place.port
    assert slurm_place({**SLURM, "SLURM_STEP_ID": "1"}).port != place.port
    assert slurm_place({**SLURM, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).serves


def test_slurm_with_an_address_of_the_users():
    place = slurm_place({**SLURM, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "12345"})
    assert place is not None and (place.host, place.port) == ("10.0.0.1", 12345)


def test_an_allocation_is_not_a_launch():
    assert slurm_place(ALLOCATION) is None
    # The shell of an interactive step is a step of one task within the allocation.
    shell = {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}
    assert slurm_place({**ALLOCATION, **shell}) is None
    assert slurm_place({}) is None


def test_a_step_counts_its_own_tasks():
    """Two of the eight tasks of an allocation: what the allocation says is inherited."""
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    place = slurm_place({**ALLOCATION, **step, "SLURM_STEP_NODELIST": "gpu08"})
    assert place is not None and (place.world_size, place.local_size) == (2, 2)
    assert place.host == "gpu08"


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_STEP_NUM_TASKS": "7"}, "the same number"),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, "which are 2 tasks, but the step has 8"),
        ({"SLURM_STEP_TASKS_PER_NODE": "four"}, r"expected e.g. 2\(x3\),1"),
        ({"SLURM_LOCALID": "0"}, "--distribution=block"),
        ({"SLURM_PROCID": ""}, "SLURM_PROCID is missing"),
        ({"SLURM_STEP_NODELIST": ""}, "SLURM_STEP_NODELIST is missing"),
        ({"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS='many'"),
    ],
)
def test_contradictions_of_slurm(changes, words):
    with pytest.raises(ConfigError, match=words):
        slurm_place({**SLURM, **changes})


def test_tasks_per_node():
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert tasks_per_node("8") == [8]
    older = {k: v for k, v in SLURM.items() if k != "SLURM_STEP_TASKS_PER_NODE"}
    assert slurm_place({**older, "SLURM_NTASKS_PER_NODE": "4"}).local_size == 4
    assert slurm_place({**older, "SLURM_TASKS_PER_NODE": "4(x2)"}).local_size == 4


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("tux", "tux"),
        ("a1,b[2-3]", "a1"),
        ("node[07-09,12],other", "node07"),
        ("gnode[10,20,25]", "gnode10"),
        ("rack[1-2]n[03-04]-gpu", "rack1n03-gpu"),
        ("node7.cluster.org,node8.cluster.org", "node7.cluster.org"),
    ],
)
def test_first_host(nodes, first):
    assert first_host(nodes) == first


def test_spawned():
    assert spawned_places(0) == spawned_places(1) == [Place(0, 0, 1, 1)]
    assert spawned_places(2) == [Place(0, 0, 2, 2), Place(1, 1, 2, 2)]
    second = spawned_places(2, 3, 1, "tcp://node07:29500")
    assert second == [Place(2, 0, 6, 2, "node07", 29500), Place(3, 1, 6, 2, "node07", 29500)]
    assert spawned_places(1, 2, 1, "tcp://[::1]:1")[0].host == "::1"


@pytest.mark.parametrize(
    "given, words",
    [
        ((-1,), "--num-gpus is -1"),
        ((2, 0), "--num-machines is 0"),
        ((2, 2, 2, "tcp://a:1"), "--machine-rank is 2.*from 0 to 1"),
        ((2, 2, -1, "tcp://a:1"), "--machine-rank is -1"),
        ((2, 2, 0), "--dist-url auto.*of machine 0"),
        ((2, 1, 0, "node07:29500"), "use tcp://HOST:PORT"),
        ((2, 1, 0, "tcp://node07"), "use tcp://HOST:PORT"),
        ((2, 1, 0, "tcp://node07:99999"), "use tcp://HOST:PORT"),
        ((2, 1, 0, "file:///meeting"), "use tcp://HOST:PORT"),
    ],
)
def test_wrong_arguments(given, words):
    with pytest.raises(ConfigError, match=words):
        spawned_places(*given)


@pytest.mark.parametrize("given", ["", "--num-gpus 0", "--num-gpus 4 --num-machines 2"])
def test_arguments_that_agree(given):
    args = argument_parser().parse_args(given.split())
    check_agreement("torchrun", torchrun_place(TORCHRUN), args)


@pytest.mark.parametrize(
    "given",
    [
        "--num-gpus 8",
        "--num-gpus 2",
        "--num-machines 4",
        "--machine-rank 3",
        "--dist-url tcp://a:1",
    ],
)
def test_no_double_launch(given):
    args = argument_parser().parse_args(given.split())
    words = f"{given.split()[0]} is .*torchrun has started this process already: 4 on each of 2"
    with pytest.raises(ConfigError, match=words):
        check_agreement("torchrun", torchrun_place(TORCHRUN), args)


def test_timeout():
    assert read_timeout(argument_parser().parse_args([])).total_seconds() == 1800
    with pytest.raises(ConfigError, match="--timeout is 0 minutes"):
        read_timeout(argument_parser().parse_args(["--timeout", "0"]))
    with pytest.raises(ConfigError, match="--timeout is nan"):
        read_timeout(argument_parser().parse_args(["--timeout", "nan"]))
