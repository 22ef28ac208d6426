// Where kernels run: on the current stream of the device of the tensors.
#pragma once

#include "launch.cuh"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstdint>

namespace ms_detr::cuda {

// Makes the device the current one for as long as it lives.
class StreamLauncher {
 public:
  explicit StreamLauncher(const c10::Device& device)
      : guard_(device), stream_(at::cuda::getCurrentCUDAStream()) {}

  // Far more than run at the same time: the device spreads blocks better than a loop in them would.
  // Only beyond that the kernels loop.
  static constexpr int64_t most_blocks = int64_t{1} << 20;

  template <typename... Parameters, typename... Values>
  void operator()(const Plan& plan, void (*kernel)(Parameters...), const Values&... values) const {
    kernel<<<dim3(plan.blocks, plan.images), kThreads, plan.shared_bytes, stream_>>>(values...);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  c10::cuda::CUDAGuard guard_;
  cudaStream_t stream_;
};

}  // namespace ms_detr::cuda
