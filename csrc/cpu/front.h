// Where the samples of a cell lie and what they weigh: read (plain operator), or computed from a
// reference, offsets and logits (fused operator).
#pragma once

#include "corners.h"

#include <cstring>

namespace ms_detr::cpu {
namespace {

// Numbers that the fused operator computes on the way, `padded` each.
template <typename T>
struct Places {
  T* weight;               // softmax of the logits
  T *center_x, *center_y;  // reference point of each sample's level
  T *scale_x, *scale_y;    // what an offset is multiplied with, if the reference is a box
};

template <typename T>
struct Cell {
  Corners<T> corners;
  Geometry<T> geometry;  // backward pass only
  Places<T> places;      // fused operator only
};

MS_DETR_INLINE Vector<float> exponential(Vector<float> x) {
  // 2^n * e^r with |r| <= ln(2) / 2; below the smallest normal number the result is 0. A NaN fails
  // each comparison and stays.
  const Vector<float> low = broadcast<float>(-87.0f);
  const Indices<float> tiny = x < low;
  const Vector<float> clamped = tiny ? low : x;
  const Vector<float> shifted = clamped * 1.44269504f + 12582912.0f;  // rounds: 1.5 * 2^23
  const Vector<float> n = shifted - 12582912.0f;
  const Vector<float> r = (clamped - n * 0.693145752f) - n * 1.42860677e-6f;
  Vector<float> p = r * 1.3981999e-3f + 8.3334519e-3f;
  p = p * r + 4.1665796e-2f;
  p = p * r + 1.6666657e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  // The last bits of `shifted` hold n; moved to the exponent they are 2^n.
  const Indices<float> scale = (load_bits<Indices<float>>(&shifted) << 23) + 0x3f800000;
  const Vector<float> result = p * load_bits<Vector<float>>(&scale);
  return tiny ? Vector<float>{} : result;
}

MS_DETR_INLINE Vector<double> exponential(Vector<double> x) {
  for (int64_t i = 0; i < Simd<double>::kWidth; ++i) {
    x[i] = __builtin_exp(x[i]);
  }
  return x;
}

// `rest` numbers, then `filler`. Kept out of line, so that the usual whole vectors stay in
// registers.
template <typename T>
__attribute__((noinline)) void copy_part(const T* from, int64_t rest, T filler, T* to) {
  for (int64_t i = 0; i < Simd<T>::kWidth; ++i) {
    to[i] = i < rest ? from[i] : filler;
  }
}

template <typename T>
MS_DETR_INLINE Vector<T> load_some(const T* from, int64_t rest, T filler) {
  if (__builtin_expect(rest >= Simd<T>::kWidth, 1)) {
    return load(from);
  }
  alignas(MS_DETR_VECTOR_BYTES) T part[Simd<T>::kWidth];
  copy_part(from, rest, filler, part);
  return load(part);
}

// (x, y) of samples [j, j + width) from pairs; behind the last one: outside of every level.
template <typename T>
MS_DETR_INLINE void load_pairs(
    const T* pairs, int64_t j, int64_t count, Vector<T>* x, Vector<T>* y) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const T* from = pairs + 2 * j;
  const int64_t rest = 2 * (count - j);
  const Vector<T> a = load_some<T>(from, rest, -2);
  const Vector<T> b =
      rest > kWidth ? load_some<T>(from + kWidth, rest - kWidth, -2) : broadcast<T>(-2);
  *x = evens<T>(a, b);
  *y = odds<T>(a, b);
}

// softmax of `count` logits; behind them zeros.
template <typename T>
MS_DETR_INLINE void softmax(const T* logits, int64_t count, int64_t padded, T* to) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const T lowest = -static_cast<T>(__builtin_inff());
  Vector<T> most = broadcast<T>(lowest);
  for (int64_t j = 0; j < padded; j += kWidth) {
    most = larger(load_some<T>(logits + j, count - j, lowest), most);
  }
  T top = most[0];
  for (int64_t i = 1; i < kWidth; ++i) {
    top = most[i] > top ? most[i] : top;
  }
  Vector<T> total{};
  for (int64_t j = 0; j < padded; j += kWidth) {
    // lowest - top would be NaN if all logits are minus infinity; so be it: so are the weights.
    const Vector<T> e = exponential(load_some<T>(logits + j, count - j, lowest) - top);
    store_bits(to + j, e);
    total += e;
  }
  const T factor = 1 / sum_lanes<T>(total);
  for (int64_t j = 0; j < padded; j += kWidth) {
    store_bits(to + j, load(to + j) * factor);
  }
}

// Reference of one query, per sample.
template <typename T>
MS_DETR_INLINE void spread_reference(const Call<T>& call, int64_t query, const Places<T>& to) {
  const T* from = call.reference + query * call.levels * call.reference_size;
  int64_t j = 0;
  for (int64_t l = 0; l < call.levels; ++l, from += call.reference_size) {
    for (int64_t z = 0; z < call.points; ++z, ++j) {
      to.center_x[j] = from[0];
      to.center_y[j] = from[1];
      if (call.reference_size == 4) {
        to.scale_x[j] = from[2] * (T(0.5) / call.points);
        to.scale_y[j] = from[3] * (T(0.5) / call.points);
      }
    }
  }
}

// Fills `to` for one head of a query (counted over all images).
template <typename T, bool backward>
MS_DETR_INLINE void prepare_cell(
    const Call<T>& call, int64_t query, int64_t head, const Cell<T>& to) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t first = (query * call.heads + head) * call.samples;
  const SampleTables<T>& tables = call.tables;
  const Places<T>& places = to.places;
  const bool fused = call.reference_size != 0;
  if (fused) {
    spread_reference(call, query, places);
    softmax(call.shares + first, call.samples, tables.padded, places.weight);
  }
  for (int64_t j = 0; j < tables.padded; j += kWidth) {
    Vector<T> x, y, weight;
    load_pairs(call.places + 2 * first, j, call.samples, &x, &y);
    if (fused) {
      const bool box = call.reference_size == 4;
      x = box ? x * load(places.scale_x + j) : x / load(tables.width + j);
      y = box ? y * load(places.scale_y + j) : y / load(tables.height + j);
      x += load(places.center_x + j);
      y += load(places.center_y + j);
      weight = load(places.weight + j);
    } else {
      weight = load_some<T>(call.shares + first + j, call.samples - j, 0);
    }
    find_corners<T, backward>(tables, j, x, y, weight, to.corners, to.geometry);
  }
}

}  // namespace
}  // namespace ms_detr::cpu
