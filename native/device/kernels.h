// What the executor and the kernels share. Files that are compiled with their own -m flags include this, so it
// includes no standard C++ header: a weak template instance compiled with AVX-512 could replace the portable one
// at link time.
#pragma once
#include <stdint.h>

namespace gatecast {

constexpr int kBlock = 32;           // values that share an exponent
constexpr int kLanes = 32;           // output channels of a panel
constexpr int kCorrectionBytes = 4 * kLanes;
constexpr int kPanelBytes = kLanes * kBlock + kCorrectionBytes;  // of a panel as kernels read it

// A view of docs/spec/isa.md §3, its address already added. Blocks are mantissas (xored with Kernels::flip) and the
// step 2**(E - (N - 2)) as a float; a float32 map has vectors instead.
struct View {
  int bits = 0;  // of a mantissa; 0: float32
  uint8_t* mantissas = nullptr;
  float* steps = nullptr;
  float* vectors = nullptr;
  int64_t row = 0, pixel = 0;

  bool present() const { return steps || vectors; }
  int64_t at(int64_t y, int64_t x) const { return y * row + x * pixel; }
};

// The end of an instruction that makes values: docs/spec/numerics.md §3.
struct Epilogue {
  const float* bias = nullptr;  // of output block 0; null where there is none
  const float* scale = nullptr;
  const float* shift = nullptr;
  View residual;
  int activation = 0;
  float low = 0, high = 0;
  View out;
  int last_block = -1;  // its lanes from `last_channels` are +0.0
  int last_channels = kLanes;
};

// A map as kernels for tiles multiply it: each block of each position is a line of 32 bfloat16,
// [plane of a block][position].
struct SpreadMap {
  uint8_t* lines = nullptr;
  int64_t plane_bytes = 0;
  const int32_t* positions = nullptr;  // of each pixel in block 0's plane; -1 where nothing reads it
};

// Such maps that an instruction writes for those that read them, in place of its blocks.
constexpr int kMostFeeds = 2;

struct Feeds {
  SpreadMap maps[kMostFeeds];
  int count = 0;
};

// Output pixels are numbered by row, then column, and taken in tiles of Kernels::pixels.
struct Convolve {
  const uint8_t* mantissas;  // activation memory from block 0; its end is a run of blocks of zeros
  const float* steps;
  const int32_t* pixel_in;         // block of the first tap of each pixel, if it is inside
  const int32_t* pixel_out;        // block of each pixel in the view `out`
  const int32_t* pixel_residual;   // likewise
  const int32_t* tile_blocks;      // for each tile, where its own list of blocks [tap][pixel] begins; or -1
  const int32_t* tap_blocks;       // these lists
  const int32_t* tap_offsets;      // blocks from the first tap to each tap
  int pixels, taps, in_blocks, out_blocks, group_blocks;
  int channels;                    // of a block that have weights at all
  bool diagonal;                   // panels begin with a float for each lane, the weight of the channel of its number
  const uint8_t* panels;           // [output block][tap][input block][kPanelBytes]
  const uint8_t* panels_end;       // of all panels; those of the next convolution follow these
  int64_t ahead;                   // bytes from the panels in use to those that are fetched meanwhile
  int fetch_tiles;                 // by so many tiles those of an output block; the next tiles are another thread's
  int fetch_runs;                  // or the output blocks are shared by so many threads, or by one
  int64_t panel_bytes, next_run;   // of all output blocks; of a thread's run of the next convolution's, 0 if it has all
  const float* resumed;            // partial sums [pixel][output block][32]; or null
  float* suspended;
  Epilogue end;
  SpreadMap residual;              // of a convolution by tiles, where its maker has spread that
  Feeds feeds;
};

struct Pool {
  View in;
  int in_rows, in_columns, in_y, in_x, kernel_rows, kernel_columns, stride_y, stride_x;
  int rows, columns, blocks;
  bool average;
  float factor;
  Epilogue end;
  SpreadMap lines;  // the input, where its maker has spread that
  Feeds feeds;      // only then
};

// Rows of bfp8 in external memory, to be spread: docs/spec/isa.md §6.
struct Loading {
  const uint8_t *mantissas, *exponents;
  int64_t row_pitch, exponent_pitch, pixel_pitch;
  int columns, blocks;
  const Feeds* feeds;
};

struct Elementwise {
  int operation;
  View a, b;
  int repeat_y, repeat_x;
  int rows, columns, blocks;
  Epilogue end;
};

struct TileKernels;

// One set for each instruction set of processors. All return the same bits.
struct Kernels {
  const char* name;
  uint8_t flip;  // stored mantissas are xored with this
  int pixels;    // of a tile
  void (*pack_panel)(const int8_t* mantissas, const uint8_t* exponents, int bits, uint8_t* panel);
  void (*convolve)(const Convolve&, int out_block, int first_tile, int last_tile);
  void (*convolve_depthwise)(const Convolve&, int out_block, int first_tile, int last_tile);  // of diagonal panels
  void (*pool)(const Pool&, int first_row, int last_row);
  void (*elementwise)(const Elementwise&, int first_row, int last_row);
  const TileKernels* tiles = nullptr;  // for the convolutions that suit them
};

extern const Kernels kPortable, kAvx2, kAvx512Vnni, kNeon;

}  // namespace gatecast
