// Half precision numbers to float and back.
#pragma once

#include "simd.h"

namespace ms_detr::cpu {
namespace {

typedef uint16_t HalfWords __attribute__((vector_size(MS_DETR_VECTOR_BYTES / 2)));
typedef uint32_t Words __attribute__((vector_size(MS_DETR_VECTOR_BYTES)));

MS_DETR_INLINE Words widen(const uint16_t* from) {
  return __builtin_convertvector(load_bits<HalfWords>(from), Words);
}

// bfloat16 is the upper half of a float.
MS_DETR_INLINE Vector<float> load(const BFloat16* from) {
  const Words bits = widen(&from->bits) << 16;
  return load_bits<Vector<float>>(&bits);
}

MS_DETR_INLINE Vector<float> load(const Half* from) {
#if MS_DETR_VECTOR_BYTES == 64
  return _mm512_cvtph_ps(load_bits<__m256i>(from));
#elif MS_DETR_VECTOR_BYTES == 32
  return _mm256_cvtph_ps(load_bits<__m128i>(from));
#else
  // Exponent and fraction move to their places in a float; the factor mends the exponent's bias,
  // and normalises what was subnormal.
  const Words bits = widen(&from->bits);
  const Words sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
  const Vector<float> scaled = load_bits<Vector<float>>(&magnitude) * 0x1p112f;
  const Words finite = load_bits<Words>(&scaled) | sign;
  const Words special = magnitude | 0x7f800000u | sign;  // infinity or NaN
  const Words result = magnitude >= (0x7c00u << 13) ? special : finite;
  return load_bits<Vector<float>>(&result);
#endif
}

MS_DETR_INLINE uint32_t float_bits(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
MS_DETR_INLINE float bits_float(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// To the nearest, ties to even, as torch rounds.
MS_DETR_INLINE void store_one(BFloat16* to, float x) {
  const uint32_t bits = float_bits(x);
  to->bits =
      x != x ? uint16_t{0x7fc0} : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

MS_DETR_INLINE void store_one(Half* to, float x) {
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;  // NaN
  } else if (magnitude >= 0x477ff000) {
    half = 0x7c00;  // rounds to infinity
  } else if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 lets the adder round at the right bit, which then is the last one.
    half = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000;
  } else {
    half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  to->bits = static_cast<uint16_t>(sign | half);
}

MS_DETR_INLINE void store_one(float* to, float x) {
  *to = x;
}
MS_DETR_INLINE void store_one(double* to, double x) {
  *to = x;
}

template <typename S, typename T>
MS_DETR_INLINE void store_row(S* to, const T* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    store_one(to + i, from[i]);
  }
}

MS_DETR_INLINE float load_one(const Half* from) {
  const uint32_t sign = (from->bits & 0x8000u) << 16, magnitude = (from->bits & 0x7fffu) << 13;
  const uint32_t finite = float_bits(bits_float(magnitude) * 0x1p112f);
  return bits_float(sign | (magnitude >= (0x7c00u << 13) ? magnitude | 0x7f800000u : finite));
}
MS_DETR_INLINE float load_one(const BFloat16* from) {
  return bits_float(static_cast<uint32_t>(from->bits) << 16);
}
MS_DETR_INLINE float load_one(const float* from) {
  return *from;
}
MS_DETR_INLINE double load_one(const double* from) {
  return *from;
}

// `count` numbers, then zeros up to `padded`, a whole number of vectors.
template <typename S, typename T>
MS_DETR_INLINE void load_row(T* to, const S* from, int64_t count, int64_t padded) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    store_bits(to + i, load(from + i));
  }
  for (; i < count; ++i) {
    to[i] = load_one(from + i);
  }
  for (; i < padded; ++i) {
    to[i] = 0;
  }
}

}  // namespace
}  // namespace ms_detr::cpu
