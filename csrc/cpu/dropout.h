// Dropout without a mask: whether a number is dropped follows from its position and a seed, so that
// the gradient finds it out again.
//
// The generator is Philox-4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). Block b makes the 64 random words of positions 64 b .. 64 b + 63: word j of
// its counters 16 b + i, i < 16, decides on position 64 b + 16 j + i, on any machine.
#pragma once

#include "half.h"

namespace ms_detr::cpu {
namespace {

typedef uint64_t WideWords __attribute__((vector_size(MS_DETR_VECTOR_BYTES)));

constexpr int64_t kCounters = kDropoutBlock / 4;

// Products of the lower halves of all lanes with a constant.
MS_DETR_INLINE WideWords times(WideWords x, uint32_t factor) {
#if MS_DETR_VECTOR_BYTES == 64
  const __m512i product = _mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(factor));
  return (WideWords)product;
#elif MS_DETR_VECTOR_BYTES == 32
  const __m256i product = _mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(factor));
  return (WideWords)product;
#else
  return (x & 0xffffffffu) * uint64_t{factor};
#endif
}

// One of the two products of a round, for 32-bit lanes.
struct Product {
  Words high, low;
};
MS_DETR_INLINE Product multiply(Words x, uint32_t factor) {
  const WideWords lanes = load_bits<WideWords>(&x);
  const WideWords even = times(lanes, factor), odd = times(lanes >> 32, factor);
  constexpr uint64_t kUpper = 0xffffffff00000000u;
  const WideWords high = (even >> 32) | (odd & kUpper), low = (even & ~kUpper) | (odd << 32);
  return {load_bits<Words>(&high), load_bits<Words>(&low)};
}

// The words of `lanes of a vector` counters from `first` on, row j of `words` being word j.
MS_DETR_INLINE void philox(uint64_t first, uint64_t seed, uint32_t* words) {
  constexpr int kLanes = MS_DETR_VECTOR_BYTES / 4;
  Words x0, x1, x2{}, x3{};
  for (int i = 0; i < kLanes; ++i) {
    x0[i] = static_cast<uint32_t>(first + i);
    x1[i] = static_cast<uint32_t>((first + i) >> 32);
  }
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const Product a = multiply(x0, 0xD2511F53u), b = multiply(x2, 0xCD9E8D57u);
    x0 = b.high ^ x1 ^ key0;
    x1 = b.low;
    x2 = a.high ^ x3 ^ key1;
    x3 = a.low;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  store_bits(words, x0);
  store_bits(words + kCounters, x1);
  store_bits(words + 2 * kCounters, x2);
  store_bits(words + 3 * kCounters, x3);
}

// Numbers that are dropped are multiplied by 0, so that one that is not finite does not vanish.
template <typename S, typename T>
MS_DETR_INLINE void drop(
    const S* from, S* to, int64_t count, const uint32_t* words, uint32_t threshold, T scale) {
  for (int64_t i = 0; i < count; ++i) {
    const T factor = words[i] >= threshold ? scale : T{0};
    if constexpr (sizeof(S) == sizeof(T)) {
      to[i] = from[i] * factor;
    } else {
      store_one(to + i, load_one(from + i) * factor);
    }
  }
}

template <typename S, typename T>
void drop_blocks(const DropoutCall& call, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = MS_DETR_VECTOR_BYTES / 4;
  const S* from = static_cast<const S*>(call.from);
  S* to = static_cast<S*>(call.to);
  const T scale = static_cast<T>(call.scale);
  alignas(64) uint32_t words[kDropoutBlock];
  for (int64_t block = begin; block < end; ++block) {
    for (int64_t i = 0; i < kCounters; i += kLanes) {
      philox(static_cast<uint64_t>(block * kCounters + i), call.seed, words + i);
    }
    const int64_t at = block * kDropoutBlock, left = call.count - at;
    if (left >= kDropoutBlock) {
      drop(from + at, to + at, kDropoutBlock, words, call.threshold, scale);
    } else {
      drop(from + at, to + at, left, words, call.threshold, scale);
    }
  }
}

void dropout(const DropoutCall& call, int64_t begin, int64_t end) {
  switch (call.kind) {
    case Kind::kFloat:
      return drop_blocks<float, float>(call, begin, end);
    case Kind::kDouble:
      return drop_blocks<double, double>(call, begin, end);
    case Kind::kBFloat16:
      return drop_blocks<BFloat16, float>(call, begin, end);
    case Kind::kHalf:
      return drop_blocks<Half, float>(call, begin, end);
  }
}

}  // namespace
}  // namespace ms_detr::cpu
