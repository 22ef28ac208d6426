"""The stream of training data: its laws, and what decides how an image comes out of it."""

from __future__ import annotations

import random
from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest
import torch

from ms_detr.data import DatasetError, build_train_loader
from ms_detr.data.stream import BatchStream, RepeatedIndices, ShuffledIndices
from ms_detr.seeding import Purpose, generator, kept_generators, seed_generators

SIZE = 37
GROUPS = (np.arange(SIZE) % 3 == 0).astype(np.int64)


def stream(**given) -> BatchStream:
    given = {"total_batch_size": 4, "seed": 5} | given
    return BatchStream(given.pop("order", ShuffledIndices(SIZE)), GROUPS, **given)


def take(batches, count: int) -> list:
    return list(islice(iter(batches), count))


# orders


def test_an_epoch_has_every_index_once_in_an_order_of_its_own():
    order = ShuffledIndices(SIZE)
    epochs = [order.epoch(3, epoch).tolist() for epoch in range(20)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 20
    assert order.epoch(3, 7).tolist() == epochs[7] != order.epoch(4, 7).tolist()


def test_places_are_uniform():
    """Every index is on every place equally often: chi-squared with 24 degrees of freedom."""
    counts = np.zeros((5, 5))
    for epoch in range(2000):
        counts[np.arange(5), ShuffledIndices(5).epoch(0, epoch)] += 1
    assert ((counts - 400) ** 2 / 400).sum() < 52  # 0.999 of such sums are below


def test_factors_are_met_on_average_and_within_one_in_each_epoch():
    factors = np.array([1.0, 1.25, 2.0, 3.7])
    order = RepeatedIndices(factors)
    counts = np.array([np.bincount(order.epoch(1, epoch), minlength=4) for epoch in range(2000)])
    assert (counts >= np.floor(factors)).all() and (counts <= np.ceil(factors)).all()
    np.testing.assert_allclose(counts.mean(0), factors, atol=0.05)
    assert (counts[:, [0, 2]] == [1, 2]).all()
    # roundings of two images, and of one image in two epochs, have nothing to do with each other
    assert abs(np.corrcoef(counts[:, 1], counts[:, 3])[0, 1]) < 0.1
    assert abs(np.corrcoef(counts[1:, 3], counts[:-1, 3])[0, 1]) < 0.1
    again = RepeatedIndices(factors)
    assert all((order.epoch(1, e) == again.epoch(1, e)).all() for e in (0, 9, 1999))


def test_factors_of_one_are_plain_epochs():
    epoch = RepeatedIndices(np.ones(SIZE)).epoch(2, 3)
    assert sorted(epoch.tolist()) == list(range(SIZE))


@pytest.mark.parametrize("factors", [[], [0.5, 1.0], [float("nan")], [float("inf")], [[1.0]]])
def test_bad_factors(factors):
    with pytest.raises(ValueError, match="repeat factors"):
        RepeatedIndices(factors)


# batches


def test_positions_come_once_each_and_indices_once_an_epoch():
    batches = take(stream(), 200)
    assert all(len(batch) == 4 for batch in batches)
    seen = dict(chain.from_iterable(batches))
    assert len(seen) == 800
    for position, index in seen.items():
        epoch, place = divmod(position, SIZE)
        assert ShuffledIndices(SIZE).epoch(5, epoch)[place] == index
    # Only what waits for its batch to be full is missing: fewer than a batch of each group.
    whole = range(max(seen) + 1)
    assert sum(position not in seen for position in whole) <= 2 * 3


def test_groups_never_mix_and_batches_come_as_they_fill():
    batches = take(stream(), 300)
    for batch in batches:
        assert len({GROUPS[index] for _, index in batch}) == 1
        assert [position for position, _ in batch] == sorted(position for position, _ in batch)
    ends = [batch[-1][0] for batch in batches]
    assert ends == sorted(ends)
    kinds = Counter(GROUPS[batch[0][1]] for batch in batches)
    assert kinds[1] / 300 == pytest.approx(GROUPS.mean(), abs=0.01)


def slow_batches(size: int, seed: int):
    """The same rule, image by image."""
    buckets: dict[int, list] = {0: [], 1: []}
    position = epoch = 0
    while True:
        for index in ShuffledIndices(SIZE).epoch(seed, epoch).tolist():
            bucket = buckets[int(GROUPS[index])]
            bucket.append((position, index))
            position += 1
            if len(bucket) == size:
                yield bucket.copy()
                bucket.clear()
        epoch += 1


@pytest.mark.parametrize("size", [1, 4, 16, 100])
def test_batches_equal_a_slow_reference(size):
    assert take(stream(total_batch_size=size), 100) == take(slow_batches(size, 5), 100)


@pytest.mark.parametrize("start", [0, 1, 8, 9, 10, 137, 5000])
@pytest.mark.parametrize("order", [ShuffledIndices(SIZE), RepeatedIndices(np.full(SIZE, 1.3))])
def test_starting_late_is_skipping(start, order):
    late = take(stream(start=start, order=order), 30)
    assert late == take(islice(stream(order=order), start, None), 30)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_are_the_parts_of_the_batches_of_all(processes):
    whole = take(stream(start=11), 50)
    shares = [
        take(stream(start=11, rank=rank, num_processes=processes), 50) for rank in range(processes)
    ]
    assert [list(chain(*parts)) for parts in zip(*shares)] == whole
    assert all(len(batch) == 4 // processes for batch in shares[0])


def test_another_seed_is_another_order():
    assert take(stream(seed=6), 5) != take(stream(seed=5), 5)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"num_processes": 3}, "total_batch_size=4 cannot be divided among 3"),
        ({"total_batch_size": 0}, "total_batch_size must be"),
        ({"seed": -1}, "seed must be"),
        ({"start": -1}, "start must be"),
    ],
)
def test_bad_streams(given, words):
    with pytest.raises(ValueError, match=words):
        stream(**given)


# generators


def test_purposes_and_numbers_do_not_collide():
    draws = [
        generator(purpose, seed, number).integers(2**62)
        for purpose in Purpose
        for seed in (0, 1)
        for number in (0, 1)
    ]
    assert len(set(draws)) == len(draws)


def draws() -> tuple:
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_seeds_decide_and_kept_generators_are_left_alone():
    seed_generators(Purpose.STEP, 1, 2)
    first, second = draws(), draws()
    seed_generators(Purpose.STEP, 1, 2)
    assert draws() == first
    with kept_generators():
        seed_generators(Purpose.STEP, 9, 9)
        assert all(a != b for a, b in zip(draws(), second))
    assert draws() == second


# the loader


class Noisy:
    """A mapper that draws from every generator; it refuses some images."""

    def __init__(self, refused: range = range(0)) -> None:
        self.refused = refused

    def __call__(self, record: dict):
        if record["image_id"] in self.refused:
            random.random(), torch.rand(3)
            return None
        drawn = (random.random(), float(np.random.rand()), torch.rand(2).tolist())
        record["drawn"] = drawn  # records may be changed
        return record


def records(count: int = SIZE) -> list[dict]:
    return [
        {"file_name": f"{i}.jpg", "image_id": i, "width": 20 + 10 * (i % 3 == 0), "height": 20,
         "annotations": [{"category_id": int(i < 4)}]}
        for i in range(count)
    ]  # fmt: skip


def loader(mapper=None, count: int = SIZE, **given):
    given = {"total_batch_size": 4} | given
    return build_train_loader(records(count), mapper=mapper or Noisy(), **given)


def test_images_depend_on_seed_and_position_only():
    """Not on workers, on the batch that came first, or on the state of the generators."""
    whole = take(loader().start(seed=1), 24)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    assert take(loader(num_workers=2).start(seed=1), 24) == whole
    assert take(loader().start(seed=1, batch=17), 7) == whole[17:]
    assert take(loader().start(seed=2), 24) != whole
    drawn = [item["drawn"][0] for batch in whole for item in batch]
    assert len(set(drawn)) == len(drawn)  # also where an image comes again


def test_the_generators_of_the_process_are_left_alone():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = draws()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    take(loader().start(seed=1), 3)
    assert draws() == expected


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_images_of_one(processes, monkeypatch):
    whole = take(loader().start(seed=1, batch=5), 9)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        shares.append(take(loader().start(seed=1, batch=5), 9))
    assert [list(chain(*parts)) for parts in zip(*shares)] == whole


def test_refused_images_have_the_same_substitute_at_every_replay():
    refusing = Noisy(range(0, SIZE, 2))
    whole = take(loader(refusing).start(seed=1), 30)
    assert all(item["image_id"] % 2 for batch in whole for item in batch)
    assert all(len({item["width"] for item in batch}) == 1 for batch in whole)
    assert take(loader(refusing, num_workers=2).start(seed=1, batch=20), 10) == whole[20:]


def test_a_mapper_that_refuses_everything_ends():
    with pytest.raises(DatasetError, match=r"20 images in a row.*image \d+ \(\d+\.jpg\)"):
        next(loader(Noisy(range(SIZE))).start(seed=1))


def test_without_grouping_wide_and_tall_mix():
    batches = take(loader(aspect_ratio_grouping=False).start(seed=1), 40)
    assert {len({item["width"] for item in batch}) for batch in batches} == {1, 2}


def test_rare_classes_are_drawn_more_often():
    """4 of 37 images hold the rare class: at a threshold of 1, sqrt(37 / 4) times an epoch."""
    times = (37 / 4) ** 0.5
    batches = take(loader(repeat_threshold=1.0).start(seed=1), 600)
    counts = Counter(item["image_id"] for batch in batches for item in batch)
    rare, common = (np.mean([counts[i] for i in ids]) for ids in (range(4), range(4, SIZE)))
    assert rare / common == pytest.approx(times * (33 / 37) ** 0.5, rel=0.06)


def test_a_lambda_as_mapper():
    made = build_train_loader(records(), mapper=lambda r: r["image_id"], total_batch_size=2)
    assert next(made.start(seed=0)) == next(made.start(seed=0))


def lacking(key: str) -> list[dict]:
    made = records()
    del made[3][key]
    return made


@pytest.mark.parametrize(
    "given, words",
    [
        ({"dataset": []}, "no images"),
        ({"dataset": lacking("width")}, r"image 3.*3\.jpg.*no width"),
        ({"dataset": lacking("height")}, r"image 3.*aspect_ratio_grouping=False"),
        ({"num_workers": -1}, "num_workers must be"),
        ({"total_batch_size": 2.0}, "total_batch_size must be"),
        ({"repeat_threshold": 0.0}, "repeat_threshold must be"),
        ({"repeat_threshold": float("nan")}, "repeat_threshold must be"),
    ],
)
def test_what_a_loader_refuses(given, words):
    given = {"dataset": records(), "total_batch_size": 4} | given
    with pytest.raises(ValueError, match=words):
        build_train_loader(given.pop("dataset"), mapper=Noisy(), **given)


def test_a_batch_that_cannot_be_divided(monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="multiple of 3"):
        loader()
