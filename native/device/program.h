// A Program made ready for the kernels, and its runs.
#pragma once
#include <string>
#include <variant>

#include "memory.h"
#include "panels.h"
#include "thread_pool.h"
#include "tiling_maker.h"
#include "transfer.h"

namespace gatecast {

struct Constants {
  const uint8_t* from;
  float* to;
  size_t bytes;
};

// A convolution with the tables that its `Convolve` points into.
struct ConvolveStep {
  Convolve work;
  std::vector<int32_t> pixel_in, pixel_out, pixel_residual, tile_blocks, tap_blocks, tap_offsets;
  std::unique_ptr<TilingMaker> maker;              // of one that tiles suit, until its tables are made
  std::unique_ptr<TilingTables> tables;
  int tiles = 0, part_tiles = 0, part_blocks = 0;  // a part of the work is so many tiles of so many output blocks

  int parts_across() const { return (work.out_blocks + part_blocks - 1) / part_blocks; }
  int parts() const { return (tiles + part_tiles - 1) / part_tiles * parts_across(); }
};

// Memory to be set to zeros.
struct Margin {
  uint8_t* from;
  size_t bytes;
};

struct Step {
  int number;  // of the instruction in the text
  std::variant<Transfer, Constants, std::unique_ptr<ConvolveStep>, Pool, Elementwise> work;
  // Of its Feeds.
  std::vector<int32_t> positions[kMostFeeds] = {};
  std::vector<Margin> margins = {};
};

class Program {
 public:
  // `weights` must outlive the Program; the prologue is run. Programs with the same `digest` of text and weights share
  // what was packed of them; an empty one is shared with none.
  // With `all_tiles` whatever can be made by tiles is, not only what is faster so.
  Program(const Layout& layout, const uint32_t* text, size_t instructions, size_t prologue, const Sizes& sizes,
          Memory::Section weights, const Kernels& kernels, int threads, const std::string& digest = {},
          bool all_tiles = false);

  // Computes one image; `outputs` are valid until the next run. Calls from several threads take turns.
  // `nanoseconds`, if given, gets what each instruction of the text took.
  void run(const uint8_t* inputs, uint64_t* nanoseconds = nullptr);

  const Buffer<uint8_t>& outputs() const { return memory_.outputs; }
  const Kernels& kernels() const { return kernels_; }
  int threads() const { return pool_->threads(); }
  const SharedWeights& packed() const { return packed_; }
  int tilings() const;    // convolutions that run by tiles
  int kept_maps() const;  // maps that these write for others: see kept_maps.h
  std::mutex& lock() { return lock_; }

 private:
  void finish_tilings();
  void reserve_scratch();
  void execute(const std::vector<Step>& steps, uint64_t* nanoseconds);
  void execute(const Step& step);
  void execute_parts(const ConvolveStep& step);

  template <class Rows>
  void execute_rows(int rows, int64_t blocks, const Rows& work);

  const Kernels& kernels_;
  Memory memory_;
  SharedWeights packed_;
  std::vector<Step> prologue_, body_;
  Buffer<uint8_t> kept_;        // maps in planes
  Buffer<uint8_t> scratch_;     // of each thread
  int64_t thread_scratch_ = 0;  // bytes
  std::shared_ptr<ThreadPool> pool_;
  std::mutex lock_;
};

}  // namespace gatecast
