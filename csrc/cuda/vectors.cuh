// Neighbouring channels of one lane: kVector of them, 16 bytes, moved by one instruction; or one,
// where number or alignment of the channels does not allow that.
#pragma once

#include "call.h"

#include <cstring>

namespace ms_detr::cuda {

// Channels of a lane on the vector path.
template <typename scalar_t>
constexpr int kLaneChannels = static_cast<int>(16 / sizeof(scalar_t));

// `from` is only read during the kernel.
template <typename scalar_t, typename T, int n>
__device__ inline void load_vector(const scalar_t* from, T (&to)[n]) {
  if constexpr (n == 1) {
    to[0] = static_cast<T>(*from);
  } else {
    static_assert(n == kLaneChannels<scalar_t>);
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
    scalar_t parts[n];
    std::memcpy(parts, &bits, sizeof bits);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      to[i] = static_cast<T>(parts[i]);
    }
  }
}

template <typename scalar_t, typename T, int n>
__device__ inline void store_vector(scalar_t* to, const T (&from)[n]) {
  if constexpr (n == 1) {
    *to = static_cast<scalar_t>(from[0]);
  } else {
    static_assert(n == kLaneChannels<scalar_t>);
    scalar_t parts[n];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      parts[i] = static_cast<scalar_t>(from[i]);
    }
    uint4 bits;
    std::memcpy(&bits, parts, sizeof bits);
    *reinterpret_cast<uint4*>(to) = bits;
  }
}

// to[i] += factor * from[i], atomically for each number.
template <typename T, int n>
__device__ inline void add_vector(T* to, T factor, const T (&from)[n]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900  // adds four floats by one instruction
  if constexpr (sizeof(T) == sizeof(float) && n % 4 == 0) {
#pragma unroll
    for (int i = 0; i < n; i += 4) {
      const float4 four{
          factor * from[i], factor * from[i + 1], factor * from[i + 2], factor * from[i + 3]};
      atomicAdd(reinterpret_cast<float4*>(to + i), four);
    }
  } else
#endif
  {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      atomicAdd(to + i, factor * from[i]);
    }
  }
}

}  // namespace ms_detr::cuda
