// What the forward and the backward CUDA kernel share. See ms_deform_attn.h for letters and shapes.
#pragma once

#include "../ms_deform_attn.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>

namespace ms_detr {

constexpr int kMaxLevels = 32;
constexpr int kWarp = 32;
constexpr int kThreads = 256;

// Sizes of the levels, handed to the kernel by value: no copy to the device, and no wait for one.
struct Levels {
  int32_t height[kMaxLevels], width[kMaxLevels];
  int64_t start[kMaxLevels];  // first token
};

inline Levels make_levels(at::IntArrayRef shapes) {
  const size_t count = shapes.size() / 2;
  TORCH_CHECK_VALUE(
      count <= kMaxLevels, "ms_deform_attn: at most ", kMaxLevels, " levels on CUDA, got ", count,
      ": ", shapes);
  Levels levels{};
  int64_t start = 0;
  for (size_t l = 0; l < count; ++l) {
    levels.height[l] = static_cast<int32_t>(shapes[2 * l]);
    levels.width[l] = static_cast<int32_t>(shapes[2 * l + 1]);
    levels.start[l] = start;
    start += shapes[2 * l] * shapes[2 * l + 1];
  }
  return levels;
}

// Blocks for a grid-stride loop: enough to fill the device several times over, never more than the
// work.
inline unsigned int count_blocks(int64_t items, int64_t items_per_block) {
  const int64_t full = int64_t{at::cuda::getCurrentDeviceProperties()->multiProcessorCount} * 64;
  return static_cast<unsigned int>(std::min((items + items_per_block - 1) / items_per_block, full));
}

}  // namespace ms_detr
