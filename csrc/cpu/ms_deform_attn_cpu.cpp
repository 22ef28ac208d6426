// Multi-scale deformable attention on the CPU, forward and backward: plain loops whose innermost
// one runs over the channels of a head and is left to the compiler's vectoriser. See
// ms_deform_attn.h for letters and shapes.
#include "ms_deform_attn.h"

#include "bilinear.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

namespace ms_detr {
namespace {

// Multiply-adds that are worth waking another thread for.
constexpr int64_t kGrain = 32768;

// Contiguous inputs as the loops read them. acc_t is the type of locations, weights and all sums.
template <typename scalar_t, typename acc_t>
struct Inputs {
  Inputs(
      const Sizes& n, at::IntArrayRef shapes, const at::Tensor& v, const at::Tensor& l,
      const at::Tensor& w)
      : n(n),
        shapes(shapes),
        value(v.const_data_ptr<scalar_t>()),
        locations(l.const_data_ptr<acc_t>()),
        weights(w.const_data_ptr<acc_t>()) {}

  // First token of an image for one head; the next token is heads * channels further.
  const scalar_t* head(int64_t image, int64_t h) const {
    return value + (image * n.tokens * n.heads + h) * n.channels;
  }

  const Sizes n;
  const at::IntArrayRef shapes;
  const scalar_t* value;
  const acc_t* locations;
  const acc_t* weights;
};

// sum[i] += the weighted corners of one sampling point.
template <typename scalar_t, typename acc_t>
void add_point(
    acc_t* C10_RESTRICT sum, const scalar_t* level, int64_t stride, const Cell<acc_t>& cell,
    acc_t weight, int64_t height, int64_t width, int64_t channels) {
  if (cell.whole) {
    const scalar_t* C10_RESTRICT p0 = level + cell.row(0, width) * stride;
    const scalar_t* C10_RESTRICT p1 = p0 + stride;
    const scalar_t* C10_RESTRICT p2 = level + cell.row(2, width) * stride;
    const scalar_t* C10_RESTRICT p3 = p2 + stride;
    const acc_t w0 = weight * cell.weight(0), w1 = weight * cell.weight(1);
    const acc_t w2 = weight * cell.weight(2), w3 = weight * cell.weight(3);
    for (int64_t i = 0; i < channels; ++i) {
      sum[i] += w0 * acc_t(p0[i]) + w1 * acc_t(p1[i]) + w2 * acc_t(p2[i]) + w3 * acc_t(p3[i]);
    }
    return;
  }
  for (int corner = 0; corner < 4; ++corner) {
    if (!cell.has(corner, height, width)) {
      continue;
    }
    const scalar_t* C10_RESTRICT p = level + cell.row(corner, width) * stride;
    const acc_t w = weight * cell.weight(corner);
    for (int64_t i = 0; i < channels; ++i) {
      sum[i] += w * acc_t(p[i]);
    }
  }
}

// Output of one query and head into sum.
template <typename scalar_t, typename acc_t>
void attend(
    const Inputs<scalar_t, acc_t>& in, int64_t image, int64_t query, int64_t h, acc_t* sum) {
  const Sizes& n = in.n;
  const int64_t stride = n.heads * n.channels;
  const int64_t first = ((image * n.queries + query) * n.heads + h) * n.levels * n.points;
  const acc_t* location = in.locations + 2 * first;
  const acc_t* weight = in.weights + first;
  const scalar_t* level = in.head(image, h);
  std::fill(sum, sum + n.channels, acc_t(0));
  for (int64_t l = 0; l < n.levels; ++l) {
    const int64_t height = in.shapes[2 * l], width = in.shapes[2 * l + 1];
    for (int64_t z = 0; z < n.points; ++z, location += 2, ++weight) {
      const auto cell = locate(location[0], location[1], height, width);
      if (cell.touches) {
        add_point(sum, level, stride, cell, *weight, height, width, n.channels);
      } else if (!is_finite(location[0]) || !is_finite(location[1]) || !is_finite(*weight)) {
        std::fill(sum, sum + n.channels, std::numeric_limits<acc_t>::quiet_NaN());
      }
    }
    level += height * width * stride;
  }
}

template <typename scalar_t, typename acc_t>
void forward_loop(const Inputs<scalar_t, acc_t>& in, scalar_t* output) {
  const Sizes& n = in.n;
  const int64_t work = n.heads * n.channels * n.levels * n.points * 4;
  at::parallel_for(
      0, n.batch * n.queries, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
        std::vector<acc_t> sum(n.channels);
        for (int64_t row = begin; row < end; ++row) {
          for (int64_t h = 0; h < n.heads; ++h) {
            attend(in, row / n.queries, row % n.queries, h, sum.data());
            std::copy(sum.begin(), sum.end(), output + (row * n.heads + h) * n.channels);
          }
        }
      });
}

// One corner: adds weight * grad to the gradient of its token, returns grad . token.
template <typename scalar_t, typename acc_t>
acc_t corner_backward(
    acc_t* C10_RESTRICT grad_token, const scalar_t* C10_RESTRICT token,
    const acc_t* C10_RESTRICT grad, acc_t weight, int64_t channels) {
  acc_t dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < channels; ++i) {
    dot += grad[i] * acc_t(token[i]);
    grad_token[i] += weight * grad[i];
  }
  return dot;
}

// Gradients of one query and head. grad: (c). grad_value: (S, c), of this image and head alone.
template <typename scalar_t, typename acc_t>
void attend_backward(
    const Inputs<scalar_t, acc_t>& in, int64_t image, int64_t query, int64_t h, const acc_t* grad,
    acc_t* grad_value, acc_t* grad_locations, acc_t* grad_weights) {
  const Sizes& n = in.n;
  const int64_t stride = n.heads * n.channels;
  const int64_t first = ((image * n.queries + query) * n.heads + h) * n.levels * n.points;
  const scalar_t* value = in.head(image, h);
  int64_t start = 0;
  for (int64_t l = 0; l < n.levels; ++l) {
    const int64_t height = in.shapes[2 * l], width = in.shapes[2 * l + 1];
    for (int64_t i = first + l * n.points; i < first + (l + 1) * n.points; ++i) {
      const acc_t x = in.locations[2 * i], y = in.locations[2 * i + 1], weight = in.weights[i];
      const auto cell = locate(x, y, height, width);
      if (!cell.touches) {
        const bool finite = is_finite(x) && is_finite(y);
        const acc_t none = finite ? acc_t(0) : std::numeric_limits<acc_t>::quiet_NaN();
        grad_weights[i] = grad_locations[2 * i] = grad_locations[2 * i + 1] = none;
        continue;
      }
      acc_t dot[4] = {0, 0, 0, 0};
      for (int corner = 0; corner < 4; ++corner) {
        if (cell.has(corner, height, width)) {
          const int64_t token = start + cell.row(corner, width);
          dot[corner] = corner_backward(
              grad_value + token * n.channels, value + token * stride, grad,
              weight * cell.weight(corner), n.channels);
        }
      }
      const auto g = point_backward(dot, cell, weight, height, width);
      grad_weights[i] = g.weight;
      grad_locations[2 * i] = g.x;
      grad_locations[2 * i + 1] = g.y;
    }
    start += height * width;
  }
}

// One task per image and head: it alone writes its part of each gradient, so that there are no
// atomics, and the order of all sums is the same with any number of threads.
template <typename scalar_t, typename acc_t>
void backward_loop(
    const Inputs<scalar_t, acc_t>& in, const scalar_t* grad, scalar_t* grad_value,
    acc_t* grad_locations, acc_t* grad_weights) {
  const Sizes& n = in.n;
  at::parallel_for(0, n.batch * n.heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<acc_t> sums(n.tokens * n.channels), grad_row(n.channels);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / n.heads, h = task % n.heads;
      std::fill(sums.begin(), sums.end(), acc_t(0));
      for (int64_t query = 0; query < n.queries; ++query) {
        const scalar_t* row = grad + ((image * n.queries + query) * n.heads + h) * n.channels;
        std::copy(row, row + n.channels, grad_row.begin());
        attend_backward(
            in, image, query, h, grad_row.data(), sums.data(), grad_locations, grad_weights);
      }
      for (int64_t token = 0; token < n.tokens; ++token) {
        const acc_t* sum = sums.data() + token * n.channels;
        std::copy(
            sum, sum + n.channels,
            grad_value + ((image * n.tokens + token) * n.heads + h) * n.channels);
      }
    }
  });
}

at::Tensor forward(
    const at::Tensor& value, at::IntArrayRef shapes, const at::Tensor& locations,
    const at::Tensor& weights) {
  const Sizes n = check_forward(value, shapes, locations, weights);
  const auto v = value.contiguous(), l = locations.contiguous(), w = weights.contiguous();
  auto output = at::empty({n.batch, n.queries, n.heads * n.channels}, v.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, v.scalar_type(), "ms_deform_attn_cpu", [&] {
        const Inputs<scalar_t, at::opmath_type<scalar_t>> in(n, shapes, v, l, w);
        forward_loop(in, output.mutable_data_ptr<scalar_t>());
      });
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(
    const at::Tensor& grad, const at::Tensor& value, at::IntArrayRef shapes,
    const at::Tensor& locations, const at::Tensor& weights) {
  const Sizes n = check_backward(grad, value, shapes, locations, weights);
  const auto g = grad.contiguous(), v = value.contiguous(), l = locations.contiguous(),
             w = weights.contiguous();
  auto grad_value = at::empty(v.sizes(), v.options());
  auto grad_locations = at::empty(l.sizes(), l.options());
  auto grad_weights = at::empty(w.sizes(), w.options());
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, v.scalar_type(), "ms_deform_attn_backward_cpu", [&] {
        using acc_t = at::opmath_type<scalar_t>;
        const Inputs<scalar_t, acc_t> in(n, shapes, v, l, w);
        backward_loop(
            in, g.const_data_ptr<scalar_t>(), grad_value.mutable_data_ptr<scalar_t>(),
            grad_locations.mutable_data_ptr<acc_t>(), grad_weights.mutable_data_ptr<acc_t>());
      });
  return {grad_value, grad_locations, grad_weights};
}

}  // namespace
}  // namespace ms_detr

TORCH_LIBRARY_IMPL(ms_detr, CPU, m) {
  m.impl("ms_deform_attn", &ms_detr::forward);
  m.impl("ms_deform_attn_backward", &ms_detr::backward);
}
