// The loop that ways of encoding share; each file has its own copy.
#pragma once
#include <string.h>

#include "../device/kernels.h"
#include "blocks.h"

namespace gatecast {
namespace {

// `Encoder` makes a Block of a run from lane 0, or of 32 values, and encodes it.
template <class Encoder>
typename Encoder::Block block_of(const float* source, const Run* run, const Run* end) {
  if (end - run == 1 && run->lane == 0) return Encoder::run(source + run->from, run->count);
  float values[kBlock] = {};
  for (; run != end; ++run)
    for (int i = 0; i < run->count; ++i) values[run->lane + i] = source[run->from + i];
  return Encoder::values(values);
}

template <class Encoder>
bool encode_row_by(const BlockRow& row) {
  const int32_t* end = row.ends;
  int32_t first = row.first;
  for (int x = 0; x < row.columns; ++x) {
    uint8_t* mantissas = row.mantissas + x * row.pixel_step;
    uint8_t* exponents = row.exponents + x * row.exponent_step;
    for (int b = 0; b < row.blocks; ++b, first = *end++) {
      const auto block = block_of<Encoder>(row.source, row.runs + first, row.runs + *end);
      if (!Encoder::encode(block, row.bits, row.largest, mantissas + b * kBlock, exponents + b)) return false;
    }
  }
  return true;
}

// Biased exponent of a block, by the bits of its largest magnitude.
inline int exponent_of(int32_t largest) {
  const int field = largest >> 23;
  return field < 127 - 48 ? 127 - 48 : field > 127 + 48 ? 127 + 48 : field;
}

// What values are multiplied by to become mantissas.
inline float inverse_step(int exponent, int bits) {
  const uint32_t field = uint32_t(bits - 2 - (exponent - 127) + 127) << 23;
  float x;
  memcpy(&x, &field, 4);
  return x;
}

}  // namespace
}  // namespace gatecast
