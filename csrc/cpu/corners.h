// The four tokens that every sample of a cell reads, and their weights: computed for a whole vector
// of samples at a time, without a branch.
#pragma once

#include "simd.h"

namespace ms_detr::cpu {
namespace {

// Of one cell; each pointer leads to `padded` numbers, one per sample, or to four times as many,
// corner after corner: upper left, upper right, lower left, lower right.
//
// A corner outside its level has weight 0 and the row of another corner of the sample, so that
// nothing is read beyond the level. A sample that is wholly outside reads the nearest token of its
// level, which others use at the same time, with weight 0, or NaN where its position or its weight
// is not finite.
template <typename T>
struct Corners {
  typename IndexOf<T>::type* row;  // four
  T* weight;                       // four
};

// For the backward pass.
template <typename T>
struct Geometry {
  T* share[4];  // of left, right, upper, lower tokens: bilinear, 0 outside the level
  typename IndexOf<T>::type* inside[4];  // -1 where left column, right column, upper row, lower row
                                         // are in the level, else 0
  T* weight;                             // of the sample
  T* outside;  // 0: the sample reads the level; 1: it does not; NaN: nor is its position finite
};

template <typename T>
struct Axis {
  Indices<T> low, high;          // clamped to the level
  Indices<T> has_low, has_high;  // -1 where it is in the level
  Vector<T> share_low, share_high;
};

template <typename T>
MS_DETR_INLINE Axis<T> split_axis(Vector<T> position, Indices<T> size) {
  const Indices<T> low = floor_index<T>(position), high = low + 1, zero{};
  const Vector<T> fraction = position - to_float<T>(low);
  Axis<T> axis;
  axis.has_low = low >= zero;
  axis.has_high = high < size;
  axis.low = larger(low, zero);
  axis.high = axis.has_high ? high : axis.low;
  axis.share_low = axis.has_low ? 1 - fraction : Vector<T>{};
  axis.share_high = axis.has_high ? fraction : Vector<T>{};
  return axis;
}

// Between the centres of the first and the last pixel; 0 for NaN.
template <typename T>
MS_DETR_INLINE Vector<T> nearest(Vector<T> position, Vector<T> size) {
  return smaller(larger(position, Vector<T>{}), size - 1);
}

// Samples [j, j + width): positions (x, y) as fractions of the level, weights.
template <typename T, bool backward>
MS_DETR_INLINE void find_corners(
    const SampleTables<T>& tables, int64_t j, Vector<T> x, Vector<T> y, Vector<T> weight,
    const Corners<T>& to, const Geometry<T>& geometry) {
  const Vector<T> width = load(tables.width + j), height = load(tables.height + j), zero{};
  const Indices<T> columns = load(tables.columns + j), rows = load(tables.rows + j);
  const Vector<T> px = x * width - T(0.5), py = y * height - T(0.5);
  // Compared as floating point numbers, before the conversion to integers: NaN and huge numbers
  // fail.
  const Indices<T> touches = (px >= T(-1)) & (px < width) & (py >= T(-1)) & (py < height);
  const Axis<T> h = split_axis<T>(touches ? px : nearest<T>(px, width), columns);
  const Axis<T> v = split_axis<T>(touches ? py : nearest<T>(py, height), rows);
  const Vector<T> unfit = (x - x) + (y - y);  // NaN unless both are finite, then 0
  // In the backward pass a token gets no gradient from where it was not read.
  const Vector<T> used = touches ? weight : backward ? zero : unfit + weight * 0;

  const Indices<T> start = load(tables.start + j);
  const Indices<T> upper = start + v.low * columns, lower = start + v.high * columns;
  const Vector<T> upper_weight = used * v.share_low, lower_weight = used * v.share_high;
  const int64_t n = tables.padded;
  store_bits(to.row + j, upper + h.low);
  store_bits(to.row + n + j, upper + h.high);
  store_bits(to.row + 2 * n + j, lower + h.low);
  store_bits(to.row + 3 * n + j, lower + h.high);
  store_bits(to.weight + j, upper_weight * h.share_low);
  store_bits(to.weight + n + j, upper_weight * h.share_high);
  store_bits(to.weight + 2 * n + j, lower_weight * h.share_low);
  store_bits(to.weight + 3 * n + j, lower_weight * h.share_high);
  if constexpr (backward) {
    const Vector<T> one = broadcast<T>(1);
    store_bits(geometry.share[0] + j, h.share_low);
    store_bits(geometry.share[1] + j, h.share_high);
    store_bits(geometry.share[2] + j, v.share_low);
    store_bits(geometry.share[3] + j, v.share_high);
    store_bits(geometry.inside[0] + j, h.has_low);
    store_bits(geometry.inside[1] + j, h.has_high);
    store_bits(geometry.inside[2] + j, v.has_low);
    store_bits(geometry.inside[3] + j, v.has_high);
    store_bits(geometry.weight + j, weight);
    store_bits(geometry.outside + j, touches ? zero : one + unfit);
  }
}

}  // namespace
}  // namespace ms_detr::cpu
