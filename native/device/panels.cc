#include "panels.h"

#include <math.h>

#include <algorithm>
#include <mutex>

#include "transfer.h"

namespace gatecast {
namespace {

size_t panel_bytes(int bits) { return size_t(kLanes) * 4 * bits + kLanes; }

struct Weights {
  Weights(const Panel& panel, Memory::Section section) {
    const size_t end = panel.offset + panel_bytes(panel.bits);
    if (panel.bits == 0 || end > section.size) throw std::out_of_range("panel lies outside the section weights");
    const uint8_t* from = section.data + panel.offset;
    exponents = from + kLanes * 4 * panel.bits;
    for (int lane = 0; lane < kLanes; ++lane)
      unpack_block(from + lane * 4 * panel.bits, panel.bits, 0, mantissas + lane * kBlock);
  }

  // How many channels of its blocks have weights.
  int channels() const {
    int most = 0;
    for (int i = 0; i < kLanes * kBlock; ++i)
      if (mantissas[i]) most = std::max(most, i % kBlock + 1);
    return most;
  }

  bool diagonal() const {
    for (int i = 0; i < kLanes * kBlock; ++i)
      if (mantissas[i] && i / kBlock != i % kBlock) return false;
    return true;
  }

  uint8_t mantissas[kLanes * kBlock];
  const uint8_t* exponents;
};

// A weight of each lane, as a float.
void pack_diagonal(const Weights& weights, int bits, uint8_t* panel) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int8_t mantissa = int8_t(weights.mantissas[lane * kBlock + lane]);
    const float weight = ldexpf(mantissa, weights.exponents[lane] - 127 - (bits - 2));
    memcpy(panel + 4 * lane, &weight, 4);
  }
}

void pack(const Reading& reading, Memory::Section section, const Kernels& kernels, uint8_t* bytes,
          PackedWeights::Run& run) {
  const auto all = [&](const auto& holds) { return std::all_of(reading.panels.begin(), reading.panels.end(), holds); };
  run.diagonal = reading.single && all([&](const Panel& panel) { return Weights(panel, section).diagonal(); });
  uint8_t* to = bytes + run.offset;
  for (const Panel& panel : reading.panels) {
    const Weights weights(panel, section);
    run.channels = std::max(run.channels, weights.channels());
    if (run.diagonal)
      pack_diagonal(weights, panel.bits, to);
    else
      kernels.pack_panel(reinterpret_cast<const int8_t*>(weights.mantissas), weights.exponents, panel.bits, to);
    to += kPanelBytes;
  }
}

}  // namespace

void WeightMemory::load(const Instruction& i) {
  const int bits = mantissa_bits(i("format"));
  const int64_t address = i("address"), count = i("count"), offset = i("offset");
  for (int64_t n = 0; n < count; ++n)
    held_.at(size_t(address + n) % wrap_) = {uint32_t(offset + n * int64_t(panel_bytes(bits))), bits};
}

Reading WeightMemory::read_by(const Instruction& i) const {
  const int64_t address = i("weights");
  std::vector<Panel> panels(size_t(i("kernel_rows") * i("kernel_columns") * i("in_blocks") * i("out_blocks")));
  for (size_t n = 0; n < panels.size(); ++n) panels[n] = held_.at((size_t(address) + n) % wrap_);
  return {std::move(panels), i("in_blocks") == 1};
}

SharedWeights pack_weights(const Layout& layout, const uint32_t* text, size_t instructions, const Sizes& sizes,
                           Memory::Section weights, const Kernels& kernels) {
  auto made = std::make_shared<PackedWeights>();
  WeightMemory memory(sizes);
  size_t total = 0;
  for (size_t n = 0; n < instructions; ++n) {
    const Instruction i(layout, text + n * kInstructionWords);
    if (i.name() == "weights") memory.load(i);
    if (i.name() != "convolve") continue;
    auto reading = memory.read_by(i);
    const size_t count = reading.panels.size();
    if (made->runs.try_emplace(std::move(reading), PackedWeights::Run{total * kPanelBytes, count, 0, false}).second)
      total += count;
  }
  made->bytes = Buffer<uint8_t>(total * kPanelBytes);
  for (auto& [reading, run] : made->runs) pack(reading, weights, kernels, made->bytes.data(), run);
  return made;
}

SharedWeights shared_weights(const std::string& key, const std::function<SharedWeights()>& make) {
  static std::mutex lock;
  static std::map<std::string, std::weak_ptr<const PackedWeights>> known;
  std::lock_guard guard(lock);
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  if (const auto found = known.find(key); found != known.end())
    if (SharedWeights held = found->second.lock()) return held;
  SharedWeights made = make();
  known[key] = made;
  return made;
}

}  // namespace gatecast
