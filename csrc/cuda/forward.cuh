// Forward pass: every team sums up the tokens of one cell, its lanes neighbouring channels.
#pragma once

#include "corners.cuh"

namespace ms_detr::cuda {

// sums[..] += weight * token, over the corners of one sample.
template <typename scalar_t, typename T, int kVector>
__device__ inline void add_tokens(
    const Corners<T>& corners, const scalar_t* tokens, int32_t stride, T (&sums)[kVector]) {
  T rows[4][kVector];
  load_corners(corners, tokens, stride, rows);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      sums[i] += corners.weight[corner] * rows[corner][i];
    }
  }
}

template <typename scalar_t, int kVector, typename Front>
__global__ void __launch_bounds__(kThreads) forward_kernel(
    const Call call, const Front front, const int lanes, const scalar_t* __restrict__ value,
    scalar_t* __restrict__ output) {
  using T = Wide<scalar_t>;
  const Team team(lanes);
  auto* records = team_records<Corners<T>>(team);
  for_each(call, call.queries, team, [&](const Place& place) {
    const auto common = front.begin(call, team, place);
    const int64_t head = int64_t{place.head} * call.channels;
    // One turn, unless a head is wider than a warp.
    for (int32_t first = 0; first < call.channels; first += team.lanes * kVector) {
      const int32_t channel = first + team.lane * kVector;
      const bool busy = place.active && channel < call.channels;
      const scalar_t* tokens = value + place.image * call.tokens * call.stride + head + channel;
      T sums[kVector] = {};
      for (int32_t begin = 0; begin < call.samples; begin += kChunk) {
        const int32_t count = fill_records<T>(call, front, common, team, place, begin, records);
        for (int32_t i = 0; busy && i < count; ++i) {
          add_tokens(records[i], tokens, call.stride, sums);
        }
      }
      if (busy) {
        store_vector(output + place.cell * call.channels + channel, sums);
      }
    }
  });
}

}  // namespace ms_detr::cuda
