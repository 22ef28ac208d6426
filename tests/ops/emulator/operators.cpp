// The CUDA kernels and their torch side (csrc/cuda/tensors.cuh), with tensors in the processor's
// memory and the emulator for a GPU: operators of the library EMULATED_LIBRARY, loaded by torch.
#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "simt.h"  // behind all headers of torch

#include "tensors.cuh"

#include <tuple>

namespace {

using namespace ms_detr::cuda;

// As StreamLauncher in csrc/cuda/stream.cuh.
struct Launcher {
  template <typename... Parameters, typename... Values>
  void operator()(const Plan& plan, void (*kernel)(Parameters...), const Values&... values) const {
    simt::Grid grid(plan.blocks, plan.images, kThreads, plan.shared_bytes, seed);
    grid.run([&] { kernel(values...); });
  }

  int64_t most_blocks;
  uint64_t seed;
};

Launcher launcher;

// seed: of the order of lanes, warps and blocks. most_blocks: of a grid; the kernels loop then.
void configure(int64_t seed, int64_t most_blocks) {
  launcher = {most_blocks, static_cast<uint64_t>(seed)};
}

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
  return run_forward<PlainFront>(inputs(value, shapes, {}, locations, weights), launcher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> plain_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const auto to =
      run_backward<PlainFront>(inputs(value, shapes, {}, locations, weights), grad, launcher);
  return {to.value, to.places, to.shares};
}

at::Tensor fused(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits) {
  return run_forward<FusedFront>(inputs(value, shapes, reference, offsets, logits), launcher);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> fused_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const auto to =
      run_backward<FusedFront>(inputs(value, shapes, reference, offsets, logits), grad, launcher);
  return {to.value, to.reference, to.places, to.shares};
}

// Adds to `sums` in place, so that a test may bring memory that is not all there.
void add_value_gradient(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights, const at::Tensor& sums) {
  const auto of_places = at::empty(locations.sizes(), locations.options());
  const auto of_shares = at::empty(weights.sizes(), weights.options());
  launch_backward<PlainFront>(
      launcher, make_arguments(inputs(value, shapes, {}, locations, weights)),
      grad.const_data_ptr(),
      {sums.mutable_data_ptr(), of_places.mutable_data_ptr(), of_shares.mutable_data_ptr(),
       nullptr});
}

#define LIBRARY(name, m) TORCH_LIBRARY(name, m)  // after name was replaced

}  // namespace

LIBRARY(EMULATED_LIBRARY, m) {
  m.def("configure", &configure);
  m.def("add_value_gradient", &add_value_gradient);
  m.def("ms_deform_attn", &plain);
  m.def("ms_deform_attn_backward", &plain_backward);
  m.def("fused_deform_attn", &fused);
  m.def("fused_deform_attn_backward", &fused_backward);
}
