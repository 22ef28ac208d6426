"""Inputs of both operators, and their results by definition: loops over samples and corners, in
float64, with gradients written out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch

SHAPES = ((11, 13), (6, 7), (3, 4), (2, 2), (1, 1))


def attend(value, shapes, locations, weights, grad):
    """Output and gradients of value, locations and weights, by definition: corner by corner."""
    output = np.zeros(grad.shape)
    of_value, of_locations, of_weights = (np.zeros(a.shape) for a in (value, locations, weights))
    for b, q, h, level, z in np.ndindex(weights.shape):
        height, width = shapes[level]
        start = sum(rows * columns for rows, columns in shapes[:level])
        x, y = locations[b, q, h, level, z] * (width, height) - 0.5
        weight = weights[b, q, h, level, z]
        channels = slice(h * value.shape[3], (h + 1) * value.shape[3])
        for column in (math.floor(x), math.floor(x) + 1):
            for row in (math.floor(y), math.floor(y) + 1):
                if not (0 <= column < width and 0 <= row < height):
                    continue
                near_x, near_y = 1 - abs(x - column), 1 - abs(y - row)
                token = b, start + row * width + column, h
                output[b, q, channels] += weight * near_x * near_y * value[token]
                of_value[token] += weight * near_x * near_y * grad[b, q, channels]
                product = value[token] @ grad[b, q, channels]
                of_weights[b, q, h, level, z] += near_x * near_y * product
                of_locations[b, q, h, level, z] += (
                    weight
                    * product
                    * np.array(
                        [width * np.sign(column - x) * near_y, height * np.sign(row - y) * near_x]
                    )
                )
    return output, of_value, of_locations, of_weights


def make(dtype, channels, levels, points, queries, *, reference_size=2, batch=2, heads=2, seed=0):
    """Inputs of both operators; some points lie partly or wholly outside of their level."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = SHAPES[:levels]
    tokens = sum(height * width for height, width in shapes)
    cells = batch, queries, heads

    def random(*size):
        return torch.randn(*size, generator=generator)

    return SimpleNamespace(
        shapes=shapes,
        flat=[side for pair in shapes for side in pair],
        value=random(batch, tokens, heads, channels).to(dtype),
        grad=random(batch, queries, heads * channels).to(dtype),
        locations=(0.5 + 0.4 * random(*cells, levels, points, 2)).to(wide),
        weights=random(*cells, levels, points).to(wide),
        reference=torch.rand(
            batch, queries, levels, reference_size, generator=generator, dtype=wide
        ),
        offsets=(2 * random(*cells, levels, points, 2)).to(wide),
        logits=(2 * random(*cells, levels * points)).to(wide),
    )


def expected_plain(x):
    arrays = (t.double().numpy() for t in (x.locations, x.weights, x.grad))
    results = attend(x.value.double().numpy(), x.shapes, *arrays)
    return [torch.from_numpy(a) for a in results]


def expected_fused(x):
    leaves = [t.double().requires_grad_() for t in (x.reference, x.offsets, x.logits)]
    reference, offsets, logits = leaves
    weights = logits.softmax(-1).view(offsets.shape[:5])
    if reference.shape[-1] == 4:
        unit = reference[..., 2:] / (2 * offsets.shape[4])
    else:
        unit = 1 / torch.tensor([(w, h) for h, w in x.shapes], dtype=torch.float64)
        unit = unit.expand_as(reference)
    places = reference[:, :, None, :, None, :2] + offsets * unit[:, :, None, :, None]
    x = SimpleNamespace(**{**vars(x), "locations": places.detach(), "weights": weights.detach()})
    output, of_value, of_places, of_weights = expected_plain(x)
    of_inputs = torch.autograd.grad((places, weights), leaves, (of_places, of_weights))
    return [output, of_value, *of_inputs]
