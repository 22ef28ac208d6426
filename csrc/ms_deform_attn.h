// Multi-scale deformable attention: what the CPU and the CUDA kernels share.
//
// Letters: B images, S tokens of all levels, H heads, c channels of a head, N queries, L levels, Z
// points of a level.
//   value      (B, S, H, c)        tokens, level after level, each level row by row
//   shapes     h0, w0, h1, w1, ..  sizes of the L levels
//   locations  (B, N, H, L, Z, 2)  (x, y) as fractions of each level's width and height
//   weights    (B, N, H, L, Z)
//   output     (B, N, H * c)
// The fused operators compute locations and weights on the way, from
//   reference  (B, N, L, r)        r = 2: points, or r = 4: boxes (center, size); fractions
//   offsets    (B, N, H, L, Z, 2)  in pixels of the level (r = 2), or in units of half the box's
//   size
//                                  divided by Z (r = 4)
//   logits     (B, N, H, L * Z)    weights before the softmax over the last dimension
// The schema of all operators, and their registration for autograd, autocast and tracing, are in
// projects/ms_detr/ops/registration.py.
#pragma once

#include "sizes.h"

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

namespace ms_detr {

// Checks everything that the kernels rely on; throws a ValueError that names the argument and the
// shapes.
Sizes check_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights);

Sizes check_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights);

Sizes check_fused_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits);

Sizes check_fused_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits);

}  // namespace ms_detr
