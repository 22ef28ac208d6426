// Working memory of one thread, cut from one block.
#pragma once

#include "front.h"

namespace ms_detr::cpu {
namespace {

template <typename T>
class Scratch {
 public:
  explicit Scratch(T* begin) : next_(begin) {}
  T* take(int64_t count) {
    T* begin = next_;
    next_ += count;  // whole vectors are asked for, so that all parts are aligned
    return begin;
  }
  template <bool backward>
  Cell<T> take_cell(int64_t padded) {
    Cell<T> cell{};
    cell.corners.row = reinterpret_cast<typename IndexOf<T>::type*>(take(4 * padded));
    cell.corners.weight = take(4 * padded);
    for (int i = 0; backward && i < 4; ++i) {
      cell.geometry.share[i] = take(padded);
      cell.geometry.inside[i] = reinterpret_cast<typename IndexOf<T>::type*>(take(padded));
    }
    if (backward) {
      cell.geometry.weight = take(padded);
      cell.geometry.outside = take(padded);
    }
    Places<T>& places = cell.places;
    for (T** part :
         {&places.weight, &places.center_x, &places.center_y, &places.scale_x, &places.scale_y}) {
      *part = take(padded);
    }
    // Rows are looked at ahead of time, also those of a cell that never comes.
    std::memset(cell.corners.row, 0, sizeof(T) * static_cast<size_t>(4 * padded));
    return cell;
  }

 private:
  T* next_;
};

// Enough for the forward and for the backward pass.
template <typename T>
int64_t scratch_size(int64_t padded, int64_t channels) {
  constexpr int64_t kPerSample = 2 * (8 + 10 + 5) + 3 + 4;
  return kPerSample * padded + 2 * channels;
}

}  // namespace
}  // namespace ms_detr::cpu
