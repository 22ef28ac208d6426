// Starts the kernels of csrc/cuda on the emulator, as StreamLauncher does on a GPU.
#pragma once

#include "launch.cuh"
#include "simt.h"

struct Launcher {
  template <typename... Parameters, typename... Values>
  void operator()(
      const ms_detr::cuda::Plan& plan, void (*kernel)(Parameters...),
      const Values&... values) const {
    simt::Grid grid(plan.blocks, plan.images, ms_detr::cuda::kThreads, plan.shared_bytes, seed);
    grid.run([&] { kernel(values...); });
  }

  int64_t most_blocks;
  uint64_t seed;
};
