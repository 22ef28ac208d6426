// ms_deform_attn on CUDA. The kernels are in forward.cuh, backward.cuh and deterministic.cuh.
#include "../ms_deform_attn.h"
#include "stream.cuh"
#include "tensors.cuh"

#include <torch/library.h>

#include <tuple>

namespace ms_detr::cuda {
namespace {

at::Tensor forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  const StreamLauncher launcher(value.device());
  return run_forward<PlainFront>({n, shapes, value, {}, locations, weights}, launcher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_backward(grad, value, shapes, locations, weights);
  const StreamLauncher launcher(value.device());
  const auto result =
      run_backward<PlainFront>({n, shapes, value, {}, locations, weights}, grad, launcher);
  return {result.value, result.places, result.shares};
}

}  // namespace
}  // namespace ms_detr::cuda

TORCH_LIBRARY_IMPL(ms_detr, CUDA, m) {
  m.impl("ms_deform_attn", &ms_detr::cuda::forward);
  m.impl("ms_deform_attn_backward", &ms_detr::cuda::backward);
}
