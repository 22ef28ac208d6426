// Two loops that say how fast the memory can be read, for tools/op_limits.py.
#include <stdint.h>

typedef float Vector __attribute__((vector_size(64), aligned(4)));

// Adds up `rows` rows of 32 floats for each of `cells` cells: the memory access of multi-scale
// deformable attention and nothing else. The rows of the cell after the next are asked for in
// advance.
void gather(
    const float* value, const int32_t* offsets, const float* weights, int64_t cells, int64_t rows,
    float* output) {
  for (int64_t cell = 0; cell < cells; ++cell) {
    const int32_t* at = offsets + cell * rows;
    const float* weight = weights + cell * rows;
    if (cell + 2 < cells) {
      for (int64_t row = 0; row < rows; ++row) {
        const float* next = value + at[2 * rows + row];
        __builtin_prefetch(next);
        __builtin_prefetch(next + 16);
      }
    }
    Vector low = {0}, high = {0};
    for (int64_t row = 0; row < rows; ++row) {
      const float* source = value + at[row];
      low += *(const Vector*)source * weight[row];
      high += *(const Vector*)(source + 16) * weight[row];
    }
    *(Vector*)(output + cell * 32) = low;
    *(Vector*)(output + cell * 32 + 16) = high;
  }
}

// Reads `count` floats (a multiple of 128) `times` times.
float read_all(const float* data, int64_t count, int64_t times) {
  Vector sums[8] = {{0}};
  for (int64_t time = 0; time < times; ++time) {
    for (int64_t i = 0; i < count; i += 128) {
      for (int64_t k = 0; k < 8; ++k) {
        sums[k] += *(const Vector*)(data + i + 16 * k);
      }
    }
  }
  float total = 0;
  for (int64_t k = 0; k < 8; ++k) {
    total += sums[k][0];
  }
  return total;
}
