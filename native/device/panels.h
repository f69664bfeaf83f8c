// Weight memory, followed while a Program is loaded: what a panel holds depends on the text alone, so each convolution's
// panels are packed for the kernels once, and the instruction `weights` costs nothing in a run.
#pragma once
#include <map>
#include <memory>

#include "memory.h"

namespace gatecast {

// Panels as kernels read them. No lane has weights other than 0 from channel `channels` of its block on.
struct Panels {
  Buffer<uint8_t> bytes;
  int channels;
};

using PackedPanels = std::shared_ptr<const Panels>;

class WeightMemory {
 public:
  WeightMemory(const Sizes& sizes, Memory::Section weights, const Kernels& kernels)
      : held_(sizes.panels), wrap_(sizes.weight_wrap), weights_(weights), kernels_(kernels) {}

  // Follows an instruction `weights`.
  void load(const Instruction& i);

  // Panels from an address on, as kernels read them; the same ones are packed once.
  PackedPanels packed(int64_t address, int64_t count);

  size_t packed_bytes() const { return packed_bytes_; }

 private:
  struct Panel {
    uint32_t offset = 0;
    int32_t bits = 0;
    auto operator<=>(const Panel&) const = default;
  };

  // Packs one; returns how many channels of its blocks have weights.
  int pack(const Panel& panel, uint8_t* out) const;

  std::vector<Panel> held_;
  size_t wrap_;
  Memory::Section weights_;
  const Kernels& kernels_;
  std::map<std::vector<Panel>, PackedPanels> packed_;
  size_t packed_bytes_ = 0;
};

}  // namespace gatecast
