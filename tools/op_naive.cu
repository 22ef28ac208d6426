// The algorithm of the first CUDA kernels for deformable attention, written from the definition as
// a baseline for tools/benchmark_op.py: one thread for each channel, which computes positions and
// bilinear weights of every sample again; one scalar atomic addition for each channel and corner;
// gradients of a sample summed up over the channels in shared memory. Single precision only. No
// part of the package; tools/op_naive.py builds it when it is asked for.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstdint>
#include <tuple>

namespace {

struct Sizes {
  int tokens, heads, channels, queries, levels, points;
};

// One sampling point on one level, for the channel that `at` is behind.
struct Point {
  int height, width, x0, y0;
  float fx, fy;
  bool touches;

  __device__ Point(float x, float y, int rows, int columns) : height(rows), width(columns) {
    const float px = x * columns - 0.5f, py = y * rows - 0.5f;
    touches = px > -1 && py > -1 && px < columns && py < rows;
    x0 = static_cast<int>(floorf(px));
    y0 = static_cast<int>(floorf(py));
    fx = px - x0;
    fy = py - y0;
  }
  __device__ bool has(int corner) const {
    const int x = x0 + (corner & 1), y = y0 + (corner >> 1);
    return x >= 0 && y >= 0 && x < width && y < height;
  }
  __device__ int64_t row(int corner) const {
    return int64_t{y0 + (corner >> 1)} * width + x0 + (corner & 1);
  }
  __device__ float share(int corner) const {
    return ((corner & 1) ? fx : 1 - fx) * ((corner >> 1) ? fy : 1 - fy);
  }
};

__global__ void forward_kernel(
    int64_t count, Sizes n, const float* value, const int64_t* shapes, const int64_t* starts,
    const float* locations, const float* weights, float* output) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t index = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; index < count;
       index += step) {
    const int channel = index % n.channels;
    const int64_t cell = index / n.channels;
    const int head = cell % n.heads;
    const int64_t image = cell / n.heads / n.queries;
    int64_t point = cell * n.levels * n.points;
    float sum = 0;
    for (int l = 0; l < n.levels; ++l) {
      const float* level =
          value + ((image * n.tokens + starts[l]) * n.heads + head) * n.channels + channel;
      for (int z = 0; z < n.points; ++z, ++point) {
        const Point p(
            locations[2 * point], locations[2 * point + 1], static_cast<int>(shapes[2 * l]),
            static_cast<int>(shapes[2 * l + 1]));
        float sampled = 0;
        for (int corner = 0; p.touches && corner < 4; ++corner) {
          if (p.has(corner)) {
            sampled += p.share(corner) * level[p.row(corner) * n.heads * n.channels];
          }
        }
        sum += weights[point] * sampled;
      }
    }
    output[index] = sum;
  }
}

// One block for each query and head, one thread for each channel.
__global__ void backward_kernel(
    Sizes n, const float* grad, const float* value, const int64_t* shapes, const int64_t* starts,
    const float* locations, const float* weights, float* grad_value, float* grad_locations,
    float* grad_weights) {
  extern __shared__ float parts[];  // of x, y and the weight, from each channel
  const int channel = threadIdx.x;
  const int64_t cell = blockIdx.x;
  const int head = cell % n.heads;
  const int64_t image = cell / n.heads / n.queries;
  const float g = grad[cell * n.channels + channel];
  int64_t point = cell * n.levels * n.points;
  for (int l = 0; l < n.levels; ++l) {
    const int64_t first = ((image * n.tokens + starts[l]) * n.heads + head) * n.channels + channel;
    for (int z = 0; z < n.points; ++z, ++point) {
      const Point p(
          locations[2 * point], locations[2 * point + 1], static_cast<int>(shapes[2 * l]),
          static_cast<int>(shapes[2 * l + 1]));
      const float weight = weights[point];
      float along_x = 0, along_y = 0, sampled = 0;
      for (int corner = 0; p.touches && corner < 4; ++corner) {
        if (p.has(corner)) {
          const int64_t at = first + p.row(corner) * n.heads * n.channels;
          const float product = g * value[at];
          along_x += ((corner & 1) ? 1 : -1) * ((corner >> 1) ? p.fy : 1 - p.fy) * product;
          along_y += ((corner >> 1) ? 1 : -1) * ((corner & 1) ? p.fx : 1 - p.fx) * product;
          sampled += p.share(corner) * product;
          atomicAdd(grad_value + at, weight * p.share(corner) * g);
        }
      }
      parts[3 * channel] = weight * along_x * p.width;
      parts[3 * channel + 1] = weight * along_y * p.height;
      parts[3 * channel + 2] = sampled;
      __syncthreads();
      if (channel == 0) {
        float sums[3] = {};
        for (int i = 0; i < 3 * n.channels; ++i) {
          sums[i % 3] += parts[i];
        }
        grad_locations[2 * point] = sums[0];
        grad_locations[2 * point + 1] = sums[1];
        grad_weights[point] = sums[2];
      }
      __syncthreads();
    }
  }
}

Sizes sizes_of(const at::Tensor& value, const at::Tensor& locations) {
  return {static_cast<int>(value.size(1)),     static_cast<int>(value.size(2)),
          static_cast<int>(value.size(3)),     static_cast<int>(locations.size(1)),
          static_cast<int>(locations.size(3)), static_cast<int>(locations.size(4))};
}

// shapes: (L, 2) and starts: (L), int64 on the device; all others contiguous float32.
at::Tensor forward(
    const at::Tensor& value, const at::Tensor& shapes, const at::Tensor& starts,
    const at::Tensor& locations, const at::Tensor& weights) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Sizes n = sizes_of(value, locations);
  auto output = at::empty({value.size(0), n.queries, n.heads * n.channels}, value.options());
  constexpr int kThreads = 1024;
  const auto blocks = static_cast<unsigned int>((output.numel() + kThreads - 1) / kThreads);
  forward_kernel<<<blocks, kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      output.numel(), n, value.const_data_ptr<float>(), shapes.const_data_ptr<int64_t>(),
      starts.const_data_ptr<int64_t>(), locations.const_data_ptr<float>(),
      weights.const_data_ptr<float>(), output.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& value, const at::Tensor& shapes,
    const at::Tensor& starts, const at::Tensor& locations, const at::Tensor& weights) {
  const c10::cuda::CUDAGuard guard(value.device());
  const Sizes n = sizes_of(value, locations);
  auto grad_value = at::zeros_like(value), grad_locations = at::zeros_like(locations),
       grad_weights = at::zeros_like(weights);
  const auto blocks = static_cast<unsigned int>(value.size(0) * n.queries * n.heads);
  backward_kernel<<<
      blocks, n.channels, 3 * n.channels * sizeof(float), c10::cuda::getCurrentCUDAStream()>>>(
      n, grad.const_data_ptr<float>(), value.const_data_ptr<float>(),
      shapes.const_data_ptr<int64_t>(), starts.const_data_ptr<int64_t>(),
      locations.const_data_ptr<float>(), weights.const_data_ptr<float>(),
      grad_value.mutable_data_ptr<float>(), grad_locations.mutable_data_ptr<float>(),
      grad_weights.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY(ms_detr_naive, m) {
  m.def(
      "forward(Tensor value, Tensor shapes, Tensor starts, Tensor locations, Tensor weights) -> "
      "Tensor");
  m.def(
      "backward(Tensor grad, Tensor value, Tensor shapes, Tensor starts, Tensor locations, Tensor "
      "weights) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(ms_detr_naive, CUDA, m) {
  m.impl("forward", &forward);
  m.impl("backward", &backward);
}
