#include "tiling_maker.h"

#include <algorithm>
#include <stdlib.h>

#include "window.h"

namespace gatecast {
namespace {

// What work costs, in cycles, measured: to widen a panel, a tile's block with 32 lanes, a pixel's with other kernels,
// and to spread a block. The other kernels lose where their rate is less than this.
constexpr int64_t kPanelCost = 120, kTileCost = 64, kPixelCost = 11;

// A part of the work spreads so many bytes at the most, which stay in the second-level cache.
constexpr int64_t kMostSpread = 512 << 10;

// Threads share the tiles of a convolution where each gets so many, else its output blocks.
constexpr int kTilesPerThread = 20;

int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by; }

}  // namespace

TilingMaker::TilingMaker(const Instruction& i, const Convolve& c)
    : window_(i), c_(c), out_rows_(i("out_rows")), out_columns_(i("out_columns")) {
  const int64_t groups = c.group_blocks ? up(c.out_blocks, c.group_blocks) : 1;
  auto& t = tables_.tiling;
  t.rows = int(window_.rows), t.columns = int(window_.columns);
  t.stride_y = int(window_.stride_y), t.stride_x = int(window_.stride_x);
  t.row = i("in_row"), t.pixel = i("in_pixel"), t.address = i("in_address");
  t.blocks = int(groups * c.in_blocks);
  t.reach = int((window_.kernel_rows - 1) * window_.dilation_y / window_.stride_y);
  place_phases();
  place_columns();
  place_tiles();
}

void TilingMaker::place_phases() {
  for (int64_t ky = 0; ky < window_.kernel_rows; ++ky)
    for (int64_t kx = 0; kx < window_.kernel_columns; ++kx) {
      const Phase phase = phase_of(ky, kx);
      const auto same = [&](const Phase& other) { return other.y == phase.y && other.x == phase.x; };
      if (std::none_of(tables_.phases.begin(), tables_.phases.end(), same)) tables_.phases.push_back(phase);
    }
}

Phase TilingMaker::phase_of(int64_t ky, int64_t kx) const {
  return {int32_t(window_.y + ky * window_.dilation_y % window_.stride_y),
          int32_t(window_.x + kx * window_.dilation_x % window_.stride_x)};
}

// Zeros at the right end of all planes' rows can be those at the left end of the next row.
void TilingMaker::place_columns() {
  auto& t = tables_.tiling;
  const int64_t all = out_columns_ + (window_.kernel_columns - 1) * window_.dilation_x / window_.stride_x;
  int64_t shared = all - out_columns_;
  for (const Phase& phase : tables_.phases) {
    const int64_t left = phase.x < 0 ? up(-phase.x, window_.stride_x) : 0;
    const int64_t inside = std::max<int64_t>(up(window_.columns - phase.x, window_.stride_x), 0);
    shared = std::min({shared, left, std::max<int64_t>(all - inside, 0)});
  }
  t.width = int(all - shared), t.overhang = int(shared);
}

// Tiles that begin anew in each row of outputs, or run on from row to row: what makes fewer.
void TilingMaker::place_tiles() {
  const int64_t width = tables_.tiling.width;
  const int64_t by_row = out_rows_ * up(out_columns_, kTileRows);
  const int64_t running = up((out_rows_ - 1) * width + out_columns_, kTileRows);
  if (by_row <= running) {
    for (int64_t y = 0; y < out_rows_; ++y)
      for (int64_t x = 0; x < out_columns_; x += kTileRows) add_tile(y * width + x, (y + 1) * width);
  } else {
    for (int64_t n = 0; n < running; ++n) add_tile(n * kTileRows, out_rows_ * width);
  }
}

void TilingMaker::add_tile(int64_t position, int64_t end) {
  const int64_t width = tables_.tiling.width;
  Tile tile{int32_t(position), 0, 0, {}};
  for (int64_t n = 0; n < kTileRows && position + n < end; ++n) {
    const int64_t y = (position + n) / width, x = (position + n) % width;
    if (x >= out_columns_) continue;
    if (!tile.count) tile.pixel = int32_t(y * out_columns_ + x);
    tile.rows[tile.count++] = uint8_t(n);
  }
  if (tile.count) tables_.tiles.push_back(tile);
}

bool TilingMaker::suits() const {
  const int64_t tiles = int64_t(tables_.tiles.size());
  return getenv("AMXALL") ? !c_.diagonal && c_.taps * c_.in_blocks > 1 : !c_.diagonal && c_.taps * c_.in_blocks > 1 && kPanelCost + kTileCost * tiles < kPixelCost * c_.pixels;
}

// Rows of a plane that the tiles of a part read.
int64_t TilingMaker::rows_of(int first, int last) const {
  const auto& t = tables_.tiling;
  const Tile& end = tables_.tiles[size_t(last - 1)];
  const int64_t below = (end.position + end.rows[end.count - 1]) / t.width;
  return below + 1 - tables_.tiles[size_t(first)].position / t.width + t.reach;
}

int64_t TilingMaker::plane_bytes(int part_tiles) const {
  const int tiles = int(tables_.tiles.size());
  int64_t rows = 0;
  for (int first = 0; first < tiles; first += part_tiles)
    rows = std::max(rows, rows_of(first, std::min(first + part_tiles, tiles)));
  const int64_t positions = rows * tables_.tiling.width + tables_.tiling.overhang + kTileRows;
  return ((positions + 15) / 32 * 32 + 16) * kPositionBytes;  // lines of planes fall on different sets of a cache
}

int64_t TilingMaker::spread_bytes(int part_tiles) const {
  return plane_bytes(part_tiles) * tables_.tiling.blocks * int64_t(tables_.phases.size());
}

TilingMaker::Share TilingMaker::share_out(int threads) const {
  const int tiles = int(tables_.tiles.size());
  Share share{tiles, c_.out_blocks};
  int64_t parts = 1;
  if (threads > 1 && tiles >= kTilesPerThread * threads)
    parts = 2 * threads;
  else if (threads > 1)
    share.part_blocks = int(up(c_.out_blocks, threads));
  share.part_tiles = int(up(tiles, parts));
  while (share.part_tiles > 8 && spread_bytes(share.part_tiles) > kMostSpread)
    parts += threads, share.part_tiles = int(up(tiles, parts));
  return share;
}

TilingTables TilingMaker::finish(const Share& share, const TileKernels& kernels) {
  auto& t = tables_.tiling;
  t.plane_bytes = plane_bytes(share.part_tiles);
  t.spread_bytes = spread_bytes(share.part_tiles);
  t.scratch_bytes = t.spread_bytes + kernels.bytes + share.part_tiles * kernels.tile_bytes;
  t.phase_count = int(tables_.phases.size());
  for (int64_t ky = 0; ky < window_.kernel_rows; ++ky)
    for (int64_t kx = 0; kx < window_.kernel_columns; ++kx) {
      const Phase phase = phase_of(ky, kx);
      int64_t number = 0;
      while (tables_.phases[size_t(number)].y != phase.y || tables_.phases[size_t(number)].x != phase.x) ++number;
      const int64_t y = ky * window_.dilation_y / window_.stride_y, x = kx * window_.dilation_x / window_.stride_x;
      for (int64_t block = 0; block < c_.in_blocks; ++block)
        tables_.distances.push_back((number * t.blocks + block) * t.plane_bytes + (y * t.width + x) * kPositionBytes);
    }
  t.tiles = tables_.tiles.data(), t.phases = tables_.phases.data(), t.distances = tables_.distances.data();
  return std::move(tables_);
}

}  // namespace gatecast
