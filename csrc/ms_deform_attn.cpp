// Checks of the arguments, and the Python module: importing it runs the registrations of the
// kernels.
#include "ms_deform_attn.h"

#include "cpu/capability.h"

#include <Python.h>

#include <c10/util/Exception.h>

#include <exception>

namespace ms_detr {
namespace {

constexpr const char* kPlain = "ms_deform_attn";
constexpr const char* kFused = "fused_deform_attn";

// Rows and columns of a level must convert to float exactly enough to be compared with a position,
// and a token's number to 32 bits.
constexpr int64_t kMaxSide = int64_t{1} << 24;
constexpr int64_t kMaxTokens = (int64_t{1} << 31) - 1;

int64_t count_tokens(const char* op, at::IntArrayRef shapes) {
  TORCH_CHECK_VALUE(
      !shapes.empty() && shapes.size() % 2 == 0, op,
      ": shapes must hold height and width of at least one level (h0, w0, h1, w1, ..), got ",
      shapes);
  int64_t tokens = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    TORCH_CHECK_VALUE(
        shapes[i] >= 1 && shapes[i + 1] >= 1 && shapes[i] <= kMaxSide && shapes[i + 1] <= kMaxSide,
        op, ": each height and width in shapes must be between 1 and ", kMaxSide, ", got ", shapes);
    tokens += shapes[i] * shapes[i + 1];
    TORCH_CHECK_VALUE(
        tokens <= kMaxTokens, op, ": the levels must hold at most ", kMaxTokens,
        " tokens, got the shapes ", shapes);
  }
  return tokens;
}

int64_t check_value(const char* op, const at::Tensor& value, at::IntArrayRef shapes) {
  const int64_t tokens = count_tokens(op, shapes);
  TORCH_CHECK_VALUE(
      value.dim() == 4 && value.size(1) == tokens && value.size(2) >= 1 && value.size(3) >= 1, op,
      ": value must be (batch, ", tokens, " tokens, heads, channels) for the shapes ", shapes,
      ", got ", value.sizes());
  return tokens;
}

void check_locations(const at::Tensor& locations, const at::Tensor& value, int64_t levels) {
  TORCH_CHECK_VALUE(
      locations.dim() == 6 && locations.size(0) == value.size(0) &&
          locations.size(2) == value.size(2) && locations.size(3) == levels &&
          locations.size(4) >= 1 && locations.size(5) == 2,
      kPlain, ": locations must be (", value.size(0), ", queries, ", value.size(2), " heads, ",
      levels, " levels, points, 2), got ", locations.sizes());
}

// Number of queries on which two of the three tensors agree: the third is wrong then.
int64_t agreed_queries(
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const auto queries = [](const at::Tensor& t) { return t.dim() > 1 ? t.size(1) : int64_t{-1}; };
  const int64_t r = queries(reference), o = queries(offsets), l = queries(logits);
  TORCH_CHECK_VALUE(
      r == o || r == l || o == l, kFused,
      ": reference, offsets and logits must have the same number of queries, got ",
      reference.sizes(), ", ", offsets.sizes(), " and ", logits.sizes());
  return r == o ? r : l;
}

void check_offsets(
    const at::Tensor& offsets, const at::Tensor& value, int64_t queries, int64_t levels) {
  TORCH_CHECK_VALUE(
      offsets.dim() == 6 && offsets.size(0) == value.size(0) && offsets.size(1) == queries &&
          offsets.size(2) == value.size(2) && offsets.size(3) == levels && offsets.size(4) >= 1 &&
          offsets.size(5) == 2,
      kFused, ": offsets must be (", value.size(0), ", ", queries, " queries, ", value.size(2),
      " heads, ", levels, " levels, points, 2), got ", offsets.sizes());
}

at::ScalarType wide_dtype(const char* op, const at::Tensor& value) {
  const auto dtype = value.scalar_type();
  TORCH_CHECK_VALUE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      op, ": value must be float32, float64, float16 or bfloat16, got ", dtype);
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

Sizes make_sizes(const at::Tensor& value, const at::Tensor& pairs) {
  return {value.size(0), value.size(1), value.size(2), value.size(3),
          pairs.size(1), pairs.size(3), pairs.size(4)};
}

void check_grad(const char* op, const at::Tensor& grad, const at::Tensor& value, const Sizes& n) {
  TORCH_CHECK_VALUE(
      grad.dim() == 3 && grad.size(0) == n.batch && grad.size(1) == n.queries &&
          grad.size(2) == n.heads * n.channels,
      op, ": grad must be (", n.batch, ", ", n.queries, ", ", n.heads * n.channels, "), got ",
      grad.sizes());
  TORCH_CHECK_VALUE(
      grad.scalar_type() == value.scalar_type() && grad.device() == value.device(), op,
      ": grad must have dtype and device of value, ", value.scalar_type(), " on ", value.device(),
      ", got ", grad.scalar_type(), " on ", grad.device());
}

}  // namespace

Sizes check_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  check_value(kPlain, value, shapes);
  check_locations(locations, value, static_cast<int64_t>(shapes.size() / 2));
  TORCH_CHECK_VALUE(
      weights.sizes() == locations.sizes().slice(0, 5), kPlain,
      ": weights must have the shape of locations without the last dimension, ",
      locations.sizes().slice(0, 5), ", got ", weights.sizes());
  const auto wide = wide_dtype(kPlain, value);
  TORCH_CHECK_VALUE(
      locations.scalar_type() == wide && weights.scalar_type() == wide, kPlain,
      ": with a value of ", value.scalar_type(), ", locations and weights must be ", wide, ", got ",
      locations.scalar_type(), " and ", weights.scalar_type());
  TORCH_CHECK_VALUE(
      locations.device() == value.device() && weights.device() == value.device(), kPlain,
      ": all tensors must be on one device, got value on ", value.device(), ", locations on ",
      locations.device(), ", weights on ", weights.device());
  return make_sizes(value, locations);
}

Sizes check_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  check_grad(kPlain, grad, value, n);
  return n;
}

Sizes check_fused_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& reference,
    const at::Tensor& offsets, const at::Tensor& logits) {
  check_value(kFused, value, shapes);
  const auto levels = static_cast<int64_t>(shapes.size() / 2);
  const int64_t queries = agreed_queries(reference, offsets, logits);
  check_offsets(offsets, value, queries, levels);
  const int64_t batch = value.size(0), heads = value.size(2), samples = levels * offsets.size(4);
  TORCH_CHECK_VALUE(
      reference.dim() == 4 && reference.size(0) == batch && reference.size(1) == queries &&
          reference.size(2) == levels && (reference.size(3) == 2 || reference.size(3) == 4),
      kFused, ": reference must be (", batch, ", ", queries, " queries, ", levels,
      " levels, 2 or 4) for the offsets ", offsets.sizes(), ", got ", reference.sizes());
  TORCH_CHECK_VALUE(
      logits.dim() == 4 && logits.size(0) == batch && logits.size(1) == queries &&
          logits.size(2) == heads && logits.size(3) == samples,
      kFused, ": logits must be (", batch, ", ", queries, ", ", heads, ", ", samples,
      ") for the offsets ", offsets.sizes(), ", got ", logits.sizes());
  const auto wide = wide_dtype(kFused, value);
  TORCH_CHECK_VALUE(
      reference.scalar_type() == wide && offsets.scalar_type() == wide &&
          logits.scalar_type() == wide,
      kFused, ": with a value of ", value.scalar_type(), ", reference, offsets and logits must be ",
      wide, ", got ", reference.scalar_type(), ", ", offsets.scalar_type(), " and ",
      logits.scalar_type());
  TORCH_CHECK_VALUE(
      reference.device() == value.device() && offsets.device() == value.device() &&
          logits.device() == value.device(),
      kFused, ": all tensors must be on one device, got value on ", value.device(),
      ", reference on ", reference.device(), ", offsets on ", offsets.device(), ", logits on ",
      logits.device());
  return make_sizes(value, offsets);
}

Sizes check_fused_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& reference, const at::Tensor& offsets, const at::Tensor& logits) {
  const Sizes n = check_fused_forward(value, shapes, reference, offsets, logits);
  check_grad(kFused, grad, value, n);
  return n;
}

}  // namespace ms_detr

namespace {

PyObject* cpu_capability(PyObject*, PyObject*) {
  try {
    return PyUnicode_FromString(ms_detr::cpu::capability().name);
  } catch (const c10::Error& error) {
    PyErr_SetString(PyExc_ValueError, error.what_without_backtrace());
    return nullptr;
  }
}

PyMethodDef kMethods[] = {
    {"cpu_capability", cpu_capability, METH_NOARGS,
     "Instruction set of the CPU kernels: 'avx512', 'avx2' or 'sse2'."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef kDefinition = {
    PyModuleDef_HEAD_INIT,
    "_C",
    "Compiled kernels of ms_detr, reached through torch.ops.",
    -1,
    kMethods,
    nullptr,
    nullptr,
    nullptr,
    nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C() {
  return PyModule_Create(&kDefinition);
}
