// Backward pass of one head: no two calls that run at the same time write to the same place, so
// that there are no atomics, and all sums have one order.
#pragma once

#include "forward.h"
#include "sample_gradients.h"

namespace ms_detr::cpu {
namespace {

// The pass over one cell's tokens. kVectors: vectors of channels, or 0 where their number is only
// known at run time. Inlined with constants for padded and the like where these are common.
template <int kVectors, typename T>
struct TokenPass {
  static constexpr int64_t kWidth = Simd<T>::kWidth;
  static constexpr int64_t kBytes = MS_DETR_VECTOR_BYTES;
  static constexpr int kHeld = kVectors > 0 ? kVectors : 1;

  MS_DETR_INLINE TokenPass(const T* from, int64_t count) : grad(from), vectors(count) {
    for (int v = 0; v < kVectors; ++v) {
      held[v] = load(grad + v * kWidth);
    }
  }
  MS_DETR_INLINE int64_t count() const { return kVectors > 0 ? kVectors : vectors; }
  MS_DETR_INLINE Vector<T> gradient(int64_t v) const {
    return kVectors > 0 ? held[v % kHeld] : load(grad + v * kWidth);
  }

  // products[corner * padded + sample] = grad * token, summed over the channels.
  MS_DETR_INLINE void multiply(
      const Corners<T>& corners, int64_t padded, const T* tokens, int64_t stride,
      T* products) const {
    for (int64_t k = 0; k < 4 * padded; k += kWidth) {
      Vector<T> rows[kWidth];
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWidth; ++i) {
        const T* token = tokens + corners.row[k + i] * stride;
        rows[i] = gradient(0) * load(token);
        for (int64_t v = 1; v < count(); ++v) {
          rows[i] += gradient(v) * load(token + v * kWidth);
        }
      }
      store_bits(products + k, sum_rows<T>(rows));
    }
  }

  // Adds weight * grad to the gradient of every corner's token. Corner after corner, and level
  // after level within: a token that was just added to is not read again at once, which would have
  // to wait for the store. The sums of the next cell (`ahead`) are fetched on the way.
  MS_DETR_INLINE void add(
      const Corners<T>& corners, int64_t padded, int64_t samples, int64_t points, T* grad_value,
      int64_t grad_stride, const Corners<T>& ahead) const {
    for (int corner = 0; corner < 4; ++corner) {
      for (int64_t z = 0; z < points; ++z) {
        const int64_t first = corner * padded + z;
        for (int64_t k = first; k < first - z + samples; k += points) {
          add_row(corners, k, grad_value, grad_stride, ahead);
        }
      }
    }
  }

  MS_DETR_INLINE void add_row(
      const Corners<T>& corners, int64_t k, T* grad_value, int64_t grad_stride,
      const Corners<T>& ahead) const {
    T* to = grad_value + corners.row[k] * grad_stride;
    prefetch(grad_value + ahead.row[k] * grad_stride, count() * kBytes);
    if constexpr (kVectors > 0) {
      Vector<T> sums[kHeld];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[v] = load(to + v * kWidth) + corners.weight[k] * held[v];
      }
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        store_bits(to + v * kWidth, sums[v]);
      }
    } else {
      for (int64_t v = 0; v < vectors; ++v) {
        store_bits(to + v * kWidth, load(to + v * kWidth) + corners.weight[k] * gradient(v));
      }
    }
  }

  const T* grad;
  int64_t vectors;
  Vector<T> held[kHeld];
};

// value and grad_value: rows of type T that are whole vectors long.
template <typename T>
void backward(
    const Call<T>& call, const Run& run, const Rows& value, T* grad_value, int64_t grad_stride,
    T* scratch) {
  constexpr int64_t kWidth = Simd<T>::kWidth;
  const int64_t padded = call.tables.padded;
  const int64_t channels = (call.channels + kWidth - 1) / kWidth * kWidth;
  Scratch<T> memory(scratch);
  const Cell<T> cells[2] = {
      memory.template take_cell<true>(padded), memory.template take_cell<true>(padded)};
  const SampleGradients<T> gradients{memory.take(padded), memory.take(padded), memory.take(padded)};
  T* grad = memory.take(channels);
  T* products = memory.take(4 * padded);
  const T* tokens = static_cast<const T*>(value.data);
  const int64_t first = run.image * call.queries;
  if (run.begin < run.end) {
    prepare_cell<T, true>(call, first + run.begin, run.head, cells[0]);
  }
  for (int64_t query = run.begin; query < run.end; ++query) {
    const Cell<T>& now = cells[(query - run.begin) % 2];
    const Cell<T>& ahead = cells[(query - run.begin + 1) % 2];
    if (query + 1 < run.end) {
      prepare_cell<T, true>(call, first + query + 1, run.head, ahead);
    }
    const int64_t cell = (first + query) * call.heads + run.head;
    load_stored(call.grad, call.kind, cell * call.channels, call.channels, channels, grad);
    if (sizeof(T) == sizeof(float) && channels == 32 && call.samples == 16 && call.points == 4) {
      const TokenPass<32 / kWidth, T> pass(grad, 32 / kWidth);
      pass.multiply(now.corners, 16, tokens, value.stride, products);
      pass.add(now.corners, 16, 16, 4, grad_value, grad_stride, ahead.corners);
    } else {
      const TokenPass<0, T> pass(grad, channels / kWidth);
      pass.multiply(now.corners, padded, tokens, value.stride, products);
      pass.add(
          now.corners, padded, call.samples, call.points, grad_value, grad_stride, ahead.corners);
    }
    sample_gradients(call.tables, now.geometry, products, gradients);
    if (call.reference_size == 0) {
      store_plain(call, cell * call.samples, gradients);
    } else {
      const int64_t entry = (run.image * call.heads + run.head) * call.queries + query;
      store_fused(
          call, cell * call.samples, now.places, gradients,
          call.grad_reference + entry * call.levels * call.reference_size);
    }
  }
}

}  // namespace
}  // namespace ms_detr::cpu
