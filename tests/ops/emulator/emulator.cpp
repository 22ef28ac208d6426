// The kernels of csrc/cuda and their launch code, compiled for a processor; called through ctypes
// by emulated.py.
#include "simt.h"

#include "launch.cuh"
#include "launcher.h"

namespace {

// The same fields as in emulated.py.
struct Request {
  int64_t kind, most_blocks, reference_size;
  uint64_t seed;
  ms_detr::Sizes sizes;
  const int64_t* shapes;
  const void *value, *reference, *places, *shares, *grad;
  void *output, *grad_value, *grad_places, *grad_shares, *grad_reference;
  int64_t *keys, *order, *starts;
  void* table;
};

using namespace ms_detr::cuda;

Arguments arguments(const Request& r) {
  return {
      static_cast<Kind>(r.kind),
      make_call(r.sizes, r.shapes),
      r.value,
      r.places,
      r.shares,
      r.reference,
      static_cast<int32_t>(r.reference_size)};
}

template <template <typename> class Front>
void run(const std::string& what, const Request& r) {
  const Launcher launcher{r.most_blocks, r.seed};
  const Arguments a = arguments(r);
  if (what == "forward") {
    launch_forward<Front>(launcher, a, r.output);
  } else if (what == "backward") {
    launch_backward<Front>(
        launcher, a, r.grad, {r.grad_value, r.grad_places, r.grad_shares, r.grad_reference});
  } else if (what == "keys") {
    launch_keys<Front>(launcher, a, r.keys, r.table);
  } else {
    launch_collect(launcher, a, r.grad, r.order, r.starts, r.table, r.grad_value);
  }
}

}  // namespace

// Null, or what went wrong.
extern "C" const char* emulate(const char* what, const Request* request) {
  static std::string message;
  try {
    if (request->reference == nullptr) {
      run<PlainFront>(what, *request);
    } else {
      run<FusedFront>(what, *request);
    }
    return nullptr;
  } catch (const std::runtime_error& error) {
    message = error.what();
    return message.c_str();
  }
}
