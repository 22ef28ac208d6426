"""Procedural textures for the synthetic scenes."""

from __future__ import annotations

import math

import cv2
import numpy as np

__all__ = ["random_colour", "random_texture"]


def random_colour(
    rng: np.random.Generator, *, unlike: np.ndarray | None = None, distance: float = 0.0
) -> np.ndarray:
    """Draws a colour, (3,) float32 in [0, 255]; never depends on a class.

    Args:
        rng: source of randomness.
        unlike: a colour (3,) to keep away from.
        distance: wanted Euclidean distance from `unlike`. At least one of the eight corners of
            the colour cube is 220 away from any colour, so drawing again always ends.
    """
    while True:
        colour = rng.uniform(10, 245, 3)
        if unlike is None or np.linalg.norm(colour - unlike) >= distance:
            return colour.astype(np.float32)


def random_texture(
    rng: np.random.Generator, shape: tuple[int, int], colour: np.ndarray, *, strength: float
) -> np.ndarray:
    """Makes a texture around a base colour: plain, gradient, stripes, checks or smooth noise.

    Args:
        rng: source of randomness.
        shape: (height, width) in pixels.
        colour: (3,) base colour in [0, 255].
        strength: how far the second colour may go from the base, 0 (plain) to 1 (any colour).

    Returns:
        (height, width, 3) float32.
    """
    other = colour + strength * rng.uniform(0.3, 1.0) * (random_colour(rng) - colour)
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, shape)
    pattern = pattern + np.float32(rng.uniform(0.0, 0.25)) * (_noise(rng, shape, cell=3.0) - 0.5)
    return (colour + pattern[..., None] * (other - colour)).astype(np.float32)


def _plane(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Signed distance in pixels from a random line through the centre."""
    angle = rng.uniform(0, 2 * math.pi)
    rows = np.arange(shape[0], dtype=np.float32) - shape[0] / 2
    columns = np.arange(shape[1], dtype=np.float32) - shape[1] / 2
    return math.sin(angle) * rows[:, None] + math.cos(angle) * columns[None, :]


def _gradient(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    plane = _plane(rng, shape)
    return (0.5 + plane / (math.hypot(*shape) + 1e-6)).astype(np.float32)


def _stripes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    period = rng.uniform(5.0, 26.0)
    wave = np.sin(_plane(rng, shape) * (2 * math.pi / period) + rng.uniform(0, 2 * math.pi))
    return (0.5 + 0.5 * np.tanh(wave * rng.uniform(0.7, 4.0))).astype(np.float32)


def _checks(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return 0.5 + 2 * (_stripes(rng, shape) - 0.5) * (_stripes(rng, shape) - 0.5)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    coarse = _noise(rng, shape, cell=rng.uniform(14.0, 40.0))
    return 0.65 * coarse + 0.35 * _noise(rng, shape, cell=6.0)


def _noise(rng: np.random.Generator, shape: tuple[int, int], *, cell: float) -> np.ndarray:
    """Value noise in about [0, 1]: a random grid of the given cell size, enlarged smoothly."""
    grid = [max(2, math.ceil(side / cell) + 1) for side in shape]
    values = rng.random(grid, dtype=np.float32)
    return cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


_PATTERNS = (_gradient, _stripes, _checks, _smooth_noise)
