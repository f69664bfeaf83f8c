#include "steps.h"

#include <algorithm>

#include "window.h"

namespace gatecast {
namespace {

// All output blocks pass over some pixels, then over the next ones. Where the panels stay in the second-level cache,
// so few pixels that what they read and write stays in the first; else so many that it just stays in the second.
constexpr int64_t kFewPanels = 512 << 10, kFewBytes = 32 << 10, kManyBytes = 512 << 10;

// Threads share the pixels of a convolution, all its output blocks at once, where each gets so many tiles; else the
// output blocks, and of few of those the tiles too. Blocks that lie side by side in memory are one thread's either way.
constexpr int kTilesPerThread = 4, kPartsPerThread = 4;

// Splits a number of things into parts for threads: things of a part, at most so many, such that they end together.
// Of the ways that are as good, the one with the smallest parts, or the largest.
int64_t fair_share(int64_t count, int64_t threads, int64_t most, bool small) {
  const int64_t fewest = (count + threads * most - 1) / (threads * most);
  int64_t best = 0, best_span = 0;
  for (int64_t turns = fewest; turns < fewest + kPartsPerThread; ++turns) {
    const int64_t share = (count + threads * turns - 1) / (threads * turns), parts = (count + share - 1) / share;
    const int64_t span = (parts + threads - 1) / threads * share;
    if (!best || span < best_span || (span == best_span && small)) best = share, best_span = span;
  }
  return best;
}

// How far ahead of their use panels are fetched. Measured: 512 KiB is slower already, the maps lose their place.
constexpr int64_t kFetchDistance = 256 << 10;

}  // namespace

std::optional<Step> StepMaker::make(const Instruction& i, int number) {
  const std::string& name = i.name();
  if (name == "weights") weights_.load(i);
  if (name == "load" || name == "store") return Step{number, transfer_of(i, memory_)};
  if (name == "constants") return Step{number, constants(i)};
  if (name == "convolve") return Step{number, convolve(i)};
  if (name == "pool") return Step{number, pool(i)};
  if (name == "map") return Step{number, elementwise(i)};
  return std::nullopt;  // end, sync, weights
}

Constants StepMaker::constants(const Instruction& i) const {
  const Memory::Section& section = memory_.sections[i("section")];
  const size_t bytes = size_t(i("count")) * 4 * kLanes;
  if (size_t(i("offset")) + bytes > section.size) throw std::out_of_range("constants lie outside their section");
  return {section.data + i("offset"), memory_.vectors.data() + i("address") * kLanes, bytes};
}

Epilogue StepMaker::epilogue(const Instruction& i) const {
  Epilogue end;
  const auto vector = [&](const char* field) { return memory_.vectors.data() + i(field) * kLanes; };
  if (i.name() == "convolve") {
    if (i("has_bias")) end.bias = vector("bias");
    end.residual = memory_.view(i, "residual");
  }
  if (i.name() != "pool") {
    if (i("has_scale")) end.scale = vector("scale"), end.shift = vector("shift");
    end.activation = int(i("activation"));
    end.low = i.real("low"), end.high = i.real("high");
    end.last_channels = int(i("last_channels"));
    if (end.last_channels < kLanes) end.last_block = int(i("out_blocks")) - 1;
  }
  end.out = memory_.view(i, "out");
  return end;
}

Pool StepMaker::pool(const Instruction& i) const {
  Pool p{};
  p.in = memory_.view(i, "in");
  p.in_rows = int(i("in_rows")), p.in_columns = int(i("in_columns"));
  p.in_y = int(i("in_y")), p.in_x = int(i("in_x"));
  p.kernel_rows = int(i("kernel_rows")), p.kernel_columns = int(i("kernel_columns"));
  p.stride_y = int(i("stride_y")), p.stride_x = int(i("stride_x"));
  p.rows = int(i("out_rows")), p.columns = int(i("out_columns")), p.blocks = int(i("out_blocks"));
  p.average = i("operation") == 1;
  p.factor = i.real("factor");
  p.end = epilogue(i);
  return p;
}

Elementwise StepMaker::elementwise(const Instruction& i) const {
  Elementwise e{};
  e.operation = int(i("operation"));
  e.a = memory_.view(i, "a"), e.b = memory_.view(i, "b");
  e.repeat_y = int(i("repeat_y")), e.repeat_x = int(i("repeat_x"));
  e.rows = int(i("out_rows")), e.columns = int(i("out_columns")), e.blocks = int(i("out_blocks"));
  e.end = epilogue(i);
  return e;
}

std::unique_ptr<ConvolveStep> StepMaker::convolve(const Instruction& i) {
  auto step = std::make_unique<ConvolveStep>();
  Convolve& c = step->work;
  c.mantissas = memory_.mantissas.data(), c.steps = memory_.steps.data();
  c.pixels = int(i("out_rows") * i("out_columns"));
  c.taps = int(i("kernel_rows") * i("kernel_columns"));
  c.in_blocks = int(i("in_blocks")), c.out_blocks = int(i("out_blocks")), c.group_blocks = int(i("group_blocks"));
  const PackedWeights::Run& run = packed_.runs.at(weights_.read_by(i));
  c.panel_bytes = int64_t(run.count * kPanelBytes);
  c.panels = packed_.bytes.data() + run.offset, c.channels = run.channels, c.diagonal = run.diagonal;
  c.ahead = kFetchDistance, c.panels_end = packed_.bytes.data() + packed_.bytes.size();
  float* partials = memory_.vectors.data() + i("partials") * kLanes;
  c.resumed = i("resume") ? partials : nullptr;
  c.suspended = i("suspend") ? partials : nullptr;
  if (!c.suspended) c.end = epilogue(i);
  place_pixels(i, *step);
  if (!tile(i, *step)) share_out(i, *step);
  if (before_) before_->next_run = c.fetch_runs > 1 ? c.panel_bytes / c.fetch_runs : 0;
  before_ = &c;
  c.pixel_in = step->pixel_in.data(), c.pixel_out = step->pixel_out.data();
  c.pixel_residual = step->pixel_residual.data();
  c.tile_blocks = step->tile_blocks.data(), c.tap_blocks = step->tap_blocks.data();
  c.tap_offsets = step->tap_offsets.data();
  return step;
}

void StepMaker::place_pixels(const Instruction& i, ConvolveStep& step) const {
  const Window w(i);
  const int64_t row = i("in_row"), pixel = i("in_pixel"), address = i("in_address"), columns = i("out_columns");
  const int tile_pixels = kernels_.pixels, pixels = step.work.pixels;
  for (int64_t ky = 0; ky < w.kernel_rows; ++ky)
    for (int64_t kx = 0; kx < w.kernel_columns; ++kx)
      step.tap_offsets.push_back(int32_t(ky * w.dilation_y * row + kx * w.dilation_x * pixel));
  for (int first = 0; first < pixels; first += tile_pixels) {
    const int count = std::min(tile_pixels, pixels - first);
    bool whole = true;
    for (int n = first; n < first + count; ++n) {
      const int64_t oy = n / columns, ox = n % columns;
      const int64_t y = w.y + oy * w.stride_y, x = w.x + ox * w.stride_x;
      step.pixel_in.push_back(w.whole(oy, ox) ? int32_t(address + y * row + x * pixel) : memory_.zero_block);
      step.pixel_out.push_back(int32_t(step.work.end.out.at(oy, ox)));
      step.pixel_residual.push_back(int32_t(step.work.end.residual.at(oy, ox)));
      whole = whole && w.whole(oy, ox);
    }
    step.tile_blocks.push_back(whole ? -1 : int32_t(step.tap_blocks.size()));
    if (whole) continue;
    for (int64_t tap = 0; tap < step.work.taps; ++tap) {
      for (int n = first; n < first + tile_pixels; ++n) {
        const int64_t y = w.y + n / columns * w.stride_y + tap / w.kernel_columns * w.dilation_y;
        const int64_t x = w.x + n % columns * w.stride_x + tap % w.kernel_columns * w.dilation_x;
        const bool inside = n < pixels && w.inside(y, x);
        step.tap_blocks.push_back(inside ? int32_t(address + y * row + x * pixel) : memory_.zero_block);
      }
    }
  }
  step.tiles = int(step.tile_blocks.size());
}

// Whether the kernels take tiles for this one; it is shared out by them then.
bool StepMaker::tile(const Instruction& i, ConvolveStep& step) const {
  if (!kernels_.tiles) return false;
  auto maker = std::make_unique<TilingMaker>(i, step.work);
  if (!maker->possible()) return false;
  const auto share = maker->share_out(threads_);
  if (!all_tiles_ && !maker->faster(share)) return false;
  step.tiles = maker->tiles(), step.part_tiles = share.part_tiles, step.part_blocks = share.part_blocks;
  if (step.parts() > kMostParts) return false;
  step.work.fetch_tiles = step.tiles;
  step.work.fetch_runs = share.part_blocks < step.work.out_blocks ? threads_ : 1;
  step.maker = std::move(maker);
  return true;
}

void StepMaker::share_out(const Instruction& i, ConvolveStep& step) const {
  const Convolve& c = step.work;
  const int64_t blocks = i("stride_y") * i("stride_x") * c.in_blocks + c.out_blocks * (c.end.residual.present() ? 2 : 1);
  const bool few = c.panel_bytes <= kFewPanels;
  int64_t tiles =
      std::clamp<int64_t>((few ? kFewBytes : kManyBytes) / (blocks * kBlock * kernels_.pixels), 1, step.tiles);
  step.part_blocks = c.out_blocks;
  step.work.fetch_tiles = step.tiles, step.work.fetch_runs = 1;
  if (threads_ > 1 && step.tiles >= kTilesPerThread * threads_) {
    tiles = fair_share(step.tiles, threads_, tiles, few);  // many panels pass by once
    step.work.fetch_tiles = (step.tiles + threads_ - 1) / threads_;
  } else if (threads_ > 1) {
    step.part_blocks = int(fair_share(c.out_blocks, threads_, c.out_blocks, true));
    step.work.fetch_runs = threads_;
    const int64_t chunks = (threads_ + step.parts_across() - 1) / step.parts_across();
    tiles = (step.tiles + chunks - 1) / chunks;
  }
  const int64_t fewest = (int64_t(step.tiles) * step.parts_across() + kMostParts - 1) / kMostParts;
  step.part_tiles = int(std::max(tiles, fewest > 1 ? fewest + 1 : 1));
}

}  // namespace gatecast
