// The torch side of the CUDA kernels: from tensors to pointers, and memory for results. The same
// for the plain and the fused operator. `launcher` starts kernels: see stream.cuh.
#pragma once

#include "launch.cuh"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <limits>

namespace ms_detr::cuda {

inline Kind kind_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return Kind::kDouble;
    case at::kHalf:
      return Kind::kHalf;
    case at::kBFloat16:
      return Kind::kBFloat16;
    default:
      return Kind::kFloat;
  }
}

// What the kernels count with 32 bits. Offsets have 64.
inline const Sizes& check_sizes(const Sizes& n, at::IntArrayRef shapes) {
  TORCH_CHECK_VALUE(
      n.levels <= kMaxLevels, "deformable attention on CUDA: at most ", kMaxLevels, " levels, got ",
      n.levels, ": ", shapes);
  static constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const auto check = [](const char* what, int64_t count) {
    TORCH_CHECK_VALUE(
        count <= kMost, "deformable attention on CUDA: ", what, " must be at most ", kMost,
        ", got ", count);
  };
  check("heads times channels", n.heads * n.channels);
  check("tokens times heads", n.tokens * n.heads);
  check("queries times heads", n.queries * n.heads);
  check("levels times points", n.levels * n.points);
  return n;
}

// Contiguous inputs. Plain operator: no reference; places are locations, shares are weights. Fused
// operator: offsets and logits.
struct Inputs {
  Inputs(
      const Sizes& n, at::IntArrayRef shapes, const at::Tensor& v, const at::Tensor& r,
      const at::Tensor& p, const at::Tensor& s)
      : call(make_call(check_sizes(n, shapes), shapes.data())),
        value(v.contiguous()),
        reference(r.defined() ? r.contiguous() : r),
        places(p.contiguous()),
        shares(s.contiguous()) {}

  bool empty() const { return call.batch == 0 || call.queries == 0; }

  Call call;
  at::Tensor value, reference, places, shares;
};

inline const void* data_of(const at::Tensor& tensor, int64_t image) {
  const int64_t bytes = tensor.stride(0) * static_cast<int64_t>(tensor.element_size());
  return static_cast<const char*>(tensor.const_data_ptr()) + image * bytes;
}

// All images, or those from `image` on.
inline Arguments make_arguments(const Inputs& in, int64_t image = 0) {
  Arguments a{};
  a.kind = kind_of(in.value.scalar_type());
  a.call = in.call;
  a.value = data_of(in.value, image);
  a.places = data_of(in.places, image);
  a.shares = data_of(in.shares, image);
  if (in.reference.defined()) {
    a.reference = data_of(in.reference, image);
    a.reference_size = static_cast<int32_t>(in.reference.size(3));
  }
  return a;
}

template <template <typename> class Front, typename Launcher>
at::Tensor run_forward(const Inputs& in, const Launcher& launcher) {
  auto output = at::empty({in.call.batch, in.call.queries, in.call.stride}, in.value.options());
  if (!in.empty()) {
    launch_forward<Front>(launcher, make_arguments(in), output.mutable_data_ptr());
  }
  return output;
}

// Gradient of the value without atomics: see deterministic.cuh. Image after image, so that the
// tables need not hold all of them: 16 + 16 bytes for each sample, and what the sort takes.
template <template <typename> class Front, typename Launcher>
at::Tensor collect_value(const Inputs& in, const at::Tensor& grad, const Launcher& launcher) {
  const Call& call = in.call;
  auto result = at::empty(in.value.sizes(), in.value.options());
  const int64_t samples = call.cells * call.samples;
  const int64_t share =
      in.value.scalar_type() == at::kDouble ? sizeof(Share<double>) : sizeof(Share<float>);
  const auto integers = in.value.options().dtype(at::kLong);
  auto keys = at::empty({samples}, integers);
  auto shares = at::empty({samples, share}, in.value.options().dtype(at::kByte));
  const auto all_keys = at::arange(call.heads * call.patches + 1, integers);
  for (int64_t image = 0; image < call.batch; ++image) {
    Arguments a = make_arguments(in, image);
    a.call.batch = 1;
    launch_keys<Front>(launcher, a, keys.mutable_data_ptr<int64_t>(), shares.mutable_data_ptr());
    const auto [sorted, order] = at::sort(keys, /*stable=*/true, /*dim=*/0, /*descending=*/false);
    const auto starts = at::searchsorted(sorted, all_keys);
    launch_collect(
        launcher, a, data_of(grad, image), order.template const_data_ptr<int64_t>(),
        starts.template const_data_ptr<int64_t>(), shares.const_data_ptr(),
        const_cast<void*>(data_of(result, image)));
  }
  return result;
}

struct Gradients {
  at::Tensor value, reference, places, shares;
};

template <template <typename> class Front, typename Launcher>
Gradients run_backward(const Inputs& in, const at::Tensor& grad_output, const Launcher& launcher) {
  const Call& call = in.call;
  // Locations, offsets and so on have the type of the sums.
  const auto wide = in.places.options();
  Gradients to{{}, {}, at::empty(in.places.sizes(), wide), at::empty(in.shares.sizes(), wide)};
  if (in.reference.defined()) {
    to.reference =
        at::empty({call.batch, call.queries, call.heads, call.levels, in.reference.size(3)}, wide);
  }
  if (in.empty()) {
    to.value = at::zeros(in.value.sizes(), in.value.options());
  } else {
    const auto grad = grad_output.contiguous();
    const bool atomic = !at::globalContext().deterministicAlgorithms();
    if (atomic) {
      to.value = at::zeros(in.value.sizes(), wide);
    }
    launch_backward<Front>(
        launcher, make_arguments(in), grad.const_data_ptr(),
        {atomic ? to.value.mutable_data_ptr() : nullptr, to.places.mutable_data_ptr(),
         to.shares.mutable_data_ptr(),
         in.reference.defined() ? to.reference.mutable_data_ptr() : nullptr});
    to.value =
        atomic ? to.value.to(in.value.scalar_type()) : collect_value<Front>(in, grad, launcher);
  }
  if (in.reference.defined()) {
    to.reference = to.reference.sum(2);
  }
  return to;
}

}  // namespace ms_detr::cuda
