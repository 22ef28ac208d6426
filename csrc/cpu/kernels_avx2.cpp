// Kernels for AVX2 with FMA and F16C: vectors of 32 bytes. Nothing but the kernels may be compiled
// for it, so that all other headers come before the target is set.
#include "call.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <cstring>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define MS_DETR_VECTOR_BYTES 32
#include "kernels.h"

namespace ms_detr::cpu {
namespace {
bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
}  // namespace

const Capability kAvx2 = {
    "avx2", &supported, make_kernels<float>(), make_kernels<double>(), &dropout};

}  // namespace ms_detr::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
