// Where one sampling point lies on one level: arithmetic of the CUDA kernels (the CPU kernels
// compute it for many points at once, see cpu/corners.h).
#pragma once

#include <c10/macros/Macros.h>

#include <cstdint>

namespace ms_detr {

// False for NaN and for both infinities; the same text serves host and device code.
template <typename T>
C10_HOST_DEVICE inline bool is_finite(T x) {
  return x - x == T(0);
}

// The four pixels around a sampling point and the bilinear weights. (x0, y0) is the upper left
// pixel; it and the pixel (x0 + 1, y0 + 1) may lie one outside the level: such corners count as
// zeros.
template <typename T>
struct Cell {
  bool touches;  // at least one corner is a pixel of the level; the rest is only set if so
  bool whole;    // all four corners are pixels of the level
  int64_t x0, y0;
  T fx, fy;  // distance from (x0, y0) in pixels, in [0, 1)

  C10_HOST_DEVICE bool has(int corner, int64_t height, int64_t width) const {
    const int64_t x = x0 + (corner & 1), y = y0 + (corner >> 1);
    return x >= 0 && x < width && y >= 0 && y < height;
  }
  // Row of the level's token matrix that holds corner 0 (upper left), 1 (upper right), 2 (lower
  // left), 3 (lower right).
  C10_HOST_DEVICE int64_t row(int corner, int64_t width) const {
    return (y0 + (corner >> 1)) * width + x0 + (corner & 1);
  }
  C10_HOST_DEVICE T weight(int corner) const {
    return ((corner & 1) ? fx : T(1) - fx) * ((corner >> 1) ? fy : T(1) - fy);
  }
};

// (x, y): fraction of the level's width and height; 0 and 1 are the outer borders of the first and
// the last pixel.
template <typename T>
C10_HOST_DEVICE inline Cell<T> locate(T x, T y, int64_t height, int64_t width) {
  Cell<T> cell{};
  const T px = x * T(width) - T(0.5), py = y * T(height) - T(0.5);
  // Compared as floating point numbers, before the conversion to integers: that is undefined for
  // NaN and for huge numbers, and all of them fail this test.
  cell.touches = px >= T(-1) && px < T(width) && py >= T(-1) && py < T(height);
  if (!cell.touches) {
    return cell;
  }
  // px + 1 is not negative, so that truncation is floor.
  cell.x0 = static_cast<int64_t>(px + T(1)) - 1;
  cell.y0 = static_cast<int64_t>(py + T(1)) - 1;
  cell.fx = px - T(cell.x0);
  cell.fy = py - T(cell.y0);
  cell.whole = cell.x0 >= 0 && cell.y0 >= 0 && cell.x0 + 1 < width && cell.y0 + 1 < height;
  return cell;
}

template <typename T>
struct PointGradient {
  T weight, x, y;
};

// Gradients of a sampling point's weight and position. dot[corner]: gradient of the output times
// that corner's token, 0 for a corner outside the level.
template <typename T>
C10_HOST_DEVICE inline PointGradient<T> point_backward(
    const T (&dot)[4], const Cell<T>& cell, T weight, int64_t height, int64_t width) {
  const T right = (T(1) - cell.fy) * (dot[1] - dot[0]) + cell.fy * (dot[3] - dot[2]);
  const T down = (T(1) - cell.fx) * (dot[2] - dot[0]) + cell.fx * (dot[3] - dot[1]);
  T sampled = 0;
  for (int corner = 0; corner < 4; ++corner) {
    sampled += cell.weight(corner) * dot[corner];
  }
  return {sampled, weight * right * T(width), weight * down * T(height)};
}

}  // namespace ms_detr
