// Backward pass: every team computes the gradients of one cell's samples, which nobody else writes
// to, and adds to those of the tokens, which other cells read too: atomically.
#pragma once

#include "corners.cuh"

namespace ms_detr::cuda {

template <typename T>
struct alignas(16) CornerDots : Corners<T> {
  T dot[4];  // gradient of the output times the corner's token
};

// Products of the gradient and a sample's tokens, this lane's channels of them, 0 outside the
// level. Adds to the tokens' gradients, unless grad_tokens is null.
template <typename scalar_t, typename T, int kVector>
__device__ inline void multiply_tokens(
    const Corners<T>& corners, const scalar_t* tokens, T* grad_tokens, int32_t stride,
    const T (&grad)[kVector], T (&dot)[4]) {
  T rows[4][kVector];
  load_corners(corners, tokens, stride, rows);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    if (corners.row[corner] < 0) {
      continue;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      dot[corner] += grad[i] * rows[corner][i];
    }
    if (grad_tokens != nullptr) {
      const int64_t at = static_cast<int64_t>(corners.row[corner]) * stride;
      add_vector(grad_tokens + at, corners.weight[corner], grad);
    }
  }
}

// The team's samples from `begin` on, `count` of them, whose dots are complete.
template <typename T, typename Front>
__device__ inline void store_gradients(
    const Call& call, const Front& front, const typename Front::Common& common, const Team& team,
    const Place& place, int32_t begin, int32_t count, const CornerDots<T>* records,
    const FrontGradients<T>& to) {
  for (int32_t i = team.lane; place.active && i < count; i += team.lanes) {
    const int32_t k = begin + i, level = k / call.points;
    const auto sample = front.sample(call, common, place, k, level);
    const Sample<T> gradient = sample_gradient(sample, call.level[level], records[i].dot);
    const int64_t at = place.cell * call.samples + k;
    to.shares[at] = gradient.weight;
    to.places[2 * at] = gradient.x;
    to.places[2 * at + 1] = gradient.y;
  }
}

// grad_value: sums, zeros before; or null where they are made in another way (deterministic.cuh).
template <typename scalar_t, int kVector, typename Front>
__global__ void __launch_bounds__(kThreads) backward_kernel(
    const Call call, const Front front, const int lanes, const scalar_t* __restrict__ grad,
    const scalar_t* __restrict__ value, Wide<scalar_t>* grad_value,
    const FrontGradients<Wide<scalar_t>> gradients) {
  using T = Wide<scalar_t>;
  const Team team(lanes);
  auto* records = team_records<CornerDots<T>>(team);
  for_each(call, call.queries, team, [&](const Place& place) {
    const auto common = front.begin(call, team, place);
    const int64_t image = place.image * call.tokens * call.stride;
    for (int32_t begin = 0; begin < call.samples; begin += kChunk) {
      const int32_t count = fill_records<T>(call, front, common, team, place, begin, records);
      // One turn, unless a head is wider than a warp.
      for (int32_t first = 0; first < call.channels; first += team.lanes * kVector) {
        const int32_t channel = first + team.lane * kVector;
        const bool busy = place.active && channel < call.channels;
        const int64_t column = image + int64_t{place.head} * call.channels + channel;
        T row[kVector] = {};
        if (busy) {
          load_vector(grad + place.cell * call.channels + channel, row);
        }
        for (int32_t i = 0; i < count; ++i) {
          T dot[4] = {};
          if (busy) {
            T* sums = grad_value == nullptr ? nullptr : grad_value + column;
            multiply_tokens<scalar_t>(records[i], value + column, sums, call.stride, row, dot);
          }
          const T sum = team.sum_of_four(dot);
          if (team.lane < 4) {
            records[i].dot[team.lane] = first == 0 ? sum : records[i].dot[team.lane] + sum;
          }
        }
      }
      __syncwarp();
      store_gradients(call, front, common, team, place, begin, count, records, gradients);
    }
    front.finish(call, common, team, place, gradients);
  });
}

}  // namespace ms_detr::cuda
