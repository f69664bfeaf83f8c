// Kernels in plain C++, for any processor; what the others are compared with.
#include "values.h"

namespace {

constexpr int kPixels = 4;

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

struct Tile {
  template <int P>
  static void sum(const Convolve& c, int out_block, int tile) {
    for (int p = 0; p < P; ++p) {
      alignas(64) float sums[kLanes];
      begin_pixel(c, out_block, tile * kPixels + p, sums);
      const uint8_t* panel = panels_of(c, out_block);
      for (int tap = 0; tap < c.taps; ++tap) {
        const Taps taps = taps_of(c, tile, kPixels, tap);
        const int64_t block = taps.blocks[p] + taps.offset + first_block(c, out_block);
        for (int i = 0; i < c.in_blocks; ++i, panel += kPanelBytes)
          add_block(c.mantissas + (block + i) * kBlock, c.steps[block + i], panel, sums);
      }
      end_pixel<0>(c, out_block, tile * kPixels + p, sums);
    }
  }
};

}  // namespace

namespace gatecast {
extern const Kernels kPortable = {
    "portable", 0, kPixels, pack_lanes, convolve_by_four<Tile>, convolve_depthwise<0, kPixels, end_pixel<0>>, pool<0>, elementwise<0>};
}
