// The torch side of the CUDA kernels (csrc/cuda/tensors.cuh) with tensors in the processor's memory
// and the emulator for a GPU: operators ms_detr_emulated::*, loaded by torch.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "simt.h"  // behind all headers of torch

#include "launcher.h"
#include "tensors.cuh"

#include <tuple>

namespace {

using namespace ms_detr::cuda;

const Launcher kLauncher{3, 0};

Inputs inputs(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& places, const at::Tensor& shares) {
  const ms_detr::Sizes n{value.size(0),  value.size(1),  value.size(2), value.size(3),
                         places.size(1), places.size(3), places.size(4)};
  return {n, shapes, value, reference, places, shares};
}

at::Tensor plain(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  return run_forward<PlainFront>(inputs(value, shapes, {}, locations, weights), kLauncher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> plain_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const auto to =
      run_backward<PlainFront>(inputs(value, shapes, {}, locations, weights), grad, kLauncher);
  return {to.value, to.places, to.shares};
}

at::Tensor fused(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits) {
  return run_forward<FusedFront>(inputs(value, shapes, reference, offsets, logits), kLauncher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> fused_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const auto to =
      run_backward<FusedFront>(inputs(value, shapes, reference, offsets, logits), grad, kLauncher);
  return {to.value, to.reference, to.places, to.shares};
}

}  // namespace

TORCH_LIBRARY(ms_detr_emulated, m) {
  m.def("ms_deform_attn", &plain);
  m.def("ms_deform_attn_backward", &plain_backward);
  m.def("fused_deform_attn", &fused);
  m.def("fused_deform_attn_backward", &fused_backward);
}
