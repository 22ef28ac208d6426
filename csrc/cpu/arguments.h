// From tensors to what the kernels read.
#pragma once

#include "../ms_deform_attn.h"
#include "capability.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

namespace ms_detr::cpu {

inline Kind kind_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return Kind::kDouble;
    case at::kBFloat16:
      return Kind::kBFloat16;
    case at::kHalf:
      return Kind::kHalf;
    default:
      return Kind::kFloat;
  }
}

inline int64_t round_up(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// Owner of the tables of one call.
template <typename T>
class Samples {
 public:
  using Index = typename IndexOf<T>::type;

  // The padding repeats the last sample's level; what is computed for it is never used.
  Samples(const Sizes& n, at::IntArrayRef shapes)
      : padded_(round_up(n.levels * n.points, kernels<T>().width)),
        width_(padded_),
        height_(padded_),
        columns_(padded_),
        rows_(padded_),
        start_(padded_) {
    std::vector<int64_t> first(n.levels, 0);
    for (int64_t l = 1; l < n.levels; ++l) {
      first[l] = first[l - 1] + shapes[2 * l - 2] * shapes[2 * l - 1];
    }
    for (int64_t k = 0; k < padded_; ++k) {
      const int64_t l = std::min(k / n.points, n.levels - 1);
      rows_[k] = static_cast<Index>(shapes[2 * l]);
      columns_[k] = static_cast<Index>(shapes[2 * l + 1]);
      height_[k] = static_cast<T>(shapes[2 * l]);
      width_[k] = static_cast<T>(shapes[2 * l + 1]);
      start_[k] = static_cast<Index>(first[l]);
    }
  }

  SampleTables<T> tables() const {
    return {padded_, width_.data(), height_.data(), columns_.data(), rows_.data(), start_.data()};
  }

 private:
  int64_t padded_;
  std::vector<T> width_, height_;
  std::vector<Index> columns_, rows_, start_;
};

// Contiguous inputs of the plain operator (reference undefined: places are locations, shares are
// weights) or of the fused one (places are offsets, shares are logits).
struct Inputs {
  Inputs(
      const Sizes& sizes, at::IntArrayRef sides, const at::Tensor& v, const at::Tensor& r,
      const at::Tensor& p, const at::Tensor& s)
      : n(sizes),
        shapes(sides),
        value(v.contiguous()),
        reference(r.defined() ? r.contiguous() : r),
        places(p.contiguous()),
        shares(s.contiguous()) {}

  Sizes n;
  at::IntArrayRef shapes;
  at::Tensor value, reference, places, shares;
};

template <typename T>
Call<T> make_call(const Inputs& in, const Samples<T>& samples) {
  Call<T> call{};
  call.heads = in.n.heads;
  call.channels = in.n.channels;
  call.queries = in.n.queries;
  call.levels = in.n.levels;
  call.points = in.n.points;
  call.samples = in.n.levels * in.n.points;
  call.tables = samples.tables();
  call.kind = kind_of(in.value.scalar_type());
  call.places = in.places.template const_data_ptr<T>();
  call.shares = in.shares.template const_data_ptr<T>();
  if (in.reference.defined()) {
    call.reference = in.reference.template const_data_ptr<T>();
    call.reference_size = in.reference.size(3);
  }
  return call;
}

// Tokens of one image, from one head on, as they lie in the tensor.
inline Rows token_rows(const Inputs& in, int64_t image, int64_t head) {
  const int64_t first = (image * in.n.tokens * in.n.heads + head) * in.n.channels;
  const auto* data = static_cast<const char*>(in.value.const_data_ptr());
  return {
      data + first * static_cast<int64_t>(in.value.element_size()), kind_of(in.value.scalar_type()),
      in.n.heads * in.n.channels};
}

// Whether to copy each head's tokens to a matrix of their own first. Tokens of one head lie H * c
// numbers apart, so that they compete for a fraction of the cache; the copy pays as soon as there
// are about as many samples as tokens.
inline bool many_queries(const Sizes& n) {
  return n.queries * n.levels * n.points >= n.tokens;
}

}  // namespace ms_detr::cpu
