#include "tiling_maker.h"

#include <algorithm>

#include "window.h"

namespace gatecast {
namespace {

// What work costs in cycles, measured: to spread a block (9, but two maps of three are spread by their makers), to
// widen a panel, a tile's product with 32 lanes and the beginning and end of its sums; and the product of one pixel by
// the other kernels.
constexpr int64_t kSpreadCost = 3, kPanelCost = 120, kTileCost = 88, kSumsCost = 150, kPixelCost = 12;

// To read a line that another thread has written, likewise.
constexpr int64_t kForeignCost = 14;

// What a part of the work spreads, reads and writes stays in the second-level cache.
constexpr int64_t kMostBytes = 768 << 10;
constexpr int kLeastTiles = 8;  // but a part has so many, for the cost of its panels

// Threads share the tiles of a convolution only where each gets so many.
constexpr int kTilesPerThread = 6;

// How many rows of a map there are up to the last that a tap reaches: those after it may lie outside the memory.
int reached(int64_t start, int64_t outputs, int64_t stride, int64_t taps, int64_t dilation, int64_t rows) {
  int64_t last = -1;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t first = start + tap * dilation;
    if (first < rows) last = std::max(last, first + std::min(outputs - 1, (rows - 1 - first) / stride) * stride);
  }
  return int(last + 1);
}

}  // namespace

// Lines of planes fall on different sets of a cache.
int64_t plane_bytes_for(int64_t positions) { return ((positions + 15) / 32 * 32 + 16) * kPositionBytes; }

TilingMaker::TilingMaker(const Instruction& i, const Convolve& c)
    : window_(i), c_(c), out_rows_(i("out_rows")), out_columns_(i("out_columns")) {
  const int64_t groups = c.group_blocks ? up(c.out_blocks, c.group_blocks) : 1;
  auto& t = tables_.tiling;
  t.rows = reached(window_.y, out_rows_, window_.stride_y, window_.kernel_rows, window_.dilation_y, window_.rows);
  t.columns =
      reached(window_.x, out_columns_, window_.stride_x, window_.kernel_columns, window_.dilation_x, window_.columns);
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
    const int64_t inside = std::max<int64_t>(up(tables_.tiling.columns - phase.x, window_.stride_x), 0);
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
  Tile tile{position, 0, 0, {}};
  for (int64_t n = 0; n < kTileRows && position + n < end; ++n) {
    const int64_t y = (position + n) / width, x = (position + n) % width;
    if (x >= out_columns_) continue;
    if (!tile.count) tile.pixel = int32_t(y * out_columns_ + x);
    tile.rows[tile.count++] = uint8_t(n);
  }
  if (tile.count) tables_.tiles.push_back(tile);
}

// A part may have a single tile, if need be.
bool TilingMaker::possible() const {
  return !c_.diagonal && int64_t(c_.taps) * c_.in_blocks >= 2 &&
         plane_bytes(1) <= kMostSpread / (tables_.tiling.blocks * int64_t(tables_.phases.size()));
}

bool TilingMaker::faster(const Share& share) const {
  const int64_t steps = int64_t(c_.taps) * c_.in_blocks;
  const int64_t parts = up(tiles(), share.part_tiles), across = up(c_.out_blocks, share.part_blocks);
  const int64_t spread = parts * across * spread_bytes(share.part_tiles) / kPositionBytes * kSpreadCost;
  const int64_t products = steps * (parts * kPanelCost + tiles() * kTileCost) + tiles() * kSumsCost;
  const int64_t quarters = c_.channels > 24 ? 4 : c_.channels > 16 ? 3 : 2;  // of a block that other kernels multiply
  return spread + c_.out_blocks * products < c_.out_blocks * steps * c_.pixels * kPixelCost * quarters / 4;
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
  return plane_bytes_for(rows * tables_.tiling.width + tables_.tiling.overhang + kTileRows);
}

int64_t TilingMaker::spread_bytes(int part_tiles) const {
  return plane_bytes(part_tiles) * tables_.tiling.blocks * int64_t(tables_.phases.size());
}

int64_t TilingMaker::part_bytes(const Share& share) const {
  const int64_t ends = share.part_blocks * (c_.end.residual.present() ? 2 : 1);
  return spread_bytes(share.part_tiles) + share.part_tiles * kTileRows * ends * (kBlock + 4);
}

// Else they share output blocks. Each widens all panels then, or reads all of the map, which others have written.
bool TilingMaker::shares_tiles(int threads) const {
  if (tiles() < kTilesPerThread * threads) return false;
  const int64_t panels = int64_t(c_.taps) * c_.in_blocks * c_.out_blocks;
  return c_.out_blocks < threads || panels * kPanelCost < kept_bytes() / kPositionBytes * kForeignCost;
}

TilingMaker::Share TilingMaker::share_out(int threads) const {
  const int tiles = int(tables_.tiles.size());
  Share share{tiles, c_.out_blocks};
  int64_t parts = 1;
  if (threads > 1 && shares_tiles(threads))
    parts = threads;
  else if (threads > 1)
    share.part_blocks = int(up(c_.out_blocks, threads));
  share.part_tiles = int(up(tiles, parts));
  const auto too_large = [&] {
    return spread_bytes(share.part_tiles) > kMostSpread ||
           (share.part_tiles > kLeastTiles && part_bytes(share) > kMostBytes);
  };
  while (share.part_tiles > 1 && too_large()) {
    parts += threads * (1 + parts / (8 * threads));
    share.part_tiles = int(up(tiles, parts));
  }
  return share;
}

bool TilingMaker::same_planes(const TilingMaker& other) const {
  const auto same = [](const Phase& a, const Phase& b) { return a.y == b.y && a.x == b.x; };
  const auto &t = tables_.tiling, &o = other.tables_.tiling;
  return t.width == o.width && t.overhang == o.overhang && t.stride_y == o.stride_y && t.stride_x == o.stride_x &&
         t.rows == o.rows && t.columns == o.columns && kept_plane_bytes() == other.kept_plane_bytes() &&
         std::equal(tables_.phases.begin(), tables_.phases.end(), other.tables_.phases.begin(),
                    other.tables_.phases.end(), same);
}

std::vector<int32_t> TilingMaker::positions() const {
  const auto& t = tables_.tiling;
  const int64_t phase_lines = kept_plane_bytes() / kPositionBytes * t.blocks, rows = rows_of(0, tiles());
  std::vector<int32_t> found(size_t(window_.rows * window_.columns), -1);
  for (size_t phase = 0; phase < tables_.phases.size(); ++phase) {
    const Phase& start = tables_.phases[phase];
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < t.width; ++column) {
        const int64_t y = start.y + row * t.stride_y, x = start.x + column * t.stride_x;
        if (y >= 0 && y < t.rows && x >= 0 && x < t.columns)
          found[size_t(y * window_.columns + x)] = int32_t(int64_t(phase) * phase_lines + row * t.width + column);
      }
  }
  return found;
}

std::vector<TilingMaker::Range> TilingMaker::margins(const std::vector<int32_t>& positions) const {
  const auto& t = tables_.tiling;
  const int64_t lines = kept_plane_bytes() / kPositionBytes, read = rows_of(0, tiles()) * t.width + t.overhang;
  std::vector<bool> written(size_t(lines * t.blocks) * tables_.phases.size());
  for (const int32_t position : positions)
    if (position >= 0) written[size_t(position)] = true;
  std::vector<Range> found;
  for (size_t phase = 0; phase < tables_.phases.size(); ++phase) {
    const int64_t start = int64_t(phase) * lines * t.blocks;
    for (int64_t n = 0, first; n < read; ++n) {
      for (first = n; n < read && !written[size_t(start + n)];) ++n;
      for (int64_t block = 0; n > first && block < t.blocks; ++block)
        found.push_back({start + block * lines + first, n - first});
    }
  }
  return found;
}

TilingTables TilingMaker::finish(const Share& share, const TileKernels& kernels) {
  auto& t = tables_.tiling;
  t.plane_bytes = t.kept ? kept_plane_bytes() : plane_bytes(share.part_tiles);
  t.spread_bytes = t.kept ? 0 : spread_bytes(share.part_tiles);
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
