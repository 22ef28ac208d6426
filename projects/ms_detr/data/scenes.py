"""Drawing of one synthetic scene: a textured background, distractor strokes, textured shapes.

A scene is planned first and drawn second. The plan holds the outline of every object on a raster
`SUPERSAMPLING` times finer than the image; objects of which too little stays visible are removed
from the plan, so whatever is drawn is also labelled and the labels never hide an object.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .textures import random_colour, random_texture

__all__ = ["SHAPE_NAMES", "SUPERSAMPLING", "Scene", "SceneObject", "draw_scene"]

SHAPE_NAMES = ("disc", "rectangle", "triangle", "star", "ring")
SUPERSAMPLING = 4

_EMPTY_SCENES = 0.1  # share of scenes without an object
_MAX_OBJECTS = 6
_SIZE_RANGE = (14 / 128, 84 / 128)  # longer side of a shape before rotation, share of the image
_MIN_ASPECT = 0.6
_RING_HOLE = 0.55  # radius of the hole as a share of the ring's own radius
_MIN_VISIBLE_SHARE = 0.4  # of the whole shape, also when the image border cuts it
_MIN_VISIBLE_PIXELS = 36.0


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        shape: index into `SHAPE_NAMES`.
        visible: (S*H, S*W) bool, the part of the object that no other object covers, on the
            raster that is S = `SUPERSAMPLING` times finer than the image.
    """

    shape: int
    visible: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A drawn scene: `image` is (H, W, 3) uint8 RGB, `objects` are in drawing order."""

    image: np.ndarray
    objects: tuple[SceneObject, ...]


def draw_scene(rng: np.random.Generator, size: int) -> Scene:
    """Plans and draws one square scene.

    Args:
        rng: source of all randomness; the same state gives the same scene.
        size: side of the image in pixels.

    Returns:
        The scene. Its objects may overlap and may be cut by the image border.
    """
    plan = _plan_objects(rng, size)
    canvas = random_texture(rng, (size, size), random_colour(rng), strength=1.0)
    _draw_strokes(rng, canvas)
    for _, outline in plan:
        _paint(rng, canvas, outline)
    covered = np.zeros((size * SUPERSAMPLING,) * 2, dtype=bool)
    objects = []
    for shape, outline in reversed(plan):
        objects.append(SceneObject(shape, outline & ~covered))
        covered |= outline
    return Scene(_photograph(rng, canvas), tuple(reversed(objects)))


def _plan_objects(rng: np.random.Generator, size: int) -> list[tuple[int, np.ndarray]]:
    """Samples (shape, fine outline raster) pairs, back to front, all of them visible enough."""
    if rng.random() < _EMPTY_SCENES:
        return []
    plan = []
    for _ in range(int(rng.integers(1, _MAX_OBJECTS + 1))):
        shape = int(rng.integers(len(SHAPE_NAMES)))
        outline, full_area = _outline(rng, shape, size)
        plan.append((shape, outline, full_area))
    while plan:
        worst, score = _least_visible(plan)
        if score >= 1.0:
            break
        del plan[worst]  # its neighbours can only gain, so judge them again
    return [(shape, outline) for shape, outline, _ in plan]


def _least_visible(plan: list[tuple[int, np.ndarray, float]]) -> tuple[int, float]:
    """Returns the index of the least visible object and its score; below 1 it must go."""
    covered = np.zeros_like(plan[0][1])
    scores = np.empty(len(plan))
    for index in range(len(plan) - 1, -1, -1):
        _, outline, full_area = plan[index]
        visible = np.count_nonzero(outline & ~covered)
        needed = max(
            _MIN_VISIBLE_SHARE * full_area, min(_MIN_VISIBLE_PIXELS * SUPERSAMPLING**2, full_area)
        )
        scores[index] = visible / needed
        covered |= outline
    worst = int(scores.argmin())
    return worst, float(scores[worst])


def _outline(rng: np.random.Generator, shape: int, size: int) -> tuple[np.ndarray, float]:
    """Rasterises one random shape; returns the fine raster and the area of the uncut shape."""
    low, high = (math.log(size * share) for share in _SIZE_RANGE)
    half = math.exp(rng.uniform(low, high)) / 2
    radii = np.array([half, half * rng.uniform(_MIN_ASPECT, 1.0)])
    angle = rng.uniform(0.0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = rng.uniform(0.04 * size, 0.96 * size, 2)

    raster = np.zeros((size * SUPERSAMPLING,) * 2, dtype=np.uint8)
    area = 0.0
    for sign, points in zip((1, -1), _unit_polygons(shape)):
        placed = (points * radii) @ turn.T + centre
        # cv2 counts from pixel centres; 8 fractional bits keep the outline below pixel precision
        fixed = np.round((placed * SUPERSAMPLING - 0.5) * 256).astype(np.int32)
        cv2.fillPoly(raster, [fixed], 1 if sign > 0 else 0, shift=8)
        area += sign * cv2.contourArea((placed * SUPERSAMPLING).astype(np.float32))
    return raster.astype(bool), area


def _unit_polygons(shape: int) -> tuple[np.ndarray, ...]:
    """Corner points (K, 2) of a shape in [-1, 1]; a second polygon is a hole in the first."""
    name = SHAPE_NAMES[shape]
    if name == "rectangle":
        return (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.8,)
    if name == "triangle":
        return (_on_circle(3),)
    if name == "star":
        radii = np.tile([1.0, 0.42], 5)
        return (_on_circle(10) * radii[:, None],)
    circle = _on_circle(64)
    return (circle, circle * _RING_HOLE) if name == "ring" else (circle,)


def _on_circle(count: int) -> np.ndarray:
    turns = np.arange(count) * (2 * math.pi / count)
    return np.stack([np.sin(turns), -np.cos(turns)], axis=1)


def _paint(rng: np.random.Generator, canvas: np.ndarray, outline: np.ndarray) -> None:
    """Blends a textured object into the canvas (H, W, 3) float32 in place, anti-aliased."""
    rows, columns = np.flatnonzero(outline.any(1)), np.flatnonzero(outline.any(0))
    step = SUPERSAMPLING
    top, bottom = rows[0] // step, rows[-1] // step + 1
    left, right = columns[0] // step, columns[-1] // step + 1
    height, width = bottom - top, right - left
    fine = outline[top * step : bottom * step, left * step : right * step]
    alpha = fine.reshape(height, step, width, step).mean((1, 3), dtype=np.float32)[..., None]
    under = canvas[top:bottom, left:right]
    behind = under.reshape(-1, 3).mean(0)
    contrast = 30.0 if rng.random() < 0.2 else 70.0
    colour = random_colour(rng, unlike=behind, distance=contrast)
    texture = random_texture(rng, (height, width), colour, strength=0.5)
    under += alpha * (texture - under)


def _draw_strokes(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Draws thin lines, open arcs and specks that belong to no class, under the objects."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(0, 7))):
        colour = tuple(float(value) for value in random_colour(rng))
        start = rng.uniform(0, size, 2)
        kind = rng.integers(3)
        if kind == 0:
            end = rng.uniform(0, size, 2)
            points = np.stack([start, end])
        elif kind == 1:
            first, span = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 3.0)
            turns = np.linspace(first, first + span, 24)
            points = start + rng.uniform(0.05, 0.3) * size * np.stack(
                [np.cos(turns), np.sin(turns)], axis=1
            )
        else:
            points = start + np.cumsum(rng.normal(0, 0.02 * size, (12, 2)), axis=0)
        fixed = np.round(points * 256).astype(np.int32)
        thickness = max(1, round(size / 128 * float(rng.choice([1, 1, 2]))))
        cv2.polylines(canvas, [fixed], False, colour, thickness, cv2.LINE_AA, shift=8)
    for _ in range(int(rng.integers(0, 12))):
        row, column = rng.integers(0, size - 2, 2)
        extent = rng.integers(1, 3, 2)
        canvas[row : row + extent[0], column : column + extent[1]] = random_colour(rng)


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Adds uneven light, a slight blur and sensor noise; returns uint8."""
    size = canvas.shape[0]
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    light = 1 + rng.uniform(-0.2, 0.2) * ramp[:, None] + rng.uniform(-0.2, 0.2) * ramp[None, :]
    image = canvas * light[..., None].astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.3, 0.8)) * size / 128)
    image += rng.normal(0, rng.uniform(2, 9), image.shape).astype(np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
