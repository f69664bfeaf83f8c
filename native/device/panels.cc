#include "panels.h"

#include <algorithm>

#include "transfer.h"

namespace gatecast {
namespace {

size_t panel_bytes(int bits) { return size_t(kLanes) * 4 * bits + kLanes; }

}  // namespace

void WeightMemory::load(const Instruction& i) {
  const int bits = mantissa_bits(i("format"));
  const int64_t address = i("address"), count = i("count"), offset = i("offset");
  for (int64_t n = 0; n < count; ++n)
    held_.at(size_t(address + n) % wrap_) = {uint32_t(offset + n * int64_t(panel_bytes(bits))), bits};
}

PackedPanels WeightMemory::packed(int64_t address, int64_t count) {
  std::vector<Panel> panels(static_cast<size_t>(count));
  for (int64_t n = 0; n < count; ++n) panels[n] = held_.at(size_t(address + n) % wrap_);
  PackedPanels& found = packed_[panels];
  if (!found) {
    auto made = std::make_shared<Panels>(Panels{Buffer<uint8_t>(panels.size() * kPanelBytes), 0});
    for (size_t n = 0; n < panels.size(); ++n)
      made->channels = std::max(made->channels, pack(panels[n], made->bytes.data() + n * kPanelBytes));
    packed_bytes_ += made->bytes.size();
    found = std::move(made);
  }
  return found;
}

int WeightMemory::pack(const Panel& panel, uint8_t* out) const {
  const size_t end = panel.offset + panel_bytes(panel.bits);
  if (panel.bits == 0 || end > weights_.size) throw std::out_of_range("panel lies outside the section weights");
  const uint8_t* from = weights_.data + panel.offset;
  uint8_t mantissas[kLanes * kBlock];
  for (int lane = 0; lane < kLanes; ++lane)
    unpack_block(from + lane * 4 * panel.bits, panel.bits, 0, mantissas + lane * kBlock);
  kernels_.pack_panel(reinterpret_cast<const int8_t*>(mantissas), from + kLanes * 4 * panel.bits, panel.bits, out);
  int channels = 0;
  for (int i = 0; i < kLanes * kBlock; ++i)
    if (mantissas[i]) channels = std::max(channels, i % kBlock + 1);
  return channels;
}

}  // namespace gatecast
