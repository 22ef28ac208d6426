// Vectors of MS_DETR_VECTOR_BYTES bytes in the vector extension of GCC and Clang: the same text
// becomes AVX-512, AVX2, SSE2 or NEON, by the target in force where this file is included.
//
// Everything is in an unnamed namespace and inlined: no function of one instruction set may be
// taken for its namesake of another one by the linker.
#pragma once

#include "call.h"

#include <cstdint>
#include <utility>

#define MS_DETR_INLINE inline __attribute__((always_inline))

namespace ms_detr::cpu {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <typename T>
struct Simd {
  using Index = typename IndexOf<T>::type;
  static constexpr int64_t kWidth = MS_DETR_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(MS_DETR_VECTOR_BYTES)));
  typedef Index Indices __attribute__((vector_size(MS_DETR_VECTOR_BYTES)));
};
template <typename T>
using Vector = typename Simd<T>::Vector;
template <typename T>
using Indices = typename Simd<T>::Indices;

template <typename V, typename T>
MS_DETR_INLINE V load_bits(const T* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof(V));
  return v;
}
template <typename V, typename T>
MS_DETR_INLINE void store_bits(T* to, const V& v) {
  __builtin_memcpy(to, &v, sizeof(V));
}

MS_DETR_INLINE Vector<float> load(const float* from) {
  return load_bits<Vector<float>>(from);
}
MS_DETR_INLINE Vector<double> load(const double* from) {
  return load_bits<Vector<double>>(from);
}
MS_DETR_INLINE Indices<float> load(const int32_t* from) {
  return load_bits<Indices<float>>(from);
}
MS_DETR_INLINE Indices<double> load(const int64_t* from) {
  return load_bits<Indices<double>>(from);
}

template <typename T>
MS_DETR_INLINE Vector<T> broadcast(T x) {
  return x - Vector<T>{};  // minus +0 keeps the sign of a zero
}

template <typename T>
MS_DETR_INLINE Vector<T> to_float(Indices<T> i) {
  return __builtin_convertvector(i, Vector<T>);
}

// Greatest integer not above x, for numbers that an Index can hold.
template <typename T>
MS_DETR_INLINE Indices<T> floor_index(Vector<T> x) {
  const Indices<T> cut = __builtin_convertvector(x, Indices<T>);
  return cut + (to_float<T>(cut) > x);  // a true comparison is -1
}

template <typename V>
MS_DETR_INLINE V larger(V a, V b) {
  return a > b ? a : b;
}
template <typename V>
MS_DETR_INLINE V smaller(V a, V b) {
  return a < b ? a : b;
}

template <typename T, int... i>
MS_DETR_INLINE Vector<T> pick(Vector<T> a, Vector<T> b, std::integer_sequence<int, i...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, i...);
#else
  return __builtin_shuffle(a, b, Indices<T>{i...});
#endif
}

template <typename Sequence, int factor, int offset>
struct Spread;
template <int... i, int factor, int offset>
struct Spread<std::integer_sequence<int, i...>, factor, offset> {
  static constexpr int kCount = sizeof...(i);
  using every = std::integer_sequence<int, (i * factor + offset)...>;
  using zip = std::integer_sequence<int, (offset + i / 2 + (i % 2) * kCount)...>;
};
template <typename T>
using Lanes = std::make_integer_sequence<int, static_cast<int>(Simd<T>::kWidth)>;

// Numbers 0, 2, 4, .. and 1, 3, 5, .. of a followed by b.
template <typename T>
MS_DETR_INLINE Vector<T> evens(Vector<T> a, Vector<T> b) {
  return pick<T>(a, b, typename Spread<Lanes<T>, 2, 0>::every{});
}
template <typename T>
MS_DETR_INLINE Vector<T> odds(Vector<T> a, Vector<T> b) {
  return pick<T>(a, b, typename Spread<Lanes<T>, 2, 1>::every{});
}
// a0, b0, a1, b1, ..: to[0 .. 2 * width).
template <typename T>
MS_DETR_INLINE void store_zipped(T* to, Vector<T> a, Vector<T> b) {
  constexpr int kHalfWidth = static_cast<int>(Simd<T>::kWidth / 2);
  store_bits(to, pick<T>(a, b, typename Spread<Lanes<T>, 1, 0>::zip{}));
  store_bits(to + Simd<T>::kWidth, pick<T>(a, b, typename Spread<Lanes<T>, 1, kHalfWidth>::zip{}));
}

// Lane i: the sum of all lanes of rows[i]. Halves the number of vectors in each round, instead of
// adding up the lanes of every one.
template <typename T, int64_t count = Simd<T>::kWidth>
MS_DETR_INLINE Vector<T> sum_rows(Vector<T>* rows) {
  if constexpr (count == 1) {
    return rows[0];
  } else {
#pragma GCC unroll 8
    for (int64_t i = 0; i < count / 2; ++i) {
      rows[i] = evens<T>(rows[2 * i], rows[2 * i + 1]) + odds<T>(rows[2 * i], rows[2 * i + 1]);
    }
    return sum_rows<T, count / 2>(rows);
  }
}

template <typename T>
MS_DETR_INLINE T sum_lanes(Vector<T> v) {
  T sum = 0;
  for (int64_t i = 0; i < Simd<T>::kWidth; ++i) {
    sum += v[i];
  }
  return sum;
}

}  // namespace
}  // namespace ms_detr::cpu
