// Kernels for AVX-512: vectors of 64 bytes. Nothing but the kernels may be compiled for it,
// so that all other headers come before the target is set.
#include "call.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <cstring>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(                                                                 \
    __attribute__((                                                                           \
        target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prefer-vector-width=512")
#endif
#define MS_DETR_VECTOR_BYTES 64
#include "kernels.h"

namespace ms_detr::cpu {
namespace {
bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
}  // namespace

const Capability kAvx512 = {
    "avx512", &supported, make_kernels<float>(), make_kernels<double>(), &dropout};

}  // namespace ms_detr::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
