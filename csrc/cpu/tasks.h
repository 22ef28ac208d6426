// Independent tasks over threads, handed out one by one: a thread that the system holds up does not
// hold up the others.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace ms_detr::cpu {

// Multiply-adds, and copied numbers, that are worth waking another thread for.
constexpr int64_t kGrain = 32768;

inline int64_t grain_size(int64_t work_per_item) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, work_per_item));
}

// Every thread calls prepare() once, and what that returns for one task after the other.
template <typename Prepare>
void run_tasks(int64_t count, int64_t work_per_task, const Prepare& prepare) {
  const int64_t worth = count * std::max<int64_t>(1, work_per_task) / kGrain;
  const int64_t workers =
      std::min<int64_t>({count, static_cast<int64_t>(at::get_num_threads()), worth + 1});
  std::atomic<int64_t> next{0};
  at::parallel_for(0, workers, 1, [&](int64_t, int64_t) {
    const auto task = prepare();
    for (int64_t i = next++; i < count; i = next++) {
      task(i);
    }
  });
}

}  // namespace ms_detr::cpu
