"""Random numbers as functions of the seed and of what they are for.

Nothing random in training is carried over from one step to the next: whatever draws is seeded
first, from the seed of the run, the purpose, and numbers that say where the run stands. So a run
is continued from its seed and its iteration alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What is drawn; equal numbers for different purposes give unrelated draws."""

    ORDER = 0
    IMAGE = 1
    SUBSTITUTE = 2
    STEP = 3


def generator(purpose: Purpose, seed: int, *numbers: int) -> np.random.Generator:
    """A generator of its own, the same for the same arguments, which are whole and at least 0."""
    return np.random.default_rng([purpose, seed, *numbers])


def seed_cpu_generators(purpose: Purpose, seed: int, *numbers: int) -> int:
    """Seeds the generators of Python, of numpy, and of torch on the CPU.

    Args:
        purpose: what will be drawn.
        seed: of the run, at least 0.
        numbers: where the run stands (an iteration, a rank, ...), each at least 0.

    Returns:
        The seed that torch was given.
    """
    words = np.random.SeedSequence([purpose, seed, *numbers]).generate_state(3, np.uint64)
    python, legacy, cpu = (int(word) for word in words)
    random.seed(python)
    np.random.seed(legacy % 2**32)
    torch.default_generator.manual_seed(cpu % 2**63)
    return cpu % 2**63


def seed_generators(purpose: Purpose, seed: int, *numbers: int) -> None:
    """Seeds as :func:`seed_cpu_generators` does, and torch's generators of all other devices."""
    torch.manual_seed(seed_cpu_generators(purpose, seed, *numbers))


@contextmanager
def kept_generators() -> Iterator[None]:
    """The generators of Python, numpy and torch (on the CPU) are afterwards as before."""
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
