// Multi-scale deformable attention on CUDA, forward and backward. All offsets are 64 bit; sums are
// float, or double for double values. See ms_deform_attn.h for letters and shapes.
#include "ms_deform_attn.cuh"

#include "bilinear.h"

#include <ATen/Context.h>
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>
#include <ATen/cuda/Atomic.cuh>

#include <cmath>
#include <tuple>

namespace ms_detr {
namespace {

// One thread per output number; neighbouring threads read neighbouring channels of the same token.
template <typename scalar_t, typename acc_t>
__global__ void __launch_bounds__(kThreads) forward_kernel(
    const scalar_t* __restrict__ value, const acc_t* __restrict__ locations,
    const acc_t* __restrict__ weights, scalar_t* __restrict__ output, const Sizes n,
    const Levels levels) {
  const int64_t count = n.batch * n.queries * n.heads * n.channels;
  const int64_t stride = n.heads * n.channels;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t index = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; index < count;
       index += step) {
    const int64_t cell_index = index / n.channels;  // (image, query, head)
    const int64_t image = cell_index / (n.heads * n.queries);
    const scalar_t* column = value + image * n.tokens * stride + index % stride;
    int64_t point = cell_index * n.levels * n.points;
    acc_t sum = 0;
    for (int l = 0; l < n.levels; ++l) {
      const int64_t height = levels.height[l], width = levels.width[l];
      const scalar_t* level = column + levels.start[l] * stride;
      for (int64_t z = 0; z < n.points; ++z, ++point) {
        const acc_t x = locations[2 * point], y = locations[2 * point + 1], weight = weights[point];
        const auto cell = locate(x, y, height, width);
        if (!cell.touches) {
          if (!is_finite(x) || !is_finite(y) || !is_finite(weight)) {
            sum = acc_t(NAN);
          }
          continue;
        }
        acc_t sampled = 0;
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          if (cell.has(corner, height, width)) {
            sampled +=
                cell.weight(corner) * static_cast<acc_t>(level[cell.row(corner, width) * stride]);
          }
        }
        sum += weight * sampled;
      }
    }
    output[index] = static_cast<scalar_t>(sum);
  }
}

template <typename T>
__device__ T warp_sum(T x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    x += __shfl_down_sync(0xffffffffu, x, offset);
  }
  return x;  // complete in lane 0 only
}

// One warp per (image, query, head). Its lanes share the channels; what depends on the sampling
// point alone is the same in all lanes, so that no branch around the shuffles diverges. Only
// grad_value needs atomics.
template <typename scalar_t, typename acc_t>
__global__ void __launch_bounds__(kThreads) backward_kernel(
    const scalar_t* __restrict__ grad, const scalar_t* __restrict__ value,
    const acc_t* __restrict__ locations, const acc_t* __restrict__ weights,
    acc_t* __restrict__ grad_value, acc_t* __restrict__ grad_locations,
    acc_t* __restrict__ grad_weights, const Sizes n, const Levels levels) {
  const int lane = threadIdx.x % kWarp;
  const int64_t count = n.batch * n.queries * n.heads;
  const int64_t stride = n.heads * n.channels;
  const int64_t warps = kThreads / kWarp;
  for (int64_t cell_index = blockIdx.x * warps + threadIdx.x / kWarp; cell_index < count;
       cell_index += gridDim.x * warps) {
    const int64_t image = cell_index / (n.heads * n.queries);
    const int64_t head = image * n.tokens * stride + (cell_index % n.heads) * n.channels;
    const scalar_t* grad_row = grad + cell_index * n.channels;
    int64_t point = cell_index * n.levels * n.points;
    for (int l = 0; l < n.levels; ++l) {
      const int64_t height = levels.height[l], width = levels.width[l];
      const int64_t level = head + levels.start[l] * stride;
      for (int64_t z = 0; z < n.points; ++z, ++point) {
        const acc_t x = locations[2 * point], y = locations[2 * point + 1], weight = weights[point];
        const auto cell = locate(x, y, height, width);
        acc_t dot[4] = {0, 0, 0, 0};
        if (cell.touches) {
#pragma unroll
          for (int corner = 0; corner < 4; ++corner) {
            if (!cell.has(corner, height, width)) {
              continue;
            }
            const int64_t token = level + cell.row(corner, width) * stride;
            const acc_t factor = weight * cell.weight(corner);
            for (int64_t i = lane; i < n.channels; i += kWarp) {
              const acc_t g = static_cast<acc_t>(grad_row[i]);
              dot[corner] += g * static_cast<acc_t>(value[token + i]);
              gpuAtomicAdd(grad_value + token + i, factor * g);
            }
          }
        }
#pragma unroll
        for (int corner = 0; corner < 4; ++corner) {
          dot[corner] = warp_sum(dot[corner]);
        }
        if (lane == 0) {
          PointGradient<acc_t> g{};
          if (cell.touches) {
            g = point_backward(dot, cell, weight, height, width);
          } else if (!is_finite(x) || !is_finite(y)) {
            g.weight = g.x = g.y = acc_t(NAN);
          }
          grad_weights[point] = g.weight;
          grad_locations[2 * point] = g.x;
          grad_locations[2 * point + 1] = g.y;
        }
      }
    }
  }
}

at::Tensor forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  const Levels levels = make_levels(shapes);
  const c10::cuda::CUDAGuard guard(value.device());
  const auto v = value.contiguous(), l = locations.contiguous(), w = weights.contiguous();
  auto output = at::empty({n.batch, n.queries, n.heads * n.channels}, v.options());
  if (output.numel() == 0) {
    return output;
  }
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, v.scalar_type(), "ms_deform_attn_cuda", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        forward_kernel<scalar_t, acc_t>
            <<<count_blocks(output.numel(), kThreads), kThreads, 0,
               at::cuda::getCurrentCUDAStream()>>>(
                v.const_data_ptr<scalar_t>(), l.const_data_ptr<acc_t>(), w.const_data_ptr<acc_t>(),
                output.mutable_data_ptr<scalar_t>(), n, levels);
        C10_CUDA_KERNEL_LAUNCH_CHECK();
      });
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_backward(grad, value, shapes, locations, weights);
  const Levels levels = make_levels(shapes);
  // Atomic additions come in any order: respected by torch.use_deterministic_algorithms.
  at::globalContext().alertNotDeterministic("ms_deform_attn_backward_cuda");
  const c10::cuda::CUDAGuard guard(value.device());
  const auto g = grad.contiguous(), v = value.contiguous(), l = locations.contiguous(),
             w = weights.contiguous();
  // locations have the type of the sums, so that gradients of half precision values are added up in
  // float.
  auto grad_value = at::zeros(v.sizes(), l.options());
  auto grad_locations = at::empty(l.sizes(), l.options());
  auto grad_weights = at::empty(w.sizes(), w.options());
  const int64_t cells = n.batch * n.queries * n.heads;
  if (cells > 0) {
    AT_DISPATCH_FLOATING_TYPES_AND2(
        at::kHalf, at::kBFloat16, v.scalar_type(), "ms_deform_attn_backward_cuda", [&] {
          using acc_t = at::opmath_type<scalar_t>;
          backward_kernel<scalar_t, acc_t>
              <<<count_blocks(cells, kThreads / kWarp), kThreads, 0,
                 at::cuda::getCurrentCUDAStream()>>>(
                  g.const_data_ptr<scalar_t>(), v.const_data_ptr<scalar_t>(),
                  l.const_data_ptr<acc_t>(), w.const_data_ptr<acc_t>(),
                  grad_value.mutable_data_ptr<acc_t>(), grad_locations.mutable_data_ptr<acc_t>(),
                  grad_weights.mutable_data_ptr<acc_t>(), n, levels);
          C10_CUDA_KERNEL_LAUNCH_CHECK();
        });
  }
  return {grad_value.to(v.scalar_type()), grad_locations, grad_weights};
}

}  // namespace
}  // namespace ms_detr

TORCH_LIBRARY_IMPL(ms_detr, CUDA, m) {
  m.impl("ms_deform_attn", &ms_detr::forward);
  m.impl("ms_deform_attn_backward", &ms_detr::backward);
}
