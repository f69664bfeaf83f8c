// Weight memory, followed while a Program is loaded: what a panel holds depends on the text alone, so each convolution's
// panels are packed for the kernels once, and the instruction `weights` costs nothing in a run.
#pragma once
#include <functional>
#include <map>
#include <memory>

#include "memory.h"

namespace gatecast {

// Where a panel came from in the section `weights`.
struct Panel {
  uint32_t offset = 0;
  int32_t bits = 0;
  auto operator<=>(const Panel&) const = default;
};

// The panels that a `convolve` reads, and whether its sums take one block at each tap.
struct Reading {
  std::vector<Panel> panels;
  bool single = false;
  auto operator<=>(const Reading&) const = default;
};

class WeightMemory {
 public:
  explicit WeightMemory(const Sizes& sizes) : held_(sizes.panels), wrap_(sizes.weight_wrap) {}

  // Follows an instruction `weights`.
  void load(const Instruction& i);

  Reading read_by(const Instruction& i) const;

 private:
  std::vector<Panel> held_;
  size_t wrap_;
};

// The panels of a Program as kernels read them, in the order in which a run first needs them.
struct PackedWeights {
  struct Run {
    size_t offset, count;
    int channels;   // no lane has weights other than 0 from this channel of its block on
    bool diagonal;  // single blocks, whose lanes have weights for the channel of their number alone: see pack_diagonal
  };
  std::map<Reading, Run> runs;  // the same ones are packed once
  Buffer<uint8_t> bytes;
};

using SharedWeights = std::shared_ptr<const PackedWeights>;

// Packs all panels of a text.
SharedWeights pack_weights(const Layout& layout, const uint32_t* text, size_t instructions, const Sizes& sizes,
                           Memory::Section weights, const Kernels& kernels);

// What was packed under this key and is still held by someone; else makes it. Loads take turns.
SharedWeights shared_weights(const std::string& key, const std::function<SharedWeights()>& make);

}  // namespace gatecast
