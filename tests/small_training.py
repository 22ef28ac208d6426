"""A few updates of a small detector, in one process or several, computed in several ways."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils.events import EventStorage
from small_models import build, item
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ms_detr.engine import Trainer
from ms_detr.engine.launch import leave

UPDATES, IMAGES = 3, 4
# Objects of each image, by update: a part without any, an update with one, and many on one image.
OBJECTS = ((3, 1, 0, 0), (0, 0, 0, 1), (2, 9, 1, 4))


def batches() -> list[list[dict]]:
    """The images of every update, all of one size, so that no padding depends on the parts."""
    return [
        [item(64, 96, count, seed=10 * update + number) for number, count in enumerate(counts)]
        for update, counts in enumerate(OBJECTS)
    ]


def train(config: str, accumulate: int = 1, rank: int = 0, processes: int = 1) -> dict:
    """Three updates of this process's share of the batches, in float64.

    Returns:
        "weights", by name, and "logged", what the first process logged of every update.
    """
    model = build(config).double()
    if processes > 1:
        model = DistributedDataParallel(model)
    share = IMAGES // processes
    mine = [batch[rank * share : (rank + 1) * share] for batch in batches()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer = Trainer(model, mine, optimizer, accumulate=accumulate)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # statistics of a batch are not those of its parts
    logged = []
    for trainer.iter in range(UPDATES):
        with EventStorage(trainer.iter) as storage:
            trainer.run_step()
            logged.append({name: value for name, (value, _) in storage.latest().items()})
    names = {name.removeprefix("module."): value for name, value in model.state_dict().items()}
    return {"weights": names, "logged": logged}


def train_in_processes(folder: Path, processes: int, config: str, accumulate: int) -> dict:
    """:func:`train` in several gloo processes, which meet in a file of the folder."""
    mp.spawn(_worker, (str(folder), processes, config, accumulate), nprocs=processes)
    return torch.load(folder / "trained.pth", weights_only=True)


def _worker(rank: int, folder: str, processes: int, config: str, accumulate: int) -> None:
    torch.set_num_threads(1)
    method = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=processes)
    try:
        trained = train(config, accumulate, rank, processes)
        if rank == 0:
            torch.save(trained, Path(folder) / "trained.pth")
    finally:
        dist.destroy_process_group()
    leave()
