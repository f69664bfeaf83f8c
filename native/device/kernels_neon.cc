// Kernels for 64-bit ARM with the dot product instructions (SDOT, FEAT_DotProd).
#include <arm_neon.h>

#include "values.h"

namespace {

constexpr int kPixels = 4;
constexpr int kQuarter = 8;  // lanes at once: two registers of sums for each pixel

INLINE int8x16_t load(const uint8_t* from) { return vreinterpretq_s8_u8(vld1q_u8(from)); }

// Adds four channels, those of `lane` in `a`, to eight lanes of a pixel.
template <int lane>
INLINE void dot(int32x4_t (&products)[2], const int8x16_t (&w)[2], int8x16_t a) {
  products[0] = vdotq_laneq_s32(products[0], w[0], a, lane);
  products[1] = vdotq_laneq_s32(products[1], w[1], a, lane);
}

// Adds one block to eight lanes of P pixels.
template <int P>
INLINE void add_block(const uint8_t* const (&activations)[P], const float (&steps)[P], const uint8_t* panel, int lanes,
                      float32x4_t (&sums)[P][2]) {
  int32x4_t products[P][2] = {};
  for (int half = 0; half < 2; ++half) {
    int8x16_t a[P];
    for (int p = 0; p < P; ++p) a[p] = load(activations[p] + 16 * half);
#pragma GCC unroll 4
    for (int group = 0; group < 4; ++group) {
      const uint8_t* from = panel + (4 * half + group) * 4 * kLanes + 4 * lanes;
      const int8x16_t w[2] = {load(from), load(from + 16)};
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        switch (group) {
          case 0: dot<0>(products[p], w, a[p]); break;
          case 1: dot<1>(products[p], w, a[p]); break;
          case 2: dot<2>(products[p], w, a[p]); break;
          default: dot<3>(products[p], w, a[p]);
        }
      }
    }
  }
  const float* scales = reinterpret_cast<const float*>(panel + kLanes * kBlock) + lanes;
  const float32x4_t scale[2] = {vld1q_f32(scales), vld1q_f32(scales + 4)};
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
    for (int n = 0; n < 2; ++n)  // the product with a power of two is exact, so fusing rounds once, as it must
      sums[p][n] = vfmaq_f32(sums[p][n], vcvtq_f32_s32(products[p][n]), vmulq_n_f32(scale[n], steps[p]));
}

template <int P>
INLINE void add_lanes(const Convolve& c, int tile, int first, const uint8_t* panel, int lanes, float (&kept)[P][kLanes]) {
  float32x4_t sums[P][2];
  for (int p = 0; p < P; ++p)
    for (int n = 0; n < 2; ++n) sums[p][n] = vld1q_f32(kept[p] + lanes + 4 * n);
  for (int tap = 0; tap < c.taps; ++tap) {
    const Taps taps = taps_of(c, tile, kPixels, tap);
    for (int i = 0; i < c.in_blocks; ++i, panel += kPanelBytes) {
      const uint8_t* activations[P];
      float steps[P];
      for (int p = 0; p < P; ++p) {
        const int64_t block = taps.blocks[p] + taps.offset + first + i;
        activations[p] = c.mantissas + block * kBlock;
        steps[p] = c.steps[block];
      }
      add_block<P>(activations, steps, panel, lanes, sums);
    }
  }
  for (int p = 0; p < P; ++p)
    for (int n = 0; n < 2; ++n) vst1q_f32(kept[p] + lanes + 4 * n, sums[p][n]);
}

struct Tile {
  template <int P>
  static void sum(const Convolve& c, int out_block, int tile) {
    alignas(64) float sums[P][kLanes];
    for (int p = 0; p < P; ++p) begin_pixel(c, out_block, tile * kPixels + p, sums[p]);
    for (int lanes = 0; lanes < kLanes; lanes += kQuarter)
      add_lanes<P>(c, tile, first_block(c, out_block), panels_of(c, out_block), lanes, sums);
    for (int p = 0; p < P; ++p) end_pixel<0>(c, out_block, tile * kPixels + p, sums[p]);
  }
};

}  // namespace

namespace gatecast {
extern const Kernels kNeon = {
    "neon", 0, kPixels, pack_lanes, convolve_by_four<Tile>, convolve_depthwise<0, kPixels, end_pixel<0>>, pool<0>, elementwise<0>};
}
