// Where one sampling point lies on one level, and the derivatives of what is read there.
#pragma once

#include "call.h"

#include <cmath>

namespace ms_detr::cuda {

// One sampling point: (x, y) are fractions of the level's width and height; 0 and 1 are the outer
// borders of the first and the last pixel.
template <typename T>
struct Sample {
  T x, y, weight;

  // 0, or NaN if the position is not finite.
  C10_HOST_DEVICE T unfit() const { return (x - x) + (y - y); }
};

// The four pixels around a sampling point. (x0, y0) is the upper left one; it and the pixel
// (x0 + 1, y0 + 1) may lie one outside the level. Corners are counted upper left, upper right,
// lower left, lower right.
template <typename T>
struct Quad {
  bool touches;  // at least one corner is a pixel of the level; the rest is only set if so
  int32_t x0, y0;
  T fx, fy;  // distance from (x0, y0) in pixels, in [0, 1]

  C10_HOST_DEVICE bool has(int corner, const Level& level) const {
    const int32_t x = x0 + (corner & 1), y = y0 + (corner >> 1);
    return x >= 0 && x < level.width && y >= 0 && y < level.height;
  }
  C10_HOST_DEVICE int32_t row(int corner, const Level& level) const {
    return level.start + (y0 + (corner >> 1)) * level.width + x0 + (corner & 1);
  }
};

// Bilinear weight of a corner.
template <typename T>
C10_HOST_DEVICE inline T corner_share(int corner, T fx, T fy) {
  return ((corner & 1) ? fx : T(1) - fx) * ((corner >> 1) ? fy : T(1) - fy);
}

template <typename T>
C10_HOST_DEVICE inline Quad<T> locate(const Sample<T>& sample, const Level& level) {
  Quad<T> quad{};
  const T px = sample.x * T(level.width) - T(0.5), py = sample.y * T(level.height) - T(0.5);
  // Compared as floating point numbers, before the conversion to integers: that is undefined for
  // NaN and for huge numbers, and all of them fail this test.
  quad.touches = px >= T(-1) && px < T(level.width) && py >= T(-1) && py < T(level.height);
  if (quad.touches) {
    const T left = std::floor(px), top = std::floor(py);
    quad.x0 = static_cast<int32_t>(left);
    quad.y0 = static_cast<int32_t>(top);
    quad.fx = px - left;
    quad.fy = py - top;
  }
  return quad;
}

// Gradients of a sample's position and weight. dot[corner]: gradient of the output times that
// corner's token, 0 for a corner outside the level.
template <typename T>
C10_HOST_DEVICE inline Sample<T> sample_gradient(
    const Sample<T>& sample, const Level& level, const T (&dot)[4]) {
  const Quad<T> quad = locate(sample, level);
  if (!quad.touches) {
    const T none = sample.unfit();
    return {none, none, none};
  }
  const T fx = quad.fx, fy = quad.fy;
  const T along_x = (T(1) - fy) * (dot[1] - dot[0]) + fy * (dot[3] - dot[2]);
  const T along_y = (T(1) - fx) * (dot[2] - dot[0]) + fx * (dot[3] - dot[1]);
  T sampled = 0;
  for (int corner = 0; corner < 4; ++corner) {
    sampled += corner_share(corner, fx, fy) * dot[corner];
  }
  return {
      sample.weight * along_x * T(level.width), sample.weight * along_y * T(level.height), sampled};
}

}  // namespace ms_detr::cuda
