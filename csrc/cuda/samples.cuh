// Where the samples of a cell lie and what they weigh: read (plain operator), or computed from a
// reference, offsets and logits (fused operator). And the corners that they read, in shared memory.
#pragma once

#include "bilinear.h"
#include "team.cuh"

#include <cmath>

namespace ms_detr::cuda {

// Gradients of a front's inputs; reference has one more dimension, (B, N, H, L, r), and is summed
// over the heads by the caller.
template <typename T>
struct FrontGradients {
  T *places, *shares, *reference;
};

template <typename T>
struct PlainFront {
  explicit PlainFront(const Arguments& a)
      : locations(static_cast<const T*>(a.places)), weights(static_cast<const T*>(a.shares)) {}

  // What the samples of a cell have in common.
  struct Common {};
  __device__ Common begin(const Call&, const Team&, const Place&) const { return {}; }

  __device__ Sample<T> sample(
      const Call& call, const Common&, const Place& place, int32_t k, int32_t /*level*/) const {
    const int64_t at = place.cell(call) * call.samples + k;
    return {locations[2 * at], locations[2 * at + 1], weights[at]};
  }

  __device__ void finish(
      const Call&, const Common&, const Team&, const Place&, const FrontGradients<T>&) const {}

  const T *locations, *weights;
};

template <typename T>
struct FusedFront {
  explicit FusedFront(const Arguments& a)
      : reference(static_cast<const T*>(a.reference)),
        offsets(static_cast<const T*>(a.places)),
        logits(static_cast<const T*>(a.shares)),
        reference_size(a.reference_size) {}

  // Softmax: a sample weighs exp(logit - top) * factor.
  struct Common {
    T top, factor;
  };
  __device__ Common begin(const Call& call, const Team& team, const Place& place) const {
    const T* from = logits + place.cell(call) * call.samples;
    const int32_t count = place.active ? call.samples : 0;
    T top = -static_cast<T>(INFINITY), total = 0;
    for (int32_t k = team.lane; k < count; k += team.lanes) {
      top = from[k] > top ? from[k] : top;
    }
    top = team.largest(top);
    for (int32_t k = team.lane; k < count; k += team.lanes) {
      total += std::exp(from[k] - top);
    }
    return {top, T(1) / team.sum(total)};
  }

  __device__ T weight(const Call& call, const Common& common, const Place& place, int32_t k) const {
    return std::exp(logits[place.cell(call) * call.samples + k] - common.top) * common.factor;
  }

  // Center (0, 1), and size where it is a box (2, 3).
  __device__ const T* reference_of(const Call& call, const Place& place, int32_t level) const {
    return reference + (place.row * call.levels + level) * reference_size;
  }

  // What an offset along x (axis 0) or y (axis 1) is multiplied with.
  __device__ T step(const Call& call, const T* of_level, int32_t level, int axis) const {
    if (reference_size == 4) {
      return of_level[2 + axis] * (T(0.5) / T(call.points));
    }
    return T(1) / T(axis == 0 ? call.level[level].width : call.level[level].height);
  }

  __device__ Sample<T> sample(
      const Call& call, const Common& common, const Place& place, int32_t k, int32_t level) const {
    const T* of_level = reference_of(call, place, level);
    const T* offset = offsets + 2 * (place.cell(call) * call.samples + k);
    return {
        of_level[0] + offset[0] * step(call, of_level, level, 0),
        of_level[1] + offset[1] * step(call, of_level, level, 1), weight(call, common, place, k)};
  }

  // `to` holds the gradients of locations and weights, which become those of offsets and logits.
  __device__ void finish(
      const Call& call, const Common& common, const Team& team, const Place& place,
      const FrontGradients<T>& to) const {
    const int64_t first = place.cell(call) * call.samples;
    const int32_t count = place.active ? call.samples : 0;
    __syncwarp();  // all gradients of the cell are written
    sum_reference(call, team, place, to);
    T mean = 0;
    for (int32_t k = team.lane; k < count; k += team.lanes) {
      mean += weight(call, common, place, k) * to.shares[first + k];
    }
    mean = team.sum(mean);
    __syncwarp();  // and were read
    for (int32_t k = team.lane; k < count; k += team.lanes) {
      const int32_t level = k / call.points;
      const T* of_level = reference_of(call, place, level);
      to.shares[first + k] = weight(call, common, place, k) * (to.shares[first + k] - mean);
      to.places[2 * (first + k)] *= step(call, of_level, level, 0);
      to.places[2 * (first + k) + 1] *= step(call, of_level, level, 1);
    }
  }

  __device__ void sum_reference(
      const Call& call, const Team& team, const Place& place, const FrontGradients<T>& to) const {
    const int32_t count = place.active ? call.levels * reference_size : 0;
    const T unit = T(0.5) / T(call.points);
    for (int32_t i = team.lane; i < count; i += team.lanes) {
      const int32_t level = i / reference_size, entry = i % reference_size;
      const int64_t from = place.cell(call) * call.samples + level * call.points;
      T sum = 0;
      for (int32_t z = 0; z < call.points; ++z) {
        const int64_t at = 2 * (from + z) + entry % 2;
        sum += entry < 2 ? to.places[at] : to.places[at] * offsets[at] * unit;
      }
      to.reference[place.cell(call) * call.levels * reference_size + i] = sum;
    }
  }

  const T *reference, *offsets, *logits;
  int32_t reference_size;
};

// The tokens that a sample reads, and their weights. A corner outside the level has row -1: it is
// neither read nor written.
template <typename T>
struct alignas(16) Corners {
  T weight[4];
  int32_t row[4];
};

template <typename T>
__device__ inline void find_corners(const Sample<T>& sample, const Level& level, Corners<T>& to) {
  const Quad<T> quad = locate(sample, level);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const bool has = quad.touches && quad.has(corner, level);
    to.row[corner] = has ? quad.row(corner, level) : -1;
    to.weight[corner] = has ? sample.weight * corner_share(corner, quad.fx, quad.fy) : T(0);
  }
  if (!quad.touches) {
    // Nothing is read, but what is not finite must show.
    to.weight[0] = sample.unfit() + sample.weight * T(0);
  }
}

// A team looks at so many samples at a time. Their corners are found once, by as many lanes, and
// then used by all lanes.
constexpr int kChunk = 8;

// Shared memory of a team: kChunk records, and 16 bytes between teams, so that teams that read
// their records at the same time read from different banks.
template <typename Record>
constexpr size_t kTeamBytes = kChunk * sizeof(Record) + 16;

template <typename Record>
__device__ inline Record* team_records(const Team& team) {
  extern __shared__ uint4 shared_memory[];
  return reinterpret_cast<Record*>(shared_memory + team.index * (kTeamBytes<Record> / 16));
}

// Fills the records of samples [begin, begin + kChunk); returns how many there are.
template <typename T, typename Front, typename Record>
__device__ inline int32_t fill_records(
    const Call& call, const Front& front, const typename Front::Common& common, const Team& team,
    const Place& place, int32_t begin, Record* records) {
  const int32_t rest = call.samples - begin, count = rest < kChunk ? rest : kChunk;
  __syncwarp();  // the records before are no longer read
  for (int32_t i = team.lane; place.active && i < count; i += team.lanes) {
    const int32_t level = (begin + i) / call.points;
    const Sample<T> sample = front.sample(call, common, place, begin + i, level);
    find_corners<T>(sample, call.level[level], records[i]);
  }
  __syncwarp();
  return count;
}

}  // namespace ms_detr::cuda
