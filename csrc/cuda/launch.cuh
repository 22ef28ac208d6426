// From a call to its launches: which kernel, how many lanes, blocks and bytes. Knows nothing of
// torch or of streams: `launcher(plan, kernel, arguments..)` starts a kernel.
#pragma once

#include "backward.cuh"
#include "deterministic.cuh"
#include "forward.cuh"

#include <algorithm>
#include <type_traits>

namespace ms_detr::cuda {

struct Plan {
  unsigned int blocks, images;  // gridDim.x and gridDim.y
  size_t shared_bytes;
};

// Enough lanes for the channels of a head, each with `per_lane` of them; a power of two.
inline int count_lanes(int32_t channels, int per_lane) {
  int lanes = 4;
  while (lanes < kWarp && lanes * per_lane < channels) {
    lanes *= 2;
  }
  return lanes;
}

// rows: queries or tokens of an image. most_blocks: along each axis of the grid.
inline Plan make_plan(
    const Call& call, int64_t rows, int lanes, size_t team_bytes, int64_t most_blocks) {
  const int teams = kThreads / lanes;
  const int64_t tiles = count_tiles(rows, teams, call.heads);
  const int64_t images = std::min<int64_t>(call.batch, 65535);  // CUDA's limit
  return {
      static_cast<unsigned int>(std::min(tiles, most_blocks)),
      static_cast<unsigned int>(std::min(images, most_blocks)),
      team_bytes * static_cast<size_t>(teams)};
}

inline bool is_aligned(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Calls body(scalar_t{}, number of channels per lane).
template <typename scalar_t, typename Body>
void choose_vector(const Call& call, bool aligned, const Body& body) {
  constexpr int kVector = kLaneChannels<scalar_t>;
  if (aligned && call.channels % kVector == 0) {
    body(scalar_t{}, std::integral_constant<int, kVector>{});
  } else {
    body(scalar_t{}, std::integral_constant<int, 1>{});
  }
}

template <typename Body>
void choose(const Arguments& a, bool aligned, const Body& body) {
  switch (a.kind) {
    case Kind::kFloat:
      return choose_vector<float>(a.call, aligned, body);
    case Kind::kDouble:
      return choose_vector<double>(a.call, aligned, body);
    case Kind::kHalf:
      return choose_vector<c10::Half>(a.call, aligned, body);
    case Kind::kBFloat16:
      return choose_vector<c10::BFloat16>(a.call, aligned, body);
  }
}

template <template <typename> class Front, typename Launcher>
void launch_forward(const Launcher& launcher, const Arguments& a, void* output) {
  choose(a, is_aligned(a.value) && is_aligned(output), [&](auto zero, auto vector) {
    using scalar_t = decltype(zero);
    using T = Wide<scalar_t>;
    constexpr int kVector = decltype(vector)::value;
    const int lanes = count_lanes(a.call.channels, kVector);
    const auto plan =
        make_plan(a.call, a.call.queries, lanes, kTeamBytes<Corners<T>>, launcher.most_blocks);
    launcher(
        plan, &forward_kernel<scalar_t, kVector, Front<T>>, a.call, Front<T>(a), lanes,
        static_cast<const scalar_t*>(a.value), static_cast<scalar_t*>(output));
  });
}

// Results of the backward pass; FrontGradients without types.
struct Results {
  void* value;  // wide, zeros; or null
  void *places, *shares, *reference;
};

template <template <typename> class Front, typename Launcher>
void launch_backward(
    const Launcher& launcher, const Arguments& a, const void* grad, const Results& to) {
  const bool aligned = is_aligned(a.value) && is_aligned(grad) && is_aligned(to.value);
  choose(a, aligned, [&](auto zero, auto vector) {
    using scalar_t = decltype(zero);
    using T = Wide<scalar_t>;
    constexpr int kVector = decltype(vector)::value;
    const int lanes = count_lanes(a.call.channels, kVector);
    const auto plan =
        make_plan(a.call, a.call.queries, lanes, kTeamBytes<CornerDots<T>>, launcher.most_blocks);
    const FrontGradients<T> gradients{
        static_cast<T*>(to.places), static_cast<T*>(to.shares), static_cast<T*>(to.reference)};
    launcher(
        plan, &backward_kernel<scalar_t, kVector, Front<T>>, a.call, Front<T>(a), lanes,
        static_cast<const scalar_t*>(grad), static_cast<const scalar_t*>(a.value),
        static_cast<T*>(to.value), gradients);
  });
}

// The two kernels around the sort; both for one image: `a` has batch 1.
template <template <typename> class Front, typename Launcher>
void launch_keys(const Launcher& launcher, const Arguments& a, int64_t* keys, void* shares) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const auto plan = make_plan(a.call, a.call.queries, kChunk, 0, launcher.most_blocks);
    launcher(
        plan, &key_kernel<Front<T>, T>, a.call, Front<T>(a), kChunk, keys,
        static_cast<Share<T>*>(shares));
  };
  if (a.kind == Kind::kDouble) {
    run(double{});
  } else {
    run(float{});
  }
}

template <typename Launcher>
void launch_collect(
    const Launcher& launcher, const Arguments& a, const void* grad, const int64_t* order,
    const int64_t* starts, const void* shares, void* grad_value) {
  choose(a, is_aligned(grad) && is_aligned(grad_value), [&](auto zero, auto vector) {
    using scalar_t = decltype(zero);
    constexpr int kVector = decltype(vector)::value;
    const int lanes = count_lanes(a.call.channels, kVector);
    const auto plan = make_plan(a.call, a.call.tokens, lanes, 0, launcher.most_blocks);
    launcher(
        plan, &collect_kernel<scalar_t, kVector>, a.call, lanes, static_cast<const scalar_t*>(grad),
        order, starts, static_cast<const Share<Wide<scalar_t>>*>(shares),
        static_cast<scalar_t*>(grad_value));
  });
}

}  // namespace ms_detr::cuda
