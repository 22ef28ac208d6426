// Which instruction set the kernels use.
#pragma once

#include "call.h"

namespace ms_detr::cpu {

// The best that this machine has, or less, if the environment variable MS_DETR_CPU_CAPABILITY says
// so (avx512, avx2, sse2; default: no limit). The variable is read at the first call. Throws a
// ValueError if it holds something else.
const Capability& capability();

template <typename T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
  return capability().floats;
}
template <>
inline const Kernels<double>& kernels<double>() {
  return capability().doubles;
}

}  // namespace ms_detr::cpu
