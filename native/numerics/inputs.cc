#include "inputs.h"

#include <string.h>

#include "blocks.h"

namespace gatecast {
namespace {

constexpr int32_t kSmallest = (127 - 80) << 23;  // bits of 2**-80

using Bits = int32_t __attribute__((may_alias));  // of floats

// The value to keep; the largest magnitude so far is kept as bits.
inline int32_t taken(int32_t value, int32_t& most) {
  const int32_t magnitude = value & 0x7fffffff;
  most = magnitude > most ? magnitude : most;
  return magnitude < kSmallest ? 0 : value;
}

int32_t take_run(const Bits* values, int64_t count, Bits* result) {
  int32_t most = 0;
  for (int64_t i = 0; i < count; ++i) result[i] = taken(values[i], most);
  return most;
}

// Planes of a pixel's values side by side: [columns, kChannels] of strides 1 and `plane`.
template <int kChannels>
int32_t take_planes(const Bits* values, int64_t columns, int64_t plane, Bits* result) {
  int32_t most = 0;
  for (int64_t x = 0; x < columns; ++x)
    for (int c = 0; c < kChannels; ++c) result[x * kChannels + c] = taken(values[x + c * plane], most);
  return most;
}

int32_t take_grid(const Bits* values, int64_t rows, int64_t columns, int64_t row, int64_t column, Bits* result) {
  if (columns == 3 && row == 1) return take_planes<3>(values, rows, column, result);
  int32_t most = 0;
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x) *result++ = taken(values[y * row + x * column], most);
  return most;
}

// Joins dimensions that lie behind each other, and drops those of one value.
void simplify(std::vector<int64_t>& shape, std::vector<int64_t>& strides) {
  size_t kept = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 1) continue;
    if (kept && strides[kept - 1] == shape[i] * strides[i]) {
      shape[kept - 1] *= shape[i], strides[kept - 1] = strides[i];
    } else {
      shape[kept] = shape[i], strides[kept++] = strides[i];
    }
  }
  shape.resize(kept), strides.resize(kept);
}

int32_t take(const Bits* values, const int64_t* shape, const int64_t* strides, size_t dimensions, Bits* result) {
  if (dimensions == 0) return take_run(values, 1, result);
  if (dimensions == 1 && strides[0] == 1) return take_run(values, shape[0], result);
  if (dimensions == 1) return take_grid(values, 1, shape[0], 0, strides[0], result);
  if (dimensions == 2 && strides[1] != 1) return take_grid(values, shape[0], shape[1], strides[0], strides[1], result);
  int64_t inner = 1;
  for (size_t i = 1; i < dimensions; ++i) inner *= shape[i];
  int32_t most = 0;
  for (int64_t i = 0; i < shape[0]; ++i) {
    const int32_t found = take(values + i * strides[0], shape + 1, strides + 1, dimensions - 1, result + i * inner);
    most = found > most ? found : most;
  }
  return most;
}

}  // namespace

bool take_inputs(const float* values, std::vector<int64_t> shape, std::vector<int64_t> strides, float* result) {
  for (const int64_t size : shape)
    if (!size) return true;
  simplify(shape, strides);
  // Bits are compared, not values: that is the same for magnitudes, and has no NaN.
  return take(reinterpret_cast<const Bits*>(values), shape.data(), strides.data(), shape.size(),
              reinterpret_cast<Bits*>(result)) <= kBounded;
}

}  // namespace gatecast
