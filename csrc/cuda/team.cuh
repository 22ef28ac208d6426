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

// Pieces of work of one image, each for one block: one head of as many rows as the block has teams.
C10_HOST_DEVICE inline int64_t count_tiles(int64_t rows, int teams, int32_t heads) {
  return (rows + teams - 1) / teams * heads;
}

// The query (or token) and head that a team works on.
struct Place {
  int64_t image;
  int64_t row;  // query or token of the image
  int32_t head;
  bool active;   // false for a team that has nothing to do beside busy ones
  int64_t cell;  // (image, row, head) counted in this order

  __device__ int64_t cell_of_image(const Call& call) const { return row * call.heads + head; }
};

// Calls body(place) for every head of `rows` queries (or tokens) of each image. The teams of a
// block take the same head of neighbouring rows, which read many of the same tokens: they then find
// them in the first-level cache. All lanes of a block make the same number of steps, so that those
// of a warp can wait for each other inside.
template <typename Body>
__device__ inline void for_each(const Call& call, int64_t rows, const Team& team, Body body) {
  const auto heads = static_cast<uint32_t>(call.heads);
  const int64_t tiles = count_tiles(rows, team.count, call.heads);  // fewer than 2^32
  for (int64_t image = blockIdx.y; image < call.batch; image += gridDim.y) {
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const uint32_t group = static_cast<uint32_t>(tile) / heads;
      const auto head = static_cast<int32_t>(static_cast<uint32_t>(tile) - group * heads);
      const int64_t row = int64_t{group} * team.count + team.index;
      body(Place{image, row, head, row < rows, (image * rows + row) * call.heads + head});
    }
  }
}

}  // namespace ms_detr::cuda
