// Gradient of the value without atomics, for torch.use_deterministic_algorithms: instead of samples
// that add to tokens, tokens that collect from samples, in an order that does not depend on time.
//
// Three steps per image: a key for each sample (head, and the patch that it lies in); a stable sort
// of the samples by their keys, done by torch; every token then adds up the samples of the four
// patches around it.
#pragma once

#include "samples.cuh"
#include "vectors.cuh"

namespace ms_detr::cuda {

// What a token needs to know of a sample beside its patch.
template <typename T>
struct alignas(16) Share {
  T weight, fx, fy;
  int32_t cell;  // of the image
};

// keys and shares: (N, H, K) of one image, call.batch is 1. Samples outside their level get the key
// behind all others.
template <typename Front, typename T>
__global__ void __launch_bounds__(kThreads) key_kernel(
    const Call call, const Front front, const int lanes, int64_t* __restrict__ keys,
    Share<T>* __restrict__ shares) {
  const Team team(lanes);
  for_each(call, call.queries, team, [&](const Place& place) {
    const auto common = front.begin(call, team, place);
    for (int32_t k = team.lane; place.active && k < call.samples; k += team.lanes) {
      const int32_t l = k / call.points;
      const Level& level = call.level[l];
      const Sample<T> sample = front.sample(call, common, place, k, l);
      const Quad<T> quad = locate(sample, level);
      const int64_t patch =
          level.first_patch + int64_t{quad.y0 + 1} * (level.width + 1) + quad.x0 + 1;
      const int64_t at = place.cell_of_image(call) * call.samples + k;
      keys[at] = quad.touches ? place.head * call.patches + patch : call.heads * call.patches;
      shares[at] = {
          sample.weight, quad.fx, quad.fy, static_cast<int32_t>(place.cell_of_image(call))};
    }
  });
}

// order: samples by key, (N * H * K); starts: where in it each key begins, (H * patches + 1).
template <typename scalar_t, int kVector>
__global__ void __launch_bounds__(kThreads) collect_kernel(
    const Call call, const int lanes, const scalar_t* __restrict__ grad,
    const int64_t* __restrict__ order, const int64_t* __restrict__ starts,
    const Share<Wide<scalar_t>>* __restrict__ shares, scalar_t* __restrict__ grad_value) {
  using T = Wide<scalar_t>;
  const Team team(lanes);
  for_each(call, call.tokens, team, [&](const Place& place) {
    int32_t l = call.levels - 1;
    while (place.active && place.row < call.level[l].start) {
      --l;
    }
    const Level& level = call.level[l];
    const auto token = static_cast<int32_t>(place.row) - level.start;
    const int32_t y = token / level.width, x = token % level.width;
    const int64_t first_key = place.head * call.patches + level.first_patch;
    for (int32_t channel = team.lane * kVector; place.active && channel < call.channels;
         channel += team.lanes * kVector) {
      T sums[kVector] = {};
      for (int corner = 0; corner < 4; ++corner) {  // that the token is of the sample's four
        const int64_t key =
            first_key + int64_t{y + 1 - (corner >> 1)} * (level.width + 1) + x + 1 - (corner & 1);
        for (int64_t i = starts[key]; i < starts[key + 1]; ++i) {
          const Share<T> share = shares[order[i]];
          const T factor = share.weight * corner_share(corner, share.fx, share.fy);
          T row[kVector];
          load_vector(grad + int64_t{share.cell} * call.channels + channel, row);
#pragma unroll
          for (int j = 0; j < kVector; ++j) {
            sums[j] += factor * row[j];
          }
        }
      }
      store_vector(grad_value + place.cell * call.channels + channel, sums);
    }
  });
}

}  // namespace ms_detr::cuda
