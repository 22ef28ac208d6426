// fused_deform_attn on CUDA: softmax and locations are computed by the kernels, see FusedFront in
// samples.cuh.
#include "../ms_deform_attn.h"
#include "stream.cuh"
#include "tensors.cuh"

#include <torch/library.h>

#include <tuple>

namespace ms_detr::cuda {
namespace {

at::Tensor forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits) {
  const Sizes n = check_fused_forward(value, shapes, reference, offsets, logits);
  const StreamLauncher launcher(value.device());
  return run_forward<FusedFront>({n, shapes, value, reference, offsets, logits}, launcher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const Sizes n = check_fused_backward(grad, value, shapes, reference, offsets, logits);
  const StreamLauncher launcher(value.device());
  const auto result =
      run_backward<FusedFront>({n, shapes, value, reference, offsets, logits}, grad, launcher);
  return {result.value, result.reference, result.places, result.shares};
}

}  // namespace
}  // namespace ms_detr::cuda

TORCH_LIBRARY_IMPL(ms_detr, CUDA, m) {
  m.impl("fused_deform_attn", &ms_detr::cuda::forward);
  m.impl("fused_deform_attn_backward", &ms_detr::cuda::backward);
}
