// Where the samples of a cell lie and what they weigh: read (plain operator), or computed from a
// reference, offsets and logits (fused operator).
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
    const int64_t at = place.cell * call.samples + k;
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
    const T* from = logits + place.cell * call.samples;
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
    return std::exp(logits[place.cell * call.samples + k] - common.top) * common.factor;
  }

  // Center (0, 1), and size where it is a box (2, 3).
  __device__ const T* reference_of(const Call& call, const Place& place, int32_t level) const {
    return reference +
           ((place.image * call.queries + place.row) * call.levels + level) * reference_size;
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
    const T* offset = offsets + 2 * (place.cell * call.samples + k);
    return {
        of_level[0] + offset[0] * step(call, of_level, level, 0),
        of_level[1] + offset[1] * step(call, of_level, level, 1), weight(call, common, place, k)};
  }

  // `to` holds the gradients of locations and weights, which become those of offsets and logits.
  __device__ void finish(
      const Call& call, const Common& common, const Team& team, const Place& place,
      const FrontGradients<T>& to) const {
    const int64_t first = place.cell * call.samples;
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
      const int64_t from = place.cell * call.samples + level * call.points;
      T sum = 0;
      for (int32_t z = 0; z < call.points; ++z) {
        const int64_t at = 2 * (from + z) + entry % 2;
        sum += entry < 2 ? to.places[at] : to.places[at] * offsets[at] * unit;
      }
      to.reference[place.cell * call.levels * reference_size + i] = sum;
    }
  }

  const T *reference, *offsets, *logits;
  int32_t reference_size;
};

}  // namespace ms_detr::cuda
