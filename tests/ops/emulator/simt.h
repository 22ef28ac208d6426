// Runs CUDA kernels on a processor: as much of CUDA as the kernels of csrc/cuda use, for g++.
//
// Every lane is a fiber. A warp goes on when all of its lanes wait at the same place; which lane,
// warp and block comes first is drawn from a seed, so that a result that depends on the order
// shows. Shared memory is NaN before a block starts.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

// After the headers of torch, which would take this for a CUDA compiler.
#define __CUDA_ARCH__ EMULATED_ARCH
#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(threads)

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

namespace simt {

struct Index {
  unsigned int x, y;
};

constexpr int kWarp = 32;
constexpr size_t kStack = 128 * 1024;
constexpr size_t kSharedUnits = 3072;  // 48 KB

struct Lane {
  enum State { kReady, kWaiting, kDone };
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state;
  const char* place;  // where it waits
  int distance;       // to the lane that it exchanges numbers with
  uint64_t given, taken;
};

inline Lane* lane = nullptr;  // that runs
inline ucontext_t scheduler;

}  // namespace simt

inline simt::Index threadIdx, blockIdx, gridDim, blockDim;

namespace ms_detr::cuda {
inline uint4 shared_memory[simt::kSharedUnits];  // the kernels declare it extern
}

namespace simt {

inline void wait(const char* place, int distance, uint64_t given) {
  lane->state = Lane::kWaiting;
  lane->place = place;
  lane->distance = distance;
  lane->given = given;
  swapcontext(&lane->context, &scheduler);
}

class Grid {
 public:
  Grid(unsigned int blocks, unsigned int images, int threads, size_t shared_bytes, uint64_t seed)
      : blocks_(blocks), images_(images), shared_(shared_bytes), random_(seed), lanes_(threads) {
    if (blocks == 0 || images == 0 || threads % kWarp != 0 ||
        shared_bytes > sizeof(ms_detr::cuda::shared_memory)) {
      throw std::runtime_error("a launch that a GPU would refuse");
    }
  }

  // kernel(): with all arguments bound.
  template <typename Kernel>
  void run(const Kernel& kernel) {
    entry_ = [](unsigned int low, unsigned int high) {
      (*reinterpret_cast<const Kernel*>(uint64_t{high} << 32 | low))();
      lane->state = Lane::kDone;
    };
    const auto address = reinterpret_cast<uint64_t>(&kernel);
    gridDim = {blocks_, images_};
    blockDim = {static_cast<unsigned int>(lanes_.size()), 1};
    for (const unsigned int block : shuffled(blocks_ * images_)) {
      blockIdx = {block % blocks_, block / blocks_};
      auto* bytes = reinterpret_cast<unsigned char*>(ms_detr::cuda::shared_memory);
      std::memset(bytes, 0xff, sizeof(ms_detr::cuda::shared_memory));
      run_block(address);
      for (size_t i = shared_; i < sizeof(ms_detr::cuda::shared_memory); ++i) {
        if (bytes[i] != 0xff) {
          throw std::runtime_error("written beyond the shared memory of the launch");
        }
      }
    }
  }

 private:
  std::vector<unsigned int> shuffled(size_t count) {
    std::vector<unsigned int> order(count);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), random_);
    return order;
  }

  void run_block(uint64_t kernel) {
    for (Lane& each : lanes_) {
      getcontext(&each.context);
      each.context.uc_stack.ss_sp = each.stack.get();
      each.context.uc_stack.ss_size = kStack;
      each.context.uc_link = &scheduler;
      each.state = Lane::kReady;
      makecontext(
          &each.context, reinterpret_cast<void (*)()>(entry_), 2, static_cast<unsigned int>(kernel),
          static_cast<unsigned int>(kernel >> 32));
    }
    for (bool busy = true; busy;) {
      busy = false;
      for (const unsigned int warp : shuffled(lanes_.size() / kWarp)) {
        busy |= run_warp(warp * kWarp);
      }
    }
  }

  // Runs the warp's lanes up to the next place where they wait; false once all have returned.
  bool run_warp(size_t first) {
    if (lanes_[first].state == Lane::kDone) {
      return false;
    }
    for (const unsigned int i : shuffled(kWarp)) {
      lane = &lanes_[first + i];
      threadIdx = {static_cast<unsigned int>(first + i), 0};
      swapcontext(&scheduler, &lane->context);
    }
    const Lane& leader = lanes_[first];
    for (size_t i = first; i < first + kWarp; ++i) {
      const bool same = lanes_[i].state == leader.state &&
                        (leader.state == Lane::kDone || (lanes_[i].place == leader.place &&
                                                         lanes_[i].distance == leader.distance));
      if (!same) {
        throw std::runtime_error("lanes of a warp wait for each other at different places");
      }
    }
    if (leader.state == Lane::kDone) {
      return false;
    }
    for (size_t i = 0; i < kWarp; ++i) {
      lanes_[first + i].taken = lanes_[first + (i ^ leader.distance)].given;
      lanes_[first + i].state = Lane::kReady;
    }
    return true;
  }

  unsigned int blocks_, images_;
  size_t shared_;
  std::mt19937_64 random_;
  std::vector<Lane> lanes_;
  void (*entry_)(unsigned int, unsigned int) = nullptr;
};

}  // namespace simt

inline void __syncwarp() {
  simt::wait("__syncwarp", 0, 0);
}

template <typename T>
T __shfl_xor_sync(unsigned int mask, T x, int distance) {
  static_assert(std::is_arithmetic_v<T>);
  if (mask != 0xffffffffu) {
    throw std::runtime_error("only shuffles of whole warps are emulated");
  }
  uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  simt::wait("__shfl_xor_sync", distance, bits);
  std::memcpy(&x, &simt::lane->taken, sizeof x);
  return x;
}

// A GPU stops at an address that is not a whole number of what is moved.
template <typename T>
void check_alignment(const T* address) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(T) != 0) {
    std::abort();
  }
}

template <typename T>
T __ldg(const T* from) {
  check_alignment(from);
  return *from;
}

inline void atomicAdd(float* to, float x) {
  *to += x;
}
inline void atomicAdd(double* to, double x) {
  *to += x;
}

#if EMULATED_ARCH >= 900
inline void atomicAdd(float4* to, float4 x) {
  check_alignment(to);
  to->x += x.x;
  to->y += x.y;
  to->z += x.z;
  to->w += x.w;
}
#endif
