// A convolution whose pixels are taken in tiles that lie evenly in memory, for kernels that multiply whole tiles. The
// input map is first spread out, with zeros around it, so that each tap is one distance from a tile's first position.
// As in kernels.h there is no standard C++ header.
#pragma once
#include "kernels.h"

namespace gatecast {

constexpr int kTileRows = 16;  // positions of a tile
constexpr int kPositionBytes = 64;

// Positions of a map are numbered by row, then column, of what is spread out; zeros between two rows serve both.
struct Tile {
  int64_t position;  // the first
  int32_t pixel;     // the first that it makes
  uint8_t count;     // pixels that it makes, one after the other
  uint8_t rows[kTileRows];  // where each of them is among the positions
};

// Which rows and columns a tap reads depends on its place modulo the strides.
struct Phase {
  int32_t y, x;  // of the map, that position 0 of output row 0 reads
};

struct Tiling {
  const Tile* tiles;
  const Phase* phases;
  const int64_t* distances;  // in bytes, of each [tap][input block] from a tile's first position
  int phase_count;
  int width;             // positions of a row
  int overhang;          // positions after the last row that its taps read
  int reach;             // rows that the last tap lies below the first
  int blocks;            // of a pixel of the map
  int64_t plane_bytes;   // of one block of one phase, for any part
  int rows, columns;     // of the map, up to the last that a tap reaches
  int stride_y, stride_x;
  int64_t row, pixel, address;            // in blocks
  const uint8_t* kept = nullptr;          // the map, where its maker has spread it; else each part does
  int64_t spread_bytes, scratch_bytes;
};

// Kernels that take tiles: the tiles of a part, for some output blocks. `scratch` is this thread's.
struct TileKernels {
  int64_t bytes, tile_bytes;  // of scratch memory after the map's: in all, and for each tile of a part
  void (*convolve)(const Convolve&, const Tiling&, int first_block, int last_block, int first_tile, int last_tile,
                   uint8_t* scratch);
  // Of what is before and between them.
  void (*load)(const Loading&, int first_row, int last_row);
  void (*pool)(const Pool&, int first_row, int last_row);
};

extern const TileKernels kAmxTiles;

}  // namespace gatecast
