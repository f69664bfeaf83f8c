#include "program.h"

#include <algorithm>
#include <chrono>

#include "float_state.h"
#include "kept_maps.h"
#include "steps.h"

namespace gatecast {
namespace {

// Work below this many block products, or blocks, is done before another thread would have begun.
constexpr int64_t kLeastProducts = 1000, kLeastBlocks = 500;

uint64_t now() { return uint64_t(std::chrono::steady_clock::now().time_since_epoch().count()); }

// A thread's scratch memory lies in large pages and begins a line of the caches.
constexpr int64_t kLine = 64, kLeastScratch = int64_t(1) << 21;

struct ConvolveParts {
  const ConvolveStep& step;
  const Kernels& kernels;
  uint8_t* scratch;
  int64_t thread_scratch;
};

void convolve_part(const void* work, int part, int thread) {
  const auto& [step, kernels, scratch, thread_scratch] = *static_cast<const ConvolveParts*>(work);
  const int first = part / step.parts_across() * step.part_tiles, last = std::min(first + step.part_tiles, step.tiles);
  const int block = part % step.parts_across() * step.part_blocks;
  const int end = std::min(block + step.part_blocks, step.work.out_blocks);
  if (step.tables) {
    uint8_t* own = scratch + thread * thread_scratch;
    return kernels.tiles->convolve(step.work, step.tables->tiling, block, end, first, last, own);
  }
  const auto convolve = step.work.diagonal ? kernels.convolve_depthwise : kernels.convolve;
  for (int n = block; n < end; ++n) convolve(step.work, n, first, last);
}

const TilingTables* tables_of(const Step& step) {
  const auto* convolve = std::get_if<std::unique_ptr<ConvolveStep>>(&step.work);
  return convolve ? (*convolve)->tables.get() : nullptr;
}

}  // namespace

Program::Program(const Layout& layout, const uint32_t* text, size_t instructions, size_t prologue, const Sizes& sizes,
                 Memory::Section weights, const Kernels& kernels, int threads, const std::string& digest,
                 bool all_tiles)
    : kernels_(kernels), memory_(sizes, weights.data, weights.size, kernels.flip), pool_(ThreadPool::shared(threads)) {
  const auto pack = [&] { return pack_weights(layout, text, instructions, sizes, weights, kernels); };
  packed_ = digest.empty() ? pack() : shared_weights(digest + std::to_string(sizes.weight_wrap) + kernels.name, pack);
  StepMaker maker(memory_, sizes, *packed_, kernels, threads, all_tiles);
  std::vector<Traffic> traffic;
  for (size_t n = 0; n < instructions; ++n) {
    const Instruction instruction(layout, text + n * kInstructionWords);
    auto step = maker.make(instruction, int(n));
    if (!step) continue;
    (n < prologue ? prologue_ : body_).push_back(std::move(*step));
    if (n >= prologue) traffic.emplace_back(instruction);
  }
  if (kernels.tiles) kept_ = keep_maps(body_, traffic);
  finish_tilings();
  reserve_scratch();
  execute(prologue_, nullptr);
}

int Program::tilings() const {
  return int(std::count_if(body_.begin(), body_.end(), [](const Step& step) { return tables_of(step) != nullptr; }));
}

int Program::kept_maps() const {
  int count = 0;
  for (const Step& step : body_)
    for (const auto& positions : step.positions) count += !positions.empty();
  return count;
}

void Program::finish_tilings() {
  for (const auto* steps : {&prologue_, &body_})
    for (const Step& step : *steps) {
      const auto* convolve = std::get_if<std::unique_ptr<ConvolveStep>>(&step.work);
      if (!convolve || !(*convolve)->maker) continue;
      ConvolveStep& c = **convolve;
      const TilingMaker::Share share{c.part_tiles, c.part_blocks};
      c.tables = std::make_unique<TilingTables>(c.maker->finish(share, *kernels_.tiles));
      c.maker.reset();
    }
}

void Program::reserve_scratch() {
  for (const auto* steps : {&prologue_, &body_})
    for (const Step& step : *steps)
      if (const TilingTables* tables = tables_of(step))
        thread_scratch_ = std::max(thread_scratch_, (tables->tiling.scratch_bytes + kLine - 1) / kLine * kLine);
  if (thread_scratch_) scratch_ = Buffer<uint8_t>(size_t(std::max(thread_scratch_ * threads(), kLeastScratch)));
}

void Program::run(const uint8_t* inputs, uint64_t* nanoseconds) {
  memory_.sections[2].data = inputs;
  execute(body_, nanoseconds);
}

void Program::execute(const std::vector<Step>& steps, uint64_t* nanoseconds) {
  std::unique_lock turn(pool_->lock(), std::defer_lock);
  if (pool_->threads() > 1) turn.lock();  // sessions that share the threads take turns
  const FloatState state;
  for (const Step& step : steps) {
    const uint64_t start = nanoseconds ? now() : 0;
    execute(step);
    if (nanoseconds) nanoseconds[step.number] = now() - start;
  }
}

void Program::execute(const Step& step) {
  struct Visitor {
    Program& program;

    void operator()(const Transfer& t) const {
      uint8_t* external = const_cast<uint8_t*>(program.memory_.sections[t.section].data);
      const uint8_t flip = program.kernels_.flip;
      program.execute_rows(t.rows, int64_t(t.columns) * t.blocks, [&](int first, int last) {
        if (t.feeds.count)
          program.kernels_.tiles->load(t.loading(external), first, last);
        else
          transfer(t, external, flip, first, last);
      });
    }
    void operator()(const Constants& c) const { memcpy(c.to, c.from, c.bytes); }
    void operator()(const std::unique_ptr<ConvolveStep>& c) const { program.execute_parts(*c); }
    void operator()(const Pool& p) const {
      const auto pool = p.lines.lines ? program.kernels_.tiles->pool : program.kernels_.pool;
      program.execute_rows(p.rows, int64_t(p.columns) * p.blocks,
                           [&](int first, int last) { pool(p, first, last); });
    }
    void operator()(const Elementwise& e) const {
      program.execute_rows(e.rows, int64_t(e.columns) * e.blocks,
                           [&](int first, int last) { program.kernels_.elementwise(e, first, last); });
    }
  };
  for (const Margin& margin : step.margins) memset(margin.from, 0, margin.bytes);
  std::visit(Visitor{*this}, step.work);
}

void Program::execute_parts(const ConvolveStep& step) {
  const Convolve& c = step.work;
  const ConvolveParts work{step, kernels_, scratch_.data(), thread_scratch_};
  const int parts = step.parts();
  if (int64_t(c.pixels) * c.taps * c.in_blocks * c.out_blocks >= kLeastProducts) {
    pool_->run(parts, convolve_part, &work);
  } else {
    for (int part = 0; part < parts; ++part) convolve_part(&work, part, 0);
  }
}

// Shares rows of `blocks` blocks each among the threads.
template <class Rows>
void Program::execute_rows(int rows, int64_t blocks, const Rows& work) {
  if (rows * blocks < kLeastBlocks || pool_->threads() == 1) return work(0, rows);
  struct Shares {
    const Rows& work;
    int rows, height;
  };
  const int wanted = 4 * pool_->threads();
  const Shares shares{work, rows, (rows + wanted - 1) / wanted};
  const auto part = [](const void* data, int number, int) {
    const Shares& s = *static_cast<const Shares*>(data);
    s.work(number * s.height, std::min((number + 1) * s.height, s.rows));
  };
  pool_->run((rows + shares.height - 1) / shares.height, part, &shares);
}

}  // namespace gatecast
