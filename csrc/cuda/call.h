// One call of a CUDA kernel in plain data: no header of torch beyond the number types, so that the
// kernels can be compiled for a processor too (tests/ops/emulator).
//
// Letters: see ms_deform_attn.h. A `sample` is one of the L * Z points of a query and head; a
// `cell` is one query and head; cells are counted in the order image, query, head.
#pragma once

#include "../sizes.h"

#include <c10/macros/Macros.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>

namespace ms_detr::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = 128;
constexpr int kMaxLevels = 32;

// Storage of values, outputs and their gradients. Everything else, and all sums, are Wide numbers.
enum class Kind { kFloat, kDouble, kHalf, kBFloat16 };

template <typename scalar_t>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <typename scalar_t>
using Wide = typename WideOf<scalar_t>::type;

// A patch is a place between four pixels: (height + 1) * (width + 1) of them, those at the border
// included.
struct Level {
  int32_t height, width;
  int32_t start;        // first token
  int64_t first_patch;  // of the level, among the patches of all levels
};

// Sizes, handed to the kernels by value: no copy to the device, and no wait for one.
struct Call {
  int64_t batch, tokens, queries;
  int32_t heads, channels, levels, points, samples;
  int32_t stride;   // numbers between two tokens: heads * channels
  int64_t cells;    // of one image: queries * heads
  int64_t patches;  // of one head of one image
  Level level[kMaxLevels];
};

// All sizes fit: see check_sizes in tensors.cuh. shapes: h0, w0, h1, w1, ..
inline Call make_call(const Sizes& n, const int64_t* shapes) {
  Call call{};
  call.batch = n.batch;
  call.tokens = n.tokens;
  call.queries = n.queries;
  call.heads = static_cast<int32_t>(n.heads);
  call.channels = static_cast<int32_t>(n.channels);
  call.levels = static_cast<int32_t>(n.levels);
  call.points = static_cast<int32_t>(n.points);
  call.samples = static_cast<int32_t>(n.levels * n.points);
  call.stride = static_cast<int32_t>(n.heads * n.channels);
  call.cells = n.queries * n.heads;
  int64_t start = 0;
  for (int64_t l = 0; l < n.levels; ++l) {
    const int64_t height = shapes[2 * l], width = shapes[2 * l + 1];
    call.level[l] = {
        static_cast<int32_t>(height), static_cast<int32_t>(width), static_cast<int32_t>(start),
        call.patches};
    start += height * width;
    call.patches += (height + 1) * (width + 1);
  }
  return call;
}

// Pointers of one call. Plain operator: `places` are locations, `shares` are weights, and there is
// no reference. Fused operator: offsets and logits.
struct Arguments {
  Kind kind;
  Call call;
  const void *value, *places, *shares, *reference;
  int32_t reference_size;  // 2 or 4; 0 in the plain operator
};

}  // namespace ms_detr::cuda
