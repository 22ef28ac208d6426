// Kernels for every machine: vectors of 16 bytes, that is SSE2 on x86-64 and NEON on ARM.
#define MS_DETR_VECTOR_BYTES 16
#include "kernels.h"

namespace ms_detr::cpu {
namespace {
bool always() {
  return true;
}
}  // namespace

const Capability kBaseline = {
    "sse2", &always, make_kernels<float>(), make_kernels<double>(), &dropout};

}  // namespace ms_detr::cpu
