"""The loader of training data: batches as a function of seed and iteration."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetFromList
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset

from ..arguments import require_number, require_whole
from ..seeding import Purpose, generator, kept_generators, seed_cpu_generators
from .errors import DatasetError
from .stream import BatchStream, IndexOrder, RepeatedIndices, ShuffledIndices

__all__ = ["TrainLoader", "build_train_loader"]

Mapper = Callable[[dict], Any]

# How many images in a row a mapper may refuse before the data are said to be unusable.
_TRIES = 20


def build_train_loader(
    dataset: Sequence[dict],
    *,
    mapper: Mapper,
    total_batch_size: int,
    num_workers: int = 0,
    aspect_ratio_grouping: bool = True,
    repeat_threshold: float | None = None,
) -> TrainLoader:
    """The training loader of the configs; its arguments are those of detectron2's.

    Args:
        dataset: detectron2's list of dictionaries.
        mapper: from a dictionary to what the model reads; None of it asks for another image.
        total_batch_size: images an update, of all processes; a multiple of their number.
        num_workers: processes that read images, for each process that trains; 0: none.
        aspect_ratio_grouping: wide images with wide ones, tall with tall: less padding.
        repeat_threshold: share of images below which a class is rare, in (0, 1]: an image is then
            drawn max(1, sqrt(threshold / f)) times an epoch on average, f being the share of
            images that hold the rarest of its classes. None: every image once an epoch.

    Raises:
        DatasetError: there are no images, or one lacks width or height.
        ValueError: a number is out of its range, or the batch cannot be divided.
    """
    if not len(dataset):
        raise DatasetError("the training data hold no images; mend: dataloader.train.dataset")
    order: IndexOrder = ShuffledIndices(len(dataset))
    if repeat_threshold is not None:
        require_number("repeat_threshold", repeat_threshold, 0.0, 1.0, above=True)
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, repeat_threshold
        )
        order = RepeatedIndices(factors.numpy())
    groups = _is_wide(dataset) if aspect_ratio_grouping else np.zeros(len(dataset), np.int64)
    return TrainLoader(
        dataset, mapper, order, groups, total_batch_size=total_batch_size, num_workers=num_workers
    )


class TrainLoader:
    """Training data without hidden state: any batch can be the first, and is always the same.

    Which images a batch holds is told by :class:`BatchStream`; how each of them is augmented
    depends on the seed and on its position in the stream, and on nothing else: not on the number
    of workers, nor on what was drawn before.

    Args:
        dataset: detectron2's list of dictionaries, kept in serialised form, which workers share.
        mapper: see :func:`build_train_loader`.
        order: which images an epoch has.
        groups: number of the group of every image, (len(dataset),).
        total_batch_size: images of all processes.
        num_workers: processes that read images.
    """

    def __init__(
        self,
        dataset: Sequence[dict],
        mapper: Mapper,
        order: IndexOrder,
        groups: np.ndarray,
        *,
        total_batch_size: int,
        num_workers: int = 0,
    ) -> None:
        require_whole("num_workers", num_workers, 0)
        self._records = DatasetFromList(list(dataset), copy=False)
        self._mapper, self._order, self._groups = mapper, order, groups
        self.total_batch_size, self.num_workers = total_batch_size, num_workers
        self._stream(seed=0, start=0)  # refuses a batch that cannot be divided

    def start(self, seed: int, batch: int = 0) -> Iterator[list[Any]]:
        """The batches of this process from number ``batch`` on, without end.

        Args:
            seed: of the order and of augmentations, at least 0; that of all processes.
            batch: how many batches are skipped (no image of theirs is read).
        """
        keys = itertools.chain.from_iterable(self._stream(seed, batch))
        # Image by image, so that workers share a batch, and only a few images wait in memory. The
        # generator is there to leave torch's own alone: workers' seeds are not used.
        images = DataLoader(
            _MappedImages(self._records, self._mapper, self._groups, seed),
            sampler=keys,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),
        )
        return _in_lists(iter(images), self.total_batch_size // comm.get_world_size())

    def _stream(self, seed: int, start: int) -> BatchStream:
        return BatchStream(
            self._order,
            self._groups,
            total_batch_size=self.total_batch_size,
            seed=seed,
            start=start,
            rank=comm.get_rank(),
            num_processes=comm.get_world_size(),
        )


class _MappedImages(Dataset):
    """Mapped images by (position, index), the same whenever and wherever they are asked for."""

    def __init__(self, records: Dataset, mapper: Mapper, groups: np.ndarray, seed: int) -> None:
        self._records, self._groups, self._seed = records, groups, seed
        self._mapper = PicklableWrapper(mapper)  # so that workers can be given a lambda

    def __getitem__(self, key: tuple[int, int]) -> Any:
        position, index = key
        candidates = itertools.chain([index], self._substitutes(position, index))
        with kept_generators():
            for number, candidate in enumerate(itertools.islice(candidates, _TRIES)):
                seed_cpu_generators(Purpose.IMAGE, self._seed, position, number)
                mapped = self._mapper(self._records[candidate])
                if mapped is not None:
                    return mapped
        record = self._records[index]
        raise DatasetError(
            f"the mapper gave None for {_TRIES} images in a row, the first of them image "
            f"{record.get('image_id')} ({record.get('file_name')}); mend: the data, or a mapper "
            f"that keeps images without objects"
        )

    def _substitutes(self, position: int, index: int) -> Iterator[int]:
        """Images of the same group that may stand in, drawn for this position."""
        same = np.flatnonzero(self._groups == self._groups[index])
        random = generator(Purpose.SUBSTITUTE, self._seed, position)
        while True:
            yield int(random.choice(same))


def _in_lists(images: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while True:
        yield list(itertools.islice(images, size))


def _as_it_is(image: Any) -> Any:
    return image


def _is_wide(dataset: Sequence[dict]) -> np.ndarray:
    """1 for images that are wider than high, else 0."""
    for number, record in enumerate(dataset):
        if "width" not in record or "height" not in record:
            raise DatasetError(
                f"image {number} of the training data ({record.get('file_name')}) has no width or "
                f"no height; mend: give it both, or dataloader.train.aspect_ratio_grouping=False"
            )
    return np.array([record["width"] > record["height"] for record in dataset], dtype=np.int64)
