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

// to[0 .. kVectors * width) = sum over the samples' corners of weight * token. Returns zeros, and
// NaN where a sum is not finite. Inlined with constants for samples, padded and stride where these
// are common.
template <int kVectors, bool fetch, typename T, typename S>
MS_DETR_INLINE Vector<T> sum_tokens(
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
  Vector<T> unfit{};
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    Vector<T> sum = sums[0][i];
    for (int set = 1; set < kSets; ++set) {
      sum += sums[set][i];
    }
    store_bits(to + i * Simd<T>::kWidth, sum);
    unfit += sum * 0;
  }
  return unfit;
}

// All channels of a cell: blocks of the widths that sum_tokens has. Returns what that returns.
template <bool fetch, typename T, typename S>
MS_DETR_INLINE Vector<T> sum_channels(
    const Corners<T>& corners, const Call<T>& call, const S* tokens, int64_t stride,
    int64_t channels, T* to, const Corners<T>& ahead, const S* tokens_ahead) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t padded = call.tables.padded, samples = call.samples;
  if (sizeof(T) == sizeof(float) && channels == 32 && samples == 16) {
    // The usual head. Without `fetch` the rows are those of one head, without gaps.
    return sum_tokens<32 / kWidth, fetch>(
        corners, 16, 16, tokens, fetch ? stride : 32, to, ahead, tokens_ahead);
  }
  Vector<T> unfit{};
  int64_t c = 0;
  for (; c + 8 * kWidth <= channels; c += 8 * kWidth) {
    unfit += sum_tokens<8, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
  }
  if (c + 4 * kWidth <= channels) {
    unfit += sum_tokens<4, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
    c += 4 * kWidth;
  }
  if (c + 2 * kWidth <= channels) {
    unfit += sum_tokens<2, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
    c += 2 * kWidth;
  }
  if (c < channels) {
    unfit += sum_tokens<1, fetch>(
        corners, padded, samples, tokens + c, stride, to + c, ahead, tokens_ahead + c);
  }
  return unfit;
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

// `count` stored numbers of a tensor, as T, with zeros behind them up to `padded`.
template <typename T>
MS_DETR_INLINE void load_stored(
    const void* from, Kind kind, int64_t index, int64_t count, int64_t padded, T* to) {
  if constexpr (sizeof(T) == sizeof(double)) {
    load_row(to, static_cast<const double*>(from) + index, count, padded);
  } else if (kind == Kind::kFloat) {
    load_row(to, static_cast<const float*>(from) + index, count, padded);
  } else if (kind == Kind::kBFloat16) {
    load_row(to, static_cast<const BFloat16*>(from) + index, count, padded);
  } else {
    load_row(to, static_cast<const Half*>(from) + index, count, padded);
  }
}

// The corners of a cell one by one, without those that lie outside of their level.
template <typename T, typename S>
void sum_inside(
    const Cell<T>& cell, const Call<T>& call, const S* tokens, int64_t stride, int64_t channels,
    T* to) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t padded = call.tables.padded;
  const Geometry<T>& g = cell.geometry;
  std::memset(to, 0, sizeof(T) * static_cast<size_t>(channels));
  for (int64_t k = 0; k < call.samples; ++k) {
    // 0, or NaN where a sample reads nothing for not being finite.
    const T missed = g.outside[k] == 0 ? T(0) : (g.outside[k] - g.outside[k]) + g.weight[k] * 0;
    for (int corner = 0; corner < 4; ++corner) {
      const bool inside =
          g.outside[k] == 0 && g.inside[corner % 2][k] != 0 && g.inside[2 + corner / 2][k] != 0;
      const S* token = tokens + cell.corners.row[corner * padded + k] * stride;
      for (int64_t c = 0; c < channels; c += kWidth) {
        const Vector<T> sum = load(to + c);
        store_bits(
            to + c, inside ? sum + cell.corners.weight[corner * padded + k] * load(token + c)
                           : sum + missed);
      }
    }
  }
}

// Cells of a run that came out as NaN once more. A corner outside its level has weight 0, and the
// row of a token that is infinite perhaps, which makes 0 * infinity; to ask that of every row would
// cost more than this, which is rarely needed.
template <typename T, typename S>
__attribute__((noinline)) void sum_again(
    const Call<T>& call, const Run& run, const S* tokens, int64_t stride, T* scratch) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t channels = (call.channels + kWidth - 1) / kWidth * kWidth;
  Scratch<T> memory(scratch);  // what the first pass had there is no longer needed
  const Cell<T> cell = memory.template take_cell<true>(call.tables.padded);
  T* sums = memory.take(channels);
  const int64_t first = run.image * call.queries;
  for (Cursor at(run); !at.done(); at.advance()) {
    const int64_t head = run.head + at.head;
    const int64_t index = ((first + at.query) * call.heads + head) * call.channels;
    load_stored(call.output, call.kind, index, call.channels, channels, sums);
    bool unfit = false;
    for (int64_t c = 0; c < call.channels; ++c) {
      unfit |= sums[c] != sums[c];
    }
    if (!unfit) {
      continue;
    }
    prepare_cell<T, true>(call, first + at.query, head, cell);
    sum_inside(cell, call, tokens + at.head * call.channels, stride, channels, sums);
    store_result(call, index, sums);
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
  Vector<T> unfit{};
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
    unfit += sum_channels<fetch>(
        cells[turn].corners, call, tokens + now.head * call.channels, stride, channels, to,
        cells[turn ^ 1].corners, tokens + next.head * call.channels);
    if (!direct) {
      store_result(call, index, sums);
    }
  }
  if (sum_lanes<T>(unfit) != 0) {  // NaN
    sum_again(call, run, tokens, stride, scratch);
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
