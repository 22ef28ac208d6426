// Forward pass: sums of the corners' tokens, cell after cell.
#pragma once

#include "half.h"
#include "scratch.h"

namespace ms_detr::cpu {
namespace {

// Walks through the cells of a run: query after query, and within a query head after head.
struct Cursor {
  explicit Cursor(const Run& run) : run(run), query(run.begin), head(0) {}
  bool done() const { return query >= run.end; }
  void advance() {
    if (++head == run.heads) {
      head = 0;
      ++query;
    }
  }
  const Run& run;
  int64_t query, head;
};

MS_DETR_INLINE void prefetch(const void* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(static_cast<const char*>(from) + i);
  }
}

// to[0 .. kVectors * width) = sum over the samples' corners of weight * token.
// Inlined with constants for samples, padded and stride where these are common.
template <int kVectors, bool fetch, typename T, typename S>
MS_DETR_INLINE void sum_tokens(
    const Corners<T>& corners, int64_t padded, int64_t samples, const S* tokens, int64_t stride,
    T* to, const Corners<T>& ahead, const S* tokens_ahead) {
  // Several sums side by side, so that one addition need not wait for the one before it.
  constexpr int kSets = kVectors >= 8 ? 1 : kVectors >= 4 ? 2 : 4;
  Vector<T> sums[kSets][kVectors] = {};
  for (int64_t k = 0; k < samples; ++k) {
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      const S* token = tokens + corners.row[corner * padded + k] * stride;
      const T weight = corners.weight[corner * padded + k];
      if constexpr (fetch) {
        prefetch(
            tokens_ahead + ahead.row[corner * padded + k] * stride,
            kVectors * Simd<T>::kWidth * sizeof(S));
      }
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        sums[corner % kSets][i] += weight * load(token + i * Simd<T>::kWidth);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Vector<T> sum = sums[0][i];
    for (int set = 1; set < kSets; ++set) {
      sum += sums[set][i];
    }
    store_bits(to + i * Simd<T>::kWidth, sum);
  }
}

// All channels of a cell: blocks of the widths that sum_tokens has.
template <bool fetch, typename T, typename S>
MS_DETR_INLINE void sum_channels(
    const Corners<T>& corners, const Call<T>& call, const S* tokens, int64_t stride,
    int64_t channels, T* to, const Corners<T>& ahead, const S* tokens_ahead) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t padded = call.tables.padded, samples = call.samples;
  if (sizeof(T) == sizeof(float) && channels == 32 && samples == 16) {
    // The usual head. Without `fetch` the rows are those of one head, without gaps.
    sum_tokens<32 / kWidth, fetch>(
        corners, 16, 16, tokens, fetch ? stride : 32, to, ahead, tokens_ahead);
    return;
  }
  int64_t c = 0;
  for (; c + 8 * kWidth <= channels; c += 8 * kWidth) {
    sum_tokens<8, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
  }
  if (c + 4 * kWidth <= channels) {
    sum_tokens<4, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
    c += 4 * kWidth;
  }
  if (c + 2 * kWidth <= channels) {
    sum_tokens<2, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
    c += 2 * kWidth;
  }
  if (c < channels) {
    sum_tokens<1, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
  }
}

template <typename T>
MS_DETR_INLINE void store_result(const Call<T>& call, int64_t index, const T* sums) {
  const int64_t n = call.channels;
  if constexpr (sizeof(T) == sizeof(double)) {
    store_row(static_cast<double*>(call.output) + index, sums, n);
  } else if (call.kind == Kind::kFloat) {
    store_row(static_cast<float*>(call.output) + index, sums, n);
  } else if (call.kind == Kind::kBFloat16) {
    store_row(static_cast<BFloat16*>(call.output) + index, sums, n);
  } else {
    store_row(static_cast<Half*>(call.output) + index, sums, n);
  }
}

// The token matrix's rows are whole vectors long, or the channels are a whole number of vectors.
template <bool fetch, typename T, typename S>
void forward_run(const Call<T>& call, const Run& run, const S* tokens, int64_t stride, T* scratch) {
  const int64_t padded = call.tables.padded;
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t channels = (call.channels + kWidth - 1) / kWidth * kWidth;
  Scratch<T> memory(scratch);
  const Cell<T> cells[2] = {
      memory.template take_cell<false>(padded), memory.template take_cell<false>(padded)};
  T* sums = memory.take(channels);
  const bool direct = sizeof(T) == sizeof(S) && channels == call.channels &&
                      call.kind == (sizeof(T) == 8 ? Kind::kDouble : Kind::kFloat);
  const int64_t first = run.image * call.queries;
  Cursor next(run);
  if (!next.done()) {
    prepare_cell<T, false>(call, first + next.query, run.head, cells[0]);
  }
  for (int turn = 0; !next.done(); turn ^= 1) {
    const Cursor now = next;
    next.advance();
    // The next cell is prepared first: its arithmetic fills the time in which tokens are waited
    // for.
    if (!next.done()) {
      prepare_cell<T, false>(call, first + next.query, run.head + next.head, cells[turn ^ 1]);
    }
    const int64_t index = ((first + now.query) * call.heads + run.head + now.head) * call.channels;
    T* to = direct ? static_cast<T*>(call.output) + index : sums;
    sum_channels<fetch>(
        cells[turn].corners, call, tokens + now.head * call.channels, stride, channels, to,
        cells[turn ^ 1].corners, tokens + next.head * call.channels);
    if (!direct) {
      store_result(call, index, sums);
    }
  }
}

template <typename T, typename S>
MS_DETR_INLINE void forward_rows(
    const Call<T>& call, const Run& run, const Rows& value, T* scratch) {
  const S* tokens = static_cast<const S*>(value.data);
  if (run.heads > 1) {
    forward_run<true>(call, run, tokens, value.stride, scratch);
  } else {
    forward_run<false>(call, run, tokens, value.stride, scratch);
  }
}

template <typename T>
void forward(const Call<T>& call, const Run& run, const Rows& value, T* scratch) {
  if constexpr (sizeof(T) == sizeof(double)) {
    forward_rows<T, double>(call, run, value, scratch);
  } else if (value.kind == Kind::kFloat) {
    forward_rows<T, float>(call, run, value, scratch);
  } else if (value.kind == Kind::kBFloat16) {
    forward_rows<T, BFloat16>(call, run, value, scratch);
  } else {
    forward_rows<T, Half>(call, run, value, scratch);
  }
}

}  // namespace
}  // namespace ms_detr::cpu
