#include "capability.h"

#include <c10/util/Exception.h>

#include <cstdlib>
#include <string>

namespace ms_detr::cpu {
namespace {

// From the best to the least. The limit is the name of one that is compiled in; a machine that
// lacks it uses the next one that it has.
const Capability& choose() {
#if defined(__x86_64__) && defined(__GNUC__)
  const Capability* all[] = {&kAvx512, &kAvx2, &kBaseline};
#else
  const Capability* all[] = {&kBaseline};
#endif
  const char* limit = std::getenv("MS_DETR_CPU_CAPABILITY");
  bool allowed = limit == nullptr || *limit == '\0';
  std::string names;
  for (const Capability* one : all) {
    allowed = allowed || std::string(limit) == one->name;
    if (allowed && one->supported()) {
      return *one;
    }
    names += names.empty() ? one->name : std::string(", ") + one->name;
  }
  TORCH_CHECK_VALUE(
      false, "MS_DETR_CPU_CAPABILITY=", limit, " is not known; set it to one of ", names,
      ", or unset it");
}

}  // namespace

const Capability& capability() {
  static const Capability& chosen = choose();
  return chosen;
}

}  // namespace ms_detr::cpu
