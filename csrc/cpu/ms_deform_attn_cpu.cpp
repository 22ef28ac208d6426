// Multi-scale deformable attention on the CPU, plain and fused: memory, order and threads. The
// arithmetic is in forward.h and backward.h. See ms_deform_attn.h for letters and shapes.
#include "arguments.h"
#include "buffer.h"
#include "tasks.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstring>
#include <tuple>

namespace ms_detr::cpu {
namespace {

at::Tensor empty(at::IntArrayRef sizes, const at::Tensor& like) {
  auto tensor = at::empty(sizes, like.options());
  use_huge_pages(tensor.mutable_data_ptr(), static_cast<int64_t>(tensor.nbytes()));
  return tensor;
}

template <typename T>
int64_t scratch_numbers(const Call<T>& call) {
  const Kernels<T>& k = kernels<T>();
  return k.scratch_size(call.tables.padded, round_up(call.channels, k.width));
}

// Few queries: reads the tokens where they are, all heads of a query one after the other.
template <typename T>
void forward_in_place(const Inputs& in, const Call<T>& call) {
  const Sizes& n = in.n;
  const int64_t grain = grain_size(n.heads * n.channels * call.samples * 4);
  at::parallel_for(0, n.batch * n.queries, grain, [&](int64_t begin, int64_t end) {
    const Buffer<T> scratch(scratch_numbers(call));
    while (begin < end) {
      const int64_t image = begin / n.queries, first = image * n.queries;
      const int64_t stop = std::min(end, first + n.queries);
      const Run run{image, 0, n.heads, begin - first, stop - first};
      kernels<T>().forward(call, run, token_rows(in, image, 0), scratch.get());
      begin = stop;
    }
  });
}

template <typename T>
Rows copied_rows(const Buffer<T>& copy, int64_t stride) {
  return {copy.get(), sizeof(T) == sizeof(double) ? Kind::kDouble : Kind::kFloat, stride};
}

// Many queries and at least two heads per thread: each thread takes one head after the other, and
// copies the head's tokens first.
template <typename T>
void forward_by_head(const Inputs& in, const Call<T>& call) {
  const Sizes& n = in.n;
  const Kernels<T>& k = kernels<T>();
  const int64_t padded = round_up(n.channels, k.width);
  run_tasks(n.batch * n.heads, n.queries * n.channels * call.samples * 4, [&] {
    return [&, copy = Buffer<T>(n.tokens * padded),
            scratch = Buffer<T>(scratch_numbers(call))](int64_t task) {
      const int64_t image = task / n.heads, head = task % n.heads;
      k.gather_head(token_rows(in, image, head), n.channels, 0, n.tokens, padded, copy.get());
      k.forward(call, {image, head, 1, 0, n.queries}, copied_rows(copy, padded), scratch.get());
    };
  });
}

// Many queries and many threads: all of them work on the same head, from one copy.
template <typename T>
void forward_together(const Inputs& in, const Call<T>& call) {
  const Sizes& n = in.n;
  const Kernels<T>& k = kernels<T>();
  const int64_t padded = round_up(n.channels, k.width);
  const int64_t grain = grain_size(n.channels * call.samples * 4);
  const Buffer<T> copy(n.tokens * padded);
  for (int64_t task = 0; task < n.batch * n.heads; ++task) {
    const int64_t image = task / n.heads, head = task % n.heads;
    const Rows from = token_rows(in, image, head);
    at::parallel_for(0, n.tokens, grain_size(padded), [&](int64_t begin, int64_t end) {
      k.gather_head(from, n.channels, begin, end, padded, copy.get());
    });
    at::parallel_for(0, n.queries, grain, [&](int64_t begin, int64_t end) {
      const Buffer<T> scratch(scratch_numbers(call));
      k.forward(call, {image, head, 1, begin, end}, copied_rows(copy, padded), scratch.get());
    });
  }
}

template <typename T>
at::Tensor forward(const Inputs& in) {
  const Sizes& n = in.n;
  auto output = empty({n.batch, n.queries, n.heads * n.channels}, in.value);
  const Samples<T> samples(n, in.shapes);
  Call<T> call = make_call<T>(in, samples);
  call.output = output.mutable_data_ptr();
  if (output.numel() == 0) {
    return output;
  }
  // Loads of whole vectors from the tensor need channels that are a whole number of them.
  if (!many_queries(n) && n.channels % kernels<T>().width == 0) {
    forward_in_place(in, call);
  } else if (n.batch * n.heads >= 2 * at::get_num_threads()) {
    forward_by_head(in, call);
  } else {
    forward_together(in, call);
  }
  return output;
}

// Adds to the tensor's own rows, which are zeros before.
template <typename T>
void backward_in_place(const Inputs& in, const Call<T>& call, T* grad_value) {
  const Sizes& n = in.n;
  const int64_t stride = n.heads * n.channels;
  const int64_t count = n.batch * n.tokens * stride;
  at::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    std::memset(grad_value + begin, 0, sizeof(T) * static_cast<size_t>(end - begin));
  });
  run_tasks(n.batch * n.heads, n.queries * n.channels * call.samples * 8, [&] {
    return [&, scratch = Buffer<T>(scratch_numbers(call))](int64_t task) {
      const int64_t image = task / n.heads, head = task % n.heads;
      T* sums = grad_value + image * n.tokens * stride + head * n.channels;
      kernels<T>().backward(
          call, {image, head, 1, 0, n.queries}, token_rows(in, image, head), sums, stride,
          scratch.get());
    };
  });
}

// From copies of the head's tokens to sums of the head's gradients, which then are rounded to the
// tensor's dtype.
template <typename T>
void backward_by_head(const Inputs& in, const Call<T>& call, at::Tensor& grad_value) {
  const Sizes& n = in.n;
  const Kernels<T>& k = kernels<T>();
  const int64_t padded = round_up(n.channels, k.width), stride = n.heads * n.channels;
  auto* to = static_cast<char*>(grad_value.mutable_data_ptr());
  const auto bytes = static_cast<int64_t>(grad_value.element_size());
  run_tasks(n.batch * n.heads, n.queries * n.channels * call.samples * 8, [&] {
    return [&, copy = Buffer<T>(n.tokens * padded), sums = Buffer<T>(n.tokens * padded),
            scratch = Buffer<T>(scratch_numbers(call))](int64_t task) {
      const int64_t image = task / n.heads, head = task % n.heads;
      const int64_t first = (image * n.tokens * n.heads + head) * n.channels;
      k.gather_head(token_rows(in, image, head), n.channels, 0, n.tokens, padded, copy.get());
      std::memset(sums.get(), 0, sizeof(T) * static_cast<size_t>(n.tokens * padded));
      k.backward(
          call, {image, head, 1, 0, n.queries}, copied_rows(copy, padded), sums.get(), padded,
          scratch.get());
      k.scatter_head(
          sums.get(), n.channels, 0, n.tokens, padded, to + first * bytes, call.kind, stride);
    };
  });
}

struct Gradients {
  at::Tensor value, reference, places, shares;
};

template <typename T>
Gradients backward(const Inputs& in, const at::Tensor& grad) {
  const Sizes& n = in.n;
  Gradients result{
      empty(in.value.sizes(), in.value),
      {},
      empty(in.places.sizes(), in.places),
      empty(in.shares.sizes(), in.shares)};
  const Samples<T> samples(n, in.shapes);
  Call<T> call = make_call<T>(in, samples);
  call.grad = grad.const_data_ptr();
  call.grad_places = result.places.mutable_data_ptr<T>();
  call.grad_shares = result.shares.mutable_data_ptr<T>();
  at::Tensor by_head;
  if (in.reference.defined()) {
    by_head = empty({n.batch, n.heads, n.queries, n.levels, call.reference_size}, in.reference);
    call.grad_reference = by_head.mutable_data_ptr<T>();
  }
  const bool same_type = in.value.scalar_type() == in.places.scalar_type();
  if (!same_type || many_queries(n) || n.channels % kernels<T>().width != 0) {
    backward_by_head(in, call, result.value);
  } else {
    backward_in_place(in, call, result.value.mutable_data_ptr<T>());
  }
  if (in.reference.defined()) {
    result.reference = by_head.sum(1);
  }
  return result;
}

at::Tensor run_forward(const Inputs& in) {
  return in.value.scalar_type() == at::kDouble ? forward<double>(in) : forward<float>(in);
}

Gradients run_backward(const Inputs& in, const at::Tensor& grad) {
  const auto rows = grad.contiguous();
  return in.value.scalar_type() == at::kDouble ? backward<double>(in, rows)
                                               : backward<float>(in, rows);
}

at::Tensor plain_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  return run_forward({n, shapes, value, {}, locations, weights});
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> plain_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_backward(grad, value, shapes, locations, weights);
  const Gradients result = run_backward({n, shapes, value, {}, locations, weights}, grad);
  return {result.value, result.places, result.shares};
}

at::Tensor fused_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits) {
  const Sizes n = check_fused_forward(value, shapes, reference, offsets, logits);
  return run_forward({n, shapes, value, reference, offsets, logits});
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> fused_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const Sizes n = check_fused_backward(grad, value, shapes, reference, offsets, logits);
  const Gradients result = run_backward({n, shapes, value, reference, offsets, logits}, grad);
  return {result.value, result.reference, result.places, result.shares};
}

}  // namespace
}  // namespace ms_detr::cpu

TORCH_LIBRARY_IMPL(ms_detr, CPU, m) {
  m.impl("ms_deform_attn", &ms_detr::cpu::plain_forward);
  m.impl("ms_deform_attn_backward", &ms_detr::cpu::plain_backward);
  m.impl("fused_deform_attn", &ms_detr::cpu::fused_forward);
  m.impl("fused_deform_attn_backward", &ms_detr::cpu::fused_backward);
}
