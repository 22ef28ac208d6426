// Teams: the lanes of a warp that work on one cell, each on some of its channels. A team has 4, 8,
// 16 or 32 lanes, so that a warp holds 8 to 1 teams.
#pragma once

#include "call.h"

namespace ms_detr::cuda {

constexpr unsigned int kAllLanes = 0xffffffffu;

struct Team {
  int lanes, lane;
  int index, count;  // of the team in its block, and how many there are

  __device__ explicit Team(int size)
      : lanes(size),
        lane(static_cast<int>(threadIdx.x) % size),
        index(static_cast<int>(threadIdx.x) / size),
        count(kThreads / size) {}

  template <typename T>
  __device__ T sum(T x) const {
    for (int distance = 1; distance < lanes; distance *= 2) {
      x += __shfl_xor_sync(kAllLanes, x, distance);
    }
    return x;
  }

  // A NaN is passed over.
  template <typename T>
  __device__ T largest(T x) const {
    for (int distance = 1; distance < lanes; distance *= 2) {
      const T other = __shfl_xor_sync(kAllLanes, x, distance);
      x = other > x ? other : x;
    }
    return x;
  }

  // Lane i gets the sum of x[i % 4] over the team: each exchange halves what is left to be added
  // up.
  template <typename T>
  __device__ T sum_of_four(const T (&x)[4]) const {
    const bool odd = lane & 1, upper = lane & 2;
    T low = odd ? x[1] : x[0], high = odd ? x[3] : x[2];
    low += __shfl_xor_sync(kAllLanes, odd ? x[0] : x[1], 1);
    high += __shfl_xor_sync(kAllLanes, odd ? x[2] : x[3], 1);
    T kept = upper ? high : low;
    kept += __shfl_xor_sync(kAllLanes, upper ? low : high, 2);
    for (int distance = 4; distance < lanes; distance *= 2) {
      kept += __shfl_xor_sync(kAllLanes, kept, distance);
    }
    return kept;
  }
};

// The cell (or token) that a team works on.
struct Place {
  int64_t image;
  int64_t in_image;  // number within the image
  int64_t row;       // query (or token), counted over all images
  int32_t head;
  bool active;  // false for a team that has nothing to do beside busy ones

  __device__ int64_t cell(const Call& call) const { return image * call.cells + in_image; }
};

// Calls body(place) for every head of `rows` queries (or tokens) of each image; heads change
// fastest. All lanes of a block make the same number of steps, so that those of a warp can wait for
// each other inside.
template <typename Body>
__device__ inline void for_each(const Call& call, int64_t rows, const Team& team, Body body) {
  const int64_t count = rows * call.heads, step = int64_t{gridDim.x} * team.count;
  for (int64_t image = blockIdx.y; image < call.batch; image += gridDim.y) {
    for (int64_t first = int64_t{blockIdx.x} * team.count; first < count; first += step) {
      const int64_t number = first + team.index;
      // `count` is below 2^31: a division of 32 bits takes a fraction of the time of one of 64.
      const auto heads = static_cast<uint32_t>(call.heads);
      const uint32_t row = static_cast<uint32_t>(number) / heads;
      const auto head = static_cast<int32_t>(static_cast<uint32_t>(number) - row * heads);
      body(Place{image, number, image * rows + row, head, number < count});
    }
  }
}

}  // namespace ms_detr::cuda
