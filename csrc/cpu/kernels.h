// Included once for every instruction set, after MS_DETR_VECTOR_BYTES was defined and the target
// chosen: the tables of its kernels.
#pragma once

#include "backward.h"
#include "dropout.h"

namespace ms_detr::cpu {
namespace {

template <typename T, typename S>
MS_DETR_INLINE void gather_rows(
    const S* from, int64_t stride, int64_t channels, int64_t begin, int64_t end, int64_t padded,
    T* to) {
  for (int64_t row = begin; row < end; ++row) {
    load_row(to + row * padded, from + row * stride, channels, padded);
  }
}

template <typename T>
void gather_head(
    const Rows& from, int64_t channels, int64_t begin, int64_t end, int64_t padded, T* to) {
  if constexpr (sizeof(T) == sizeof(double)) {
    const auto* data = static_cast<const double*>(from.data);
    gather_rows(data, from.stride, channels, begin, end, padded, to);
  } else if (from.kind == Kind::kFloat) {
    const auto* data = static_cast<const float*>(from.data);
    gather_rows(data, from.stride, channels, begin, end, padded, to);
  } else if (from.kind == Kind::kBFloat16) {
    const auto* data = static_cast<const BFloat16*>(from.data);
    gather_rows(data, from.stride, channels, begin, end, padded, to);
  } else {
    const auto* data = static_cast<const Half*>(from.data);
    gather_rows(data, from.stride, channels, begin, end, padded, to);
  }
}

template <typename T, typename S>
MS_DETR_INLINE void scatter_rows(
    const T* from, int64_t channels, int64_t begin, int64_t end, int64_t padded, S* to,
    int64_t stride) {
  for (int64_t row = begin; row < end; ++row) {
    store_row(to + row * stride, from + row * padded, channels);
  }
}

template <typename T>
void scatter_head(
    const T* from, int64_t channels, int64_t begin, int64_t end, int64_t padded, void* to,
    Kind kind, int64_t stride) {
  if constexpr (sizeof(T) == sizeof(double)) {
    scatter_rows(from, channels, begin, end, padded, static_cast<double*>(to), stride);
  } else if (kind == Kind::kFloat) {
    scatter_rows(from, channels, begin, end, padded, static_cast<float*>(to), stride);
  } else if (kind == Kind::kBFloat16) {
    scatter_rows(from, channels, begin, end, padded, static_cast<BFloat16*>(to), stride);
  } else {
    scatter_rows(from, channels, begin, end, padded, static_cast<Half*>(to), stride);
  }
}

template <typename T>
constexpr Kernels<T> make_kernels() {
  return {Simd<T>::kWidth, &scratch_size<T>, &forward<T>,
          &backward<T>,    &gather_head<T>,  &scatter_head<T>};
}

}  // namespace
}  // namespace ms_detr::cpu
