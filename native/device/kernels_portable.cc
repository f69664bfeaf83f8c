// Kernels in plain C++, for any processor; what the others are compared with.
#include "values.h"

namespace {

constexpr int kPixels = 4;

// [group of 4 channels][lane][4], then the steps of the lanes.
void pack_panel(const int8_t* mantissas, const uint8_t* exponents, int bits, uint8_t* panel) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kBlock; ++i) panel[(i / 4 * kLanes + lane) * 4 + i % 4] = uint8_t(mantissas[lane * kBlock + i]);
    const float step = power_of_two(exponents[lane] - 127 - (bits - 2));
    memcpy(panel + kLanes * kBlock + 4 * lane, &step, 4);
  }
}

INLINE void add_block(const uint8_t* activations, float step, const uint8_t* panel, float* sums) {
  int32_t products[kLanes] = {};
  for (int group = 0; group < kBlock / 4; ++group) {
    const int8_t* a = reinterpret_cast<const int8_t*>(activations) + 4 * group;
    const int8_t* w = reinterpret_cast<const int8_t*>(panel) + 4 * kLanes * group;
    for (int lane = 0; lane < kLanes; ++lane)
      products[lane] += a[0] * w[4 * lane] + a[1] * w[4 * lane + 1] + a[2] * w[4 * lane + 2] + a[3] * w[4 * lane + 3];
  }
  const float* steps = reinterpret_cast<const float*>(panel + kLanes * kBlock);
  for (int lane = 0; lane < kLanes; ++lane) sums[lane] += float(products[lane]) * (steps[lane] * step);
}

void convolve(const Convolve& c, int out_block, int first_tile, int last_tile) {
  const int first = first_block(c, out_block);
  const int64_t panels = int64_t(c.taps) * c.in_blocks * kPanelBytes;
  for (int tile = first_tile; tile < last_tile; ++tile) {
    for (int p = 0; p < kPixels && tile * kPixels + p < c.pixels; ++p) {
      const int pixel = tile * kPixels + p;
      alignas(64) float sums[kLanes];
      begin_pixel(c, out_block, pixel, sums);
      const uint8_t* panel = c.panels + out_block * panels;
      for (int tap = 0; tap < c.taps; ++tap) {
        const Taps taps = taps_of(c, tile, kPixels, tap);
        const int64_t block = taps.blocks[p] + taps.offset + first;
        for (int i = 0; i < c.in_blocks; ++i, panel += kPanelBytes)
          add_block(c.mantissas + (block + i) * kBlock, c.steps[block + i], panel, sums);
      }
      end_pixel<0>(c, out_block, pixel, sums);
    }
  }
}

}  // namespace

namespace gatecast {
extern const Kernels kPortable = {"portable", 0, kPixels, pack_panel, convolve, pool<0>, elementwise<0>};
}
