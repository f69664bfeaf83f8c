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
  Encoder encoder(row.bits);
  const int32_t* end = row.ends;
  int32_t first = row.first;
  for (int x = 0; x < row.columns; ++x) {
    uint8_t* mantissas = row.mantissas + x * row.pixel_step;
    uint8_t* exponents = row.exponents + x * row.exponent_step;
    for (int b = 0; b < row.blocks; ++b, first = *end++) {
      const auto block = block_of<Encoder>(row.source, row.runs + first, row.runs + *end);
      exponents[b] = encoder.encode(block, mantissas + b * kBlock);
    }
  }
  return encoder.largest() <= row.largest;
}

// Limits of a biased exponent.
constexpr int kLowest = 127 - 48, kHighest = 127 + 48;

}  // namespace
}  // namespace gatecast
