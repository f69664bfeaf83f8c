// Maps of convolutions by tiles. Where these, and pools, are all that reads a map, whatever makes it writes it as they
// want it, spread in lines of bfloat16, and its blocks are never written.
#pragma once
#include <optional>

#include "program.h"

namespace gatecast {

// Where blocks of a map lie in activation memory.
struct MapPlace {
  int64_t address, row, pixel, rows, columns, blocks, bits;

  bool operator==(const MapPlace&) const = default;
  int64_t end() const { return address + (rows - 1) * row + (columns - 1) * pixel + blocks; }
  bool same_place(MapPlace other) const {  // in any format
    other.bits = bits;
    return *this == other;
  }
  bool overlaps(int64_t from, int64_t to) const;  // blocks between its own count as its own
  bool dense() const;                             // whether there are none
};

// What an instruction reads and writes of activation memory; of a convolution `other` is the residual.
struct Traffic {
  explicit Traffic(const Instruction& i);

  std::optional<MapPlace> in, other, out;
};

// Finds such maps in what a run does, one Traffic for each step, and connects those that write and read them.
// Returns the memory where they lie.
Buffer<uint8_t> keep_maps(std::vector<Step>& steps, const std::vector<Traffic>& traffic);

}  // namespace gatecast
