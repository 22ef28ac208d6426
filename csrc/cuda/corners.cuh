// The tokens that the samples of a cell read: found once per sample, kept in shared memory, used by
// all lanes of the team.
#pragma once

#include "samples.cuh"
#include "vectors.cuh"

namespace ms_detr::cuda {

// The tokens that a sample reads, and their weights. A corner outside the level has row -1: it is
// neither read nor written.
template <typename T>
struct alignas(16) Corners {
  T weight[4];
  int32_t row[4];
};

template <typename T>
__device__ inline void find_corners(const Sample<T>& sample, const Level& level, Corners<T>& to) {
  const Quad<T> quad = locate(sample, level);
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const bool has = quad.touches && quad.has(corner, level);
    to.row[corner] = has ? quad.row(corner, level) : -1;
    to.weight[corner] = has ? sample.weight * corner_share(corner, quad.fx, quad.fy) : T(0);
  }
  if (!quad.touches) {
    // Nothing is read, but what is not finite must show.
    to.weight[0] = sample.unfit() + sample.weight * T(0);
  }
}

// The corners' tokens, zeros outside the level. All loads are on their way before the first result
// is needed.
template <typename scalar_t, typename T, int n>
__device__ inline void load_corners(
    const Corners<T>& corners, const scalar_t* tokens, int32_t stride, T (&rows)[4][n]) {
#pragma unroll
  for (int corner = 0; corner < 4; ++corner) {
    const int32_t row = corners.row[corner];
    if (row >= 0) {
      load_vector(tokens + static_cast<int64_t>(row) * stride, rows[corner]);
    } else {
#pragma unroll
      for (int i = 0; i < n; ++i) {
        rows[corner][i] = 0;
      }
    }
  }
}

// A team looks at so many samples at a time. Their corners are found once, by as many lanes, and
// then used by all lanes.
constexpr int kChunk = 8;

// Shared memory of a team: kChunk records, and 16 bytes between teams, so that teams that read
// their records at the same time read from different banks.
template <typename Record>
constexpr size_t kTeamBytes = kChunk * sizeof(Record) + 16;

template <typename Record>
__device__ inline Record* team_records(const Team& team) {
  extern __shared__ uint4 shared_memory[];
  return reinterpret_cast<Record*>(shared_memory + team.index * (kTeamBytes<Record> / 16));
}

// Fills the records of samples [begin, begin + kChunk); returns how many there are.
template <typename T, typename Front, typename Record>
__device__ inline int32_t fill_records(
    const Call& call, const Front& front, const typename Front::Common& common, const Team& team,
    const Place& place, int32_t begin, Record* records) {
  const int32_t rest = call.samples - begin, count = rest < kChunk ? rest : kChunk;
  __syncwarp();  // the records before are no longer read
  for (int32_t i = team.lane; place.active && i < count; i += team.lanes) {
    const int32_t level = (begin + i) / call.points;
    const Sample<T> sample = front.sample(call, common, place, begin + i, level);
    find_corners<T>(sample, call.level[level], records[i]);
  }
  __syncwarp();
  return count;
}

}  // namespace ms_detr::cuda
