// What the torch side hands to the kernels: plain data, so that the kernels, which are compiled
// once for every instruction set, share no inline function with the rest of the library.
//
// Letters: see ms_deform_attn.h. A `sample` is one of the K = L * Z points of a query and head; a
// `cell` is one query and head.
#pragma once

#include <cstdint>

namespace ms_detr::cpu {

// Storage of values, gradients of the output, and results. Sums are float, or double for kDouble.
enum class Kind { kFloat, kDouble, kBFloat16, kHalf };

template <typename T>
struct IndexOf;
template <>
struct IndexOf<float> {
  using type = int32_t;
};
template <>
struct IndexOf<double> {
  using type = int64_t;
};

// One number per sample, padded to whole vectors: the level that it looks at.
template <typename T>
struct SampleTables {
  using Index = typename IndexOf<T>::type;
  int64_t padded;
  const T *width, *height;      // of the level
  const Index *columns, *rows;  // the same as integers
  const Index* start;           // first token of the level
};

template <typename T>
struct Call {
  int64_t heads, channels, queries, levels, points, samples;
  SampleTables<T> tables;
  Kind kind;  // of value, output and grad
  // Plain operator: places (locations) are (B, N, H, K, 2) and shares (weights) are (B, N, H, K).
  // Fused operator (reference is set): places are offsets, shares are logits.
  const T *places, *shares;
  const T* reference;      // (B, N, L, reference_size)
  int64_t reference_size;  // 2 or 4; 0 in the plain operator
  void* output;            // forward: (B, N, H * c)
  // Backward:
  const void* grad;              // (B, N, H * c)
  T *grad_places, *grad_shares;  // as places and shares
  T* grad_reference;             // (B, H, N, L, reference_size), summed over heads by the caller
};

// Queries [begin, end) of one image, for `heads` heads from `head` on.
struct Run {
  int64_t image, head, heads, begin, end;
};

// Tokens of one image: row r of the run's i-th head starts at data + r * stride + i * channels.
struct Rows {
  const void* data;
  Kind kind;
  int64_t stride;
};

// The kernels of one instruction set. `scratch`: scratch_size(..) numbers, aligned to 64 bytes.
template <typename T>
struct Kernels {
  int64_t width;  // lanes of a vector
  int64_t (*scratch_size)(int64_t padded_samples, int64_t padded_channels);
  void (*forward)(const Call<T>& call, const Run& run, const Rows& value, T* scratch);
  // grad_value: sums of the run's only head, rows of grad_stride numbers; added to.
  void (*backward)(
      const Call<T>& call, const Run& run, const Rows& value, T* grad_value, int64_t grad_stride,
      T* scratch);
  // One head's tokens [begin, end) to rows of padded_channels numbers, zeros behind the channels.
  void (*gather_head)(
      const Rows& from, int64_t channels, int64_t begin, int64_t end, int64_t padded_channels,
      T* to);
  // And back: rounds to the kind of `to`.
  void (*scatter_head)(
      const T* from, int64_t channels, int64_t begin, int64_t end, int64_t padded_channels,
      void* to, Kind kind, int64_t stride);
};

// Dropout of `count` numbers, see dropout.h. `from` and `to` may be the same.
struct DropoutCall {
  const void* from;
  void* to;
  Kind kind;
  int64_t count;
  uint64_t seed;
  uint32_t threshold;  // random words below it drop
  double scale;        // of what is kept
};
constexpr int64_t kDropoutBlock = 64;  // numbers that are decided on at once

struct Capability {
  const char* name;
  bool (*supported)();
  Kernels<float> floats;
  Kernels<double> doubles;
  void (*dropout)(const DropoutCall& call, int64_t begin_block, int64_t end_block);
};

extern const Capability kBaseline;
#if defined(__x86_64__) && defined(__GNUC__)
extern const Capability kAvx2, kAvx512;
#endif

}  // namespace ms_detr::cpu
