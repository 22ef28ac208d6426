// Gradients of what a cell's samples were computed from: positions and weights (plain operator), or
// reference, offsets and logits (fused operator).
#pragma once

#include "scratch.h"

namespace ms_detr::cpu {
namespace {

// The first `rest` numbers. Kept out of line, so that the usual whole vectors stay in registers.
template <typename T>
__attribute__((noinline)) void copy_first(T* to, const T* from, int64_t rest) {
  for (int64_t i = 0; i < rest; ++i) {
    to[i] = from[i];
  }
}

template <typename T>
MS_DETR_INLINE void store_some(T* to, Vector<T> v, int64_t rest) {
  if (__builtin_expect(rest >= Simd<T>::kWidth, 1)) {
    store_bits(to, v);
    return;
  }
  alignas(MS_DETR_VECTOR_BYTES) T all[Simd<T>::kWidth];
  store_bits(all, v);
  copy_first(to, all, rest);
}

template <typename T>
MS_DETR_INLINE void store_pairs(T* to, Vector<T> x, Vector<T> y, int64_t rest) {
  if (__builtin_expect(rest >= Simd<T>::kWidth, 1)) {
    store_zipped(to, x, y);
    return;
  }
  alignas(MS_DETR_VECTOR_BYTES) T all[2 * Simd<T>::kWidth];
  store_zipped(all, x, y);
  copy_first(to, all, 2 * rest);
}

// Gradients of the positions and weights of a cell's samples, `padded` numbers each.
template <typename T>
struct SampleGradients {
  T *x, *y, *weight;
};

// Products where the mask is -1, 0 where it is 0: the product of a corner outside its level is that
// of another token, and may be infinite.
template <typename T>
MS_DETR_INLINE Vector<T> keep(const T* products, Indices<T> mask) {
  const Indices<T> kept = load_bits<Indices<T>>(products) & mask;
  return load_bits<Vector<T>>(&kept);
}

// From the products of gradient and tokens, by the derivatives of the bilinear weights.
template <typename T>
MS_DETR_INLINE void sample_gradients(
    const SampleTables<T>& tables, const Geometry<T>& g, const T* products,
    const SampleGradients<T>& to) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  for (int64_t j = 0; j < tables.padded; j += kWidth) {
    const Indices<T> has_left = load(g.inside[0] + j), has_right = load(g.inside[1] + j);
    const Indices<T> has_upper = load(g.inside[2] + j), has_lower = load(g.inside[3] + j);
    const T* from = products + j;
    const Vector<T> dot[4] = {
        keep<T>(from, has_left & has_upper), keep<T>(from + tables.padded, has_right & has_upper),
        keep<T>(from + 2 * tables.padded, has_left & has_lower),
        keep<T>(from + 3 * tables.padded, has_right & has_lower)};
    const Vector<T> left = load(g.share[0] + j), right = load(g.share[1] + j);
    const Vector<T> upper = load(g.share[2] + j), lower = load(g.share[3] + j);
    const Vector<T> weight = load(g.weight + j), outside = load(g.outside + j);
    const Vector<T> sampled =
        upper * (left * dot[0] + right * dot[1]) + lower * (left * dot[2] + right * dot[3]);
    const Vector<T> along_x = upper * (dot[1] - dot[0]) + lower * (dot[3] - dot[2]);
    const Vector<T> along_y = left * (dot[2] - dot[0]) + right * (dot[3] - dot[1]);
    const Vector<T> none = outside - outside;  // 0, or NaN
    const auto reads = outside == 0;
    store_bits(to.weight + j, reads ? sampled : none);
    store_bits(to.x + j, reads ? weight * along_x * load(tables.width + j) : none);
    store_bits(to.y + j, reads ? weight * along_y * load(tables.height + j) : none);
  }
}

// Plain operator: gradients of locations and weights.
template <typename T>
MS_DETR_INLINE void store_plain(
    const Call<T>& call, int64_t first, const SampleGradients<T>& gradients) {
  for (int64_t j = 0; j < call.samples; j += Simd<T>::kWidth) {
    const int64_t rest = call.samples - j;
    store_some(call.grad_shares + first + j, load(gradients.weight + j), rest);
    store_pairs(
        call.grad_places + 2 * (first + j), load(gradients.x + j), load(gradients.y + j), rest);
  }
}

// Sums over the points of each level: gradient of the reference of this query, from this head.
template <typename T>
MS_DETR_INLINE void store_reference(
    const Call<T>& call, const T* offsets, const SampleGradients<T>& gradients, T* to) {
  const T unit = T(0.5) / call.points;
  int64_t j = 0;
  for (int64_t l = 0; l < call.levels; ++l, to += call.reference_size) {
    T sums[4] = {};
    for (int64_t z = 0; z < call.points; ++z, ++j) {
      sums[0] += gradients.x[j];
      sums[1] += gradients.y[j];
      sums[2] += gradients.x[j] * offsets[2 * j] * unit;
      sums[3] += gradients.y[j] * offsets[2 * j + 1] * unit;
    }
    for (int64_t i = 0; i < call.reference_size; ++i) {
      to[i] = sums[i];
    }
  }
}

// Fused operator: through the softmax and the sum of reference and scaled offset.
template <typename T>
MS_DETR_INLINE void store_fused(
    const Call<T>& call, int64_t first, const Places<T>& places,
    const SampleGradients<T>& gradients, T* grad_reference) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  store_reference(call, call.places + 2 * first, gradients, grad_reference);
  T mean = 0;
  for (int64_t k = 0; k < call.samples; ++k) {
    mean += places.weight[k] * gradients.weight[k];
  }
  for (int64_t j = 0; j < call.samples; j += kWidth) {
    const int64_t rest = call.samples - j;
    const Vector<T> weight = load(places.weight + j);
    store_some(call.grad_shares + first + j, weight * (load(gradients.weight + j) - mean), rest);
    Vector<T> x = load(gradients.x + j), y = load(gradients.y + j);
    if (call.reference_size == 4) {
      x *= load(places.scale_x + j);
      y *= load(places.scale_y + j);
    } else {
      x /= load(call.tables.width + j);
      y /= load(call.tables.height + j);
    }
    store_pairs(call.grad_places + 2 * (first + j), x, y, rest);
  }
}

}  // namespace
}  // namespace ms_detr::cpu
