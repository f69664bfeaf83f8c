// Block floating point in C++: the same bits as gatecast.numerics. Ref: docs/spec/numerics.md §1.
#pragma once
#include <stdint.h>

namespace gatecast {

// Bits of the largest magnitude that an encode takes: any finite one, or up to 2**64 (docs/spec/numerics.md §3).
constexpr int32_t kFinite = 0x7f7fffff, kBounded = 0x5f800000;

// Values that lie side by side: `count` of them from `from` in the source, to the lanes from `lane`.
struct Run {
  int32_t from;
  uint8_t lane, count;
};

// The blocks of a row of pixels: where their values come from, and where int8 mantissas and exponent bytes go. Steps
// from pixel to pixel are bytes.
struct BlockRow {
  const float* source;
  const Run* runs;
  const int32_t* ends;  // of each block's runs; those of the first one begin at `first`. Other lanes are zeros
  int32_t first;
  int columns, blocks;  // pixels, and blocks of a pixel
  int bits;
  int32_t largest;  // magnitude that is taken, as bits
  uint8_t* mantissas;
  uint8_t* exponents;
  int64_t pixel_step, exponent_step;
};

// False if a magnitude is above the largest, or not a number; what was written then means nothing.
bool encode_row(const BlockRow& row);

// The same, by the instruction sets of processors.
bool encode_row_portable(const BlockRow& row);
bool encode_row_avx2(const BlockRow& row);

}  // namespace gatecast
