#include "panels.h"

#include <algorithm>
#include <mutex>

#include "transfer.h"

namespace gatecast {
namespace {

size_t panel_bytes(int bits) { return size_t(kLanes) * 4 * bits + kLanes; }

// Packs one; returns how many channels of its blocks have weights.
int pack(const Panel& panel, Memory::Section weights, const Kernels& kernels, uint8_t* out) {
  const size_t end = panel.offset + panel_bytes(panel.bits);
  if (panel.bits == 0 || end > weights.size) throw std::out_of_range("panel lies outside the section weights");
  const uint8_t* from = weights.data + panel.offset;
  uint8_t mantissas[kLanes * kBlock];
  for (int lane = 0; lane < kLanes; ++lane)
    unpack_block(from + lane * 4 * panel.bits, panel.bits, 0, mantissas + lane * kBlock);
  kernels.pack_panel(reinterpret_cast<const int8_t*>(mantissas), from + kLanes * 4 * panel.bits, panel.bits, out);
  int channels = 0;
  for (int i = 0; i < kLanes * kBlock; ++i)
    if (mantissas[i]) channels = std::max(channels, i % kBlock + 1);
  return channels;
}

}  // namespace

void WeightMemory::load(const Instruction& i) {
  const int bits = mantissa_bits(i("format"));
  const int64_t address = i("address"), count = i("count"), offset = i("offset");
  for (int64_t n = 0; n < count; ++n)
    held_.at(size_t(address + n) % wrap_) = {uint32_t(offset + n * int64_t(panel_bytes(bits))), bits};
}

std::vector<Panel> WeightMemory::read_by(const Instruction& i) const {
  const int64_t address = i("weights");
  std::vector<Panel> panels(size_t(i("kernel_rows") * i("kernel_columns") * i("in_blocks") * i("out_blocks")));
  for (size_t n = 0; n < panels.size(); ++n) panels[n] = held_.at((size_t(address) + n) % wrap_);
  return panels;
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
    auto panels = memory.read_by(i);
    const size_t count = panels.size();
    if (made->runs.try_emplace(std::move(panels), PackedWeights::Run{total * kPanelBytes, count, 0}).second)
      total += count;
  }
  made->bytes = Buffer<uint8_t>(total * kPanelBytes);
  for (auto& [panels, run] : made->runs)
    for (size_t n = 0; n < panels.size(); ++n)
      run.channels = std::max(
          run.channels, pack(panels[n], weights, kernels, made->bytes.data() + run.offset + n * kPanelBytes));
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
