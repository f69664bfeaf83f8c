// Maps of float32 values to maps of blocks. Ref: docs/spec/isa.md §3.
#pragma once
#include <stddef.h>

#include <vector>

#include "blocks.h"

namespace gatecast {

// Where the blocks of a map go. Steps are bytes; the blocks of a pixel lie side by side.
struct Planes {
  int rows, columns, blocks;
  int bits;
  bool packed;  // mantissas are fields of `bits` bits, else int8
  uint8_t* mantissas;
  uint8_t* exponents;
  int64_t row_step, pixel_step, exponent_row_step, exponent_pixel_step;
};

// What fills the blocks of some rows of pixels, from lane 0: runs of a source.
struct MapRuns {
  std::vector<Run> runs;
  std::vector<int32_t> ends;  // of each block's runs
};

// Runs of pixels of dense channels, `counts` of them in each block.
MapRuns dense_runs(int columns, const std::vector<int>& counts);

// Encodes row `y` from the runs of its blocks, which begin at block `first`. False as encode_row.
bool encode_map_row(const float* source, const MapRuns& from, size_t first, int32_t largest, const Planes& to, int y);

// Encodes dense [rows, columns, channels]. False as encode_row.
bool encode_map(const float* source, const std::vector<int>& counts, int32_t largest, const Planes& to);

}  // namespace gatecast
