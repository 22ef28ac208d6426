// Dropout on the CPU: checks, memory, threads. The arithmetic is in dropout.h; schema and the rest
// that torch must know are in projects/ms_detr/ops/dropout.py.
#include "capability.h"
#include "huge_pages.h"
#include "tasks.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <torch/library.h>

#include <cmath>

namespace ms_detr::cpu {
namespace {

// Multiply-adds that the random words of a block are worth.
constexpr int64_t kWorkPerBlock = 512;

Kind kind_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return Kind::kFloat;
    case at::kDouble:
      return Kind::kDouble;
    case at::kBFloat16:
      return Kind::kBFloat16;
    case at::kHalf:
      return Kind::kHalf;
    default:
      TORCH_CHECK_VALUE(
          false, "dropout: x must be float32, float64, float16 or bfloat16, got ", dtype);
  }
}

DropoutCall make_call(const at::Tensor& x, const at::Tensor& seed, double p) {
  TORCH_CHECK_VALUE(p >= 0 && p < 1, "dropout: p must be in [0, 1), got ", p);
  TORCH_CHECK_VALUE(
      seed.device().is_cpu() && seed.scalar_type() == at::kLong && seed.numel() == 1,
      "dropout: seed must be one int64 on the CPU, got ", seed.numel(), " of ", seed.scalar_type(),
      " on ", seed.device());
  DropoutCall call{};
  call.kind = kind_of(x.scalar_type());
  call.count = x.numel();
  call.seed = static_cast<uint64_t>(*seed.const_data_ptr<int64_t>());
  call.threshold = static_cast<uint32_t>(std::min(p * 0x1p32, 0x1p32 - 1));
  call.scale = 1 / (1 - p);
  return call;
}

void run(const DropoutCall& call) {
  const int64_t blocks = (call.count + kDropoutBlock - 1) / kDropoutBlock;
  at::parallel_for(0, blocks, grain_size(kWorkPerBlock), [&](int64_t begin, int64_t end) {
    capability().dropout(call, begin, end);
  });
}

at::Tensor dropout(const at::Tensor& x, const at::Tensor& seed, double p) {
  DropoutCall call = make_call(x, seed, p);
  const at::Tensor from = x.contiguous();
  auto to = at::empty(x.sizes(), x.options());
  use_huge_pages(to.mutable_data_ptr(), static_cast<int64_t>(to.nbytes()));
  call.from = from.const_data_ptr();
  call.to = to.mutable_data_ptr();
  run(call);
  return to;
}

void dropout_in_place(at::Tensor& x, const at::Tensor& seed, double p) {
  DropoutCall call = make_call(x, seed, p);
  TORCH_CHECK_VALUE(
      x.is_contiguous(), "dropout_: x must be contiguous, got sizes ", x.sizes(), " with strides ",
      x.strides());
  call.from = call.to = x.mutable_data_ptr();
  run(call);
}

}  // namespace
}  // namespace ms_detr::cpu

TORCH_LIBRARY_IMPL(ms_detr, CPU, m) {
  m.impl("dropout", &ms_detr::cpu::dropout);
  m.impl("dropout_", &ms_detr::cpu::dropout_in_place);
}
