"""One of several processes looks, and all get its answer, or its failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

from ms_detr.data import DatasetError, from_main_process
from ms_detr.engine.launch import leave


def sound() -> list[int]:
    return [1, 2]


def defective() -> None:
    raise DatasetError("a.json: 1 defect")


def broken() -> None:
    raise RuntimeError("the disk is gone")


LOOKS = (sound, defective, broken)


def ask(rank: int, folder: Path) -> None:
    """A process of two: asks for every answer, and writes down what it got."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2
    )
    got = []
    for look in LOOKS:

        def seen(look=look):
            (folder / f"{look.__name__}.{comm.get_rank()}").touch()
            return look()

        try:
            got.append(from_main_process(seen))
        except (DatasetError, RuntimeError) as error:
            got.append([type(error).__name__, str(error)])
    (folder / f"got.{rank}").write_text(json.dumps(got))
    dist.destroy_process_group()
    leave()


@pytest.mark.slow
def test_two_processes_get_the_same(tmp_path: Path) -> None:
    mp.start_processes(ask, args=(tmp_path,), nprocs=2, start_method="spawn")
    first, second = (json.loads((tmp_path / f"got.{rank}").read_text()) for rank in (0, 1))
    defects = ["DatasetError", "a.json: 1 defect"]
    assert first == [[1, 2], defects, ["RuntimeError", "the disk is gone"]]
    assert second == [[1, 2], defects, ["DatasetError", "the disk is gone"]]
    assert not any((tmp_path / f"{look.__name__}.1").exists() for look in LOOKS)
    assert all((tmp_path / f"{look.__name__}.0").exists() for look in LOOKS)


def test_one_process_raises_what_it_finds() -> None:
    assert from_main_process(sound) == [1, 2]
    with pytest.raises(RuntimeError, match="the disk is gone"):
        from_main_process(broken)
