// Working memory, not initialised.
#pragma once

#include "huge_pages.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace ms_detr::cpu {

template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(allocate(count)) {}
  T* get() const { return static_cast<T*>(data_.get()); }

 private:
  static constexpr std::align_val_t kAlignment{64};  // of a cache line and of the longest vector

  static void* allocate(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(T);
    void* data = ::operator new(bytes, kAlignment);
    use_huge_pages(data, static_cast<int64_t>(bytes));
    return data;
  }

  struct Free {
    void operator()(void* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<void, Free> data_;
};

}  // namespace ms_detr::cpu
