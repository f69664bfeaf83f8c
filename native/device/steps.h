// Instructions to steps: views become pointers, windows become tables. Done once, when a Program is loaded.
#pragma once
#include <optional>

#include "program.h"

namespace gatecast {

class StepMaker {
 public:
  StepMaker(const Memory& memory, const Sizes& sizes, const PackedWeights& packed, const Kernels& kernels, int threads,
            bool all_tiles)
      : memory_(memory), weights_(sizes), packed_(packed), kernels_(kernels), threads_(threads),
        all_tiles_(all_tiles) {}

  // None for an instruction that does nothing in a run.
  std::optional<Step> make(const Instruction& i, int number);

 private:
  Constants constants(const Instruction& i) const;
  Epilogue epilogue(const Instruction& i) const;
  Pool pool(const Instruction& i) const;
  Elementwise elementwise(const Instruction& i) const;
  std::unique_ptr<ConvolveStep> convolve(const Instruction& i);
  void place_pixels(const Instruction& i, ConvolveStep& step) const;
  bool tile(const Instruction& i, ConvolveStep& step) const;
  void share_out(const Instruction& i, ConvolveStep& step) const;

  const Memory& memory_;
  WeightMemory weights_;
  const PackedWeights& packed_;
  const Kernels& kernels_;
  int threads_;
  bool all_tiles_;
  Convolve* before_ = nullptr;
};

}  // namespace gatecast
