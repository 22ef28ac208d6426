// Sizes of one call, read from tensors that were checked.
#pragma once

#include <cstdint>

namespace ms_detr {

struct Sizes {
  int64_t batch, tokens, heads, channels, queries, levels, points;
};

}  // namespace ms_detr
