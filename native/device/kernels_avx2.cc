// Kernels for AVX2 and FMA: maddubs(|a|, w with a's sign) cannot saturate, because -128 is no mantissa.
//
// The integer sum d of a block starts from the bits of the float 1.5 * 2**23 * 2**e, e the weights' exponent, so that
// it lands in that float's mantissa field. One subtraction, which is exact, leaves d * 2**e; its product with the
// activations' step is exact too, so the fused multiply-add rounds once, as docs/spec/numerics.md §2 wants. The units
// that multiply, which have most to do, convert and scale nothing.
#include <immintrin.h>

#include "values.h"

namespace {

constexpr int kPixels = 4;

INLINE __m256i load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

INLINE __m256i four(const uint8_t* from) {
  int32_t x;
  memcpy(&x, from, 4);
  return _mm256_set1_epi32(x);
}

// As pack_lanes; in place of the lanes' steps the bits that their sums start from.
void pack_panel(const int8_t* mantissas, const uint8_t* exponents, int bits, uint8_t* panel) {
  pack_lanes(mantissas, exponents, bits, panel);
  for (int lane = 0; lane < kLanes; ++lane) {
    const int32_t start = start_of_sums(exponents[lane], bits);
    memcpy(panel + kLanes * kBlock + 4 * lane, &start, 4);
  }
}

// Adds 4 channels' products to the integer sums of 16 lanes of P pixels. Where no activation is negative, the sign
// need not be moved.
template <int P, bool kSigned>
INLINE void add_group(const uint8_t* const (&activations)[P], int group, const uint8_t* weights,
                      __m256i (&products)[P][2]) {
  const __m256i ones = _mm256_set1_epi16(1), w[2] = {load(weights), load(weights + 32)};
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const __m256i a = four(activations[p] + 4 * group), magnitude = kSigned ? _mm256_abs_epi8(a) : a;
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) {
      const __m256i pairs = _mm256_maddubs_epi16(magnitude, kSigned ? _mm256_sign_epi8(w[n], a) : w[n]);
      products[p][n] = _mm256_add_epi32(products[p][n], _mm256_madd_epi16(pairs, ones));
      // Sums are made one after the other: left alone, g++ makes a tree of them that needs far more than 16 registers.
      asm volatile("" : "+x"(products[p][n]) : : "memory");
    }
  }
}

// Adds the first G groups of one block to 16 channels of P pixels.
template <int P, bool kSigned, int G>
INLINE void add_half(const uint8_t* const (&activations)[P], const float (&steps)[P], const uint8_t* panel, int half,
                     float (&sums)[P][kLanes]) {
  const uint8_t* starts = panel + kLanes * kBlock + 64 * half;
  __m256i products[P][2];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) products[p][0] = load(starts), products[p][1] = load(starts + 32);
#pragma GCC unroll 8
  for (int group = 0; group < G; ++group)
    add_group<P, kSigned>(activations, group, panel + group * 4 * kLanes + half * 64, products);
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 2
    for (int n = 0; n < 2; ++n) {
      float* sum = sums[p] + 16 * half + 8 * n;
      const __m256 start = _mm256_castsi256_ps(load(starts + 32 * n));
      const __m256 d = _mm256_sub_ps(_mm256_castsi256_ps(products[p][n]), start);
      _mm256_store_ps(sum, _mm256_fmadd_ps(d, _mm256_set1_ps(steps[p]), _mm256_load_ps(sum)));
    }
  }
}

template <int P>
INLINE bool any_negative(const uint8_t* const (&activations)[P]) {
  __m256i all = load(activations[0]);
#pragma GCC unroll 4
  for (int p = 1; p < P; ++p) all = _mm256_or_si256(all, load(activations[p]));
  return _mm256_movemask_epi8(all) != 0;
}

template <int P>
INLINE void add_block(const uint8_t* const (&activations)[P], const float (&steps)[P], const uint8_t* panel,
                      int channels, float (&sums)[P][kLanes]) {
  if (!any_negative(activations)) {
    for (int half = 0; half < 2; ++half) add_half<P, false, 8>(activations, steps, panel, half, sums);
  } else if (channels > 24) {
    for (int half = 0; half < 2; ++half) add_half<P, true, 8>(activations, steps, panel, half, sums);
  } else {  // the first convolution: few channels, of either sign
    for (int half = 0; half < 2; ++half) add_half<P, true, 6>(activations, steps, panel, half, sums);
  }
}

// Largest lane of each of four vectors of non-negative integers.
INLINE __m128i largest_of(const __m256i (&v)[4]) {
  const __m256i a = _mm256_max_epi32(_mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1]));
  const __m256i b = _mm256_max_epi32(_mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
  const __m256i c = _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
  return _mm_max_epi32(_mm256_castsi256_si128(c), _mm256_extracti128_si256(c, 1));
}

template <int P>
INLINE void encode_sums(const View& out, const int32_t* pixels, int out_block, const __m256 (&v)[P][4]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most[4] = {};
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n)
      most[p] = _mm256_max_epi32(most[p], _mm256_and_si256(_mm256_castps_si256(v[p][n]), magnitude));
  const __m128i power = _mm_and_si128(largest_of(most), _mm_set1_epi32(0x7f800000));
  const __m128i lowest_field = _mm_set1_epi32((127 - 48) << 23), highest_field = _mm_set1_epi32((127 + 48) << 23);
  const __m128i field = _mm_min_epi32(highest_field, _mm_max_epi32(lowest_field, power));
  const int shift = out.bits - 2;
  alignas(16) float steps[4], inverses[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(steps), _mm_sub_epi32(field, _mm_set1_epi32(shift << 23)));
  _mm_store_si128(reinterpret_cast<__m128i*>(inverses), _mm_sub_epi32(_mm_set1_epi32((254 + shift) << 23), field));
  const __m256 limit = _mm256_set1_ps(float((1 << (out.bits - 1)) - 1));
  const __m256 lowest = _mm256_sub_ps(_mm256_setzero_ps(), limit);
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    const __m256 inverse = _mm256_set1_ps(inverses[p]);
    __m256i m[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n)
      m[n] = _mm256_cvtps_epi32(_mm256_max_ps(lowest, _mm256_min_ps(limit, _mm256_mul_ps(v[p][n], inverse))));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
    const int64_t at = pixels[p] + out_block;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.mantissas + at * kBlock),
                        _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
    out.steps[at] = steps[p];
  }
}

// The usual end of pixels.
template <int P>
INLINE void end_sums(const Convolve& c, int out_block, int pixel, const float (&sums)[P][kLanes]) {
  const float* bias = c.end.bias + out_block * kLanes;
  __m256 v[P][4];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n)
      v[p][n] = _mm256_add_ps(_mm256_load_ps(sums[p] + 8 * n), _mm256_loadu_ps(bias + 8 * n));
    if (c.end.residual.steps) {
      const int64_t at = c.pixel_residual[pixel + p] + out_block;
      const uint8_t* from = c.end.residual.mantissas + at * kBlock;
      const __m256 step = _mm256_set1_ps(c.end.residual.steps[at]);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        const __m256i m = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8 * n)));
        v[p][n] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(m), step, v[p][n]);  // the product is exact
      }
    }
    if (c.end.activation)
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) v[p][n] = _mm256_max_ps(v[p][n], _mm256_setzero_ps());
  }
  encode_sums<P>(c.end.out, c.pixel_out + pixel, out_block, v);
}

template <int P>
INLINE void end_any(const Convolve& c, int out_block, int pixel, const float (&sums)[P][kLanes]) {
  if (is_usual(c, out_block)) return end_sums<P>(c, out_block, pixel, sums);
  for (int p = 0; p < P; ++p) end_pixel<0>(c, out_block, pixel + p, sums[p]);
}

struct Tile {
  template <int P>
  static void sum(const Convolve& c, int out_block, int tile) {
    const int first = first_block(c, out_block);
    const uint8_t* panel = panels_of(c, out_block);
    alignas(64) float sums[P][kLanes];
    for (int p = 0; p < P; ++p) begin_pixel(c, out_block, tile * kPixels + p, sums[p]);
    for (int tap = 0; tap < c.taps; ++tap) {
      const Taps taps = taps_of(c, tile, kPixels, tap);
      const uint8_t* activations[P];
      const float* from[P];
      for (int p = 0; p < P; ++p) {
        const int64_t block = taps.blocks[p] + taps.offset + first;
        activations[p] = c.mantissas + block * kBlock, from[p] = c.steps + block;
      }
      for (int i = 0; i < c.in_blocks; ++i, panel += kPanelBytes) {
        float steps[P];
        for (int p = 0; p < P; ++p) steps[p] = *from[p]++;
        add_block<P>(activations, steps, panel, c.channels, sums);
        for (int p = 0; p < P; ++p) activations[p] += kBlock;
      }
    }
    end_any<P>(c, out_block, tile * kPixels, sums);
  }
};

}  // namespace

namespace gatecast {
extern const Kernels kAvx2 = {
    "avx2", 0, kPixels, pack_panel, convolve_by_four<Tile>, convolve_depthwise<0, kPixels, end_pixel<0>>,
    pool<0>, elementwise<0>};
}
