// Checks of the arguments, and the Python module: importing it runs the registrations of the
// kernels.
#include "ms_deform_attn.h"

#include <Python.h>

#include <c10/util/Exception.h>

namespace ms_detr {
namespace {

// Rows and columns of a level must convert to float exactly enough to be compared with a position.
constexpr int64_t kMaxSide = int64_t{1} << 24;

int64_t count_tokens(at::IntArrayRef shapes) {
  TORCH_CHECK_VALUE(
      !shapes.empty() && shapes.size() % 2 == 0,
      "ms_deform_attn: shapes must hold height and width of at least one level (h0, w0, h1, w1, "
      "..), got ",
      shapes);
  int64_t tokens = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    TORCH_CHECK_VALUE(
        shapes[i] >= 1 && shapes[i + 1] >= 1 && shapes[i] <= kMaxSide && shapes[i + 1] <= kMaxSide,
        "ms_deform_attn: each height and width in shapes must be between 1 and ", kMaxSide,
        ", got ", shapes);
    tokens += shapes[i] * shapes[i + 1];
  }
  return tokens;
}

void check_dtypes(const at::Tensor& value, const at::Tensor& locations, const at::Tensor& weights) {
  const auto dtype = value.scalar_type();
  TORCH_CHECK_VALUE(
      dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
      "ms_deform_attn: value must be float32, float64, float16 or bfloat16, got ", dtype);
  const auto wanted = dtype == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_VALUE(
      locations.scalar_type() == wanted && weights.scalar_type() == wanted,
      "ms_deform_attn: with a value of ", dtype, ", locations and weights must be ", wanted,
      ", got ", locations.scalar_type(), " and ", weights.scalar_type());
}

}  // namespace

Sizes check_forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const int64_t tokens = count_tokens(shapes);
  const auto levels = static_cast<int64_t>(shapes.size() / 2);
  TORCH_CHECK_VALUE(
      value.dim() == 4 && value.size(1) == tokens && value.size(2) >= 1 && value.size(3) >= 1,
      "ms_deform_attn: value must be (batch, ", tokens, " tokens, heads, channels) for the shapes ",
      shapes, ", got ", value.sizes());
  TORCH_CHECK_VALUE(
      locations.dim() == 6 && locations.size(0) == value.size(0) &&
          locations.size(2) == value.size(2) && locations.size(3) == levels &&
          locations.size(4) >= 1 && locations.size(5) == 2,
      "ms_deform_attn: locations must be (", value.size(0), ", queries, ", value.size(2),
      " heads, ", levels, " levels, points, 2), got ", locations.sizes());
  TORCH_CHECK_VALUE(
      weights.sizes() == locations.sizes().slice(0, 5),
      "ms_deform_attn: weights must have the shape of locations without the last dimension, ",
      locations.sizes().slice(0, 5), ", got ", weights.sizes());
  check_dtypes(value, locations, weights);
  TORCH_CHECK_VALUE(
      locations.device() == value.device() && weights.device() == value.device(),
      "ms_deform_attn: all tensors must be on one device, got value on ", value.device(),
      ", locations on ", locations.device(), ", weights on ", weights.device());
  return {value.size(0),     tokens, value.size(2),    value.size(3),
          locations.size(1), levels, locations.size(4)};
}

Sizes check_backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  TORCH_CHECK_VALUE(
      grad.dim() == 3 && grad.size(0) == n.batch && grad.size(1) == n.queries &&
          grad.size(2) == n.heads * n.channels,
      "ms_deform_attn: grad must be (", n.batch, ", ", n.queries, ", ", n.heads * n.channels,
      "), got ", grad.sizes());
  TORCH_CHECK_VALUE(
      grad.scalar_type() == value.scalar_type() && grad.device() == value.device(),
      "ms_deform_attn: grad must have dtype and device of value, ", value.scalar_type(), " on ",
      value.device(), ", got ", grad.scalar_type(), " on ", grad.device());
  return n;
}

}  // namespace ms_detr

// The module is empty: all that it does is to exist, so that importing it loads the library.
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, "_C", "Compiled kernels of ms_detr, reached through torch.ops.", -1,
      nullptr};
  return PyModule_Create(&definition);
}
