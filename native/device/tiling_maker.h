// Makes a Tiling of an instruction, when a Program is loaded.
#pragma once
#include <vector>

#include "tiling.h"
#include "window.h"

namespace gatecast {

// n / by, rounded up.
inline int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// A tiling with the tables that it points into.
struct TilingTables {
  Tiling tiling{};
  std::vector<Tile> tiles;
  std::vector<Phase> phases;
  std::vector<int64_t> distances;
};

// Of a plane with so many positions at least.
int64_t plane_bytes_for(int64_t positions);

class TilingMaker {
 public:
  // More is too much to spread at once: strides and dilations can make a map larger.
  static constexpr int64_t kMostSpread = 4 << 20;

  // A part of the work is so many tiles of so many output blocks.
  struct Share {
    int part_tiles, part_blocks;
  };

  TilingMaker(const Instruction& i, const Convolve& c);

  bool possible() const;

  int tiles() const { return int(tables_.tiles.size()); }
  Share share_out(int threads) const;

  // Whether that is faster than the other kernels.
  bool faster(const Share& share) const;

  // Whether its maker can spread the map, whole; and how.
  int64_t kept_plane_bytes() const { return plane_bytes(tiles()); }
  int64_t kept_bytes() const { return spread_bytes(tiles()); }
  bool same_planes(const TilingMaker& other) const;
  std::vector<int32_t> positions() const;  // as in SpreadMap, of all pixels of the map

  // A range of lines.
  struct Range {
    int64_t first, count;
  };
  std::vector<Range> margins(const std::vector<int32_t>& positions) const;  // lines of zeros

  // The map's maker has spread it there.
  void keep(const uint8_t* lines) { tables_.tiling.kept = lines; }

  TilingTables finish(const Share& share, const TileKernels& kernels);

 private:
  void place_phases();
  void place_columns();
  void place_tiles();
  void add_tile(int64_t position, int64_t end);
  Phase phase_of(int64_t ky, int64_t kx) const;
  int64_t rows_of(int first, int last) const;
  int64_t plane_bytes(int part_tiles) const;
  int64_t spread_bytes(int part_tiles) const;
  int64_t part_bytes(const Share& share) const;
  bool shares_tiles(int threads) const;

  Window window_;
  const Convolve& c_;
  int64_t out_rows_, out_columns_;
  TilingTables tables_;
};

}  // namespace gatecast
