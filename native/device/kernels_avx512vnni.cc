// Kernels for AVX-512 with VNNI.
//
// Activations are stored as M + 128, unsigned. The integer sum of a block starts from the bits of the float
// 1.5 * 2**23 * 2**e, e the weights' exponent, less 128 * sum(Mw): then d lands in that float's mantissa field, and
// one subtraction, which is exact, leaves d * 2**e. Its product with the activations' step is exact too, so the fused
// multiply-add rounds once, as docs/spec/numerics.md §2 wants. |d| < 2**19 and |128 * sum(Mw)| < 2**20 stay within
// the 2**22 on either side of 1.5 * 2**23.
#include "avx512.h"

namespace {

constexpr int kPixels = 7;
constexpr int kGroups = kBlock / 4;

// [group of 4 channels][even lanes, odd lanes][4], then the first bits of the lanes' sums.
void pack_panel(const int8_t* mantissas, const uint8_t* exponents, int bits, uint8_t* panel) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const int place = lane % 2 * 16 + lane / 2;
    int32_t sum = 0;
    for (int i = 0; i < kBlock; ++i) {
      panel[(i / 4 * kLanes + place) * 4 + i % 4] = uint8_t(mantissas[lane * kBlock + i]);
      sum = sum + mantissas[lane * kBlock + i];
    }
    const int32_t start = start_of_sums(exponents[lane], bits) - 128 * sum;
    memcpy(panel + kLanes * kBlock + 4 * place, &start, 4);
  }
}

INLINE __m512i load(const uint8_t* from) { return _mm512_loadu_si512(from); }

INLINE __m512i four(const uint8_t* from) {
  int32_t x;
  memcpy(&x, from, 4);
  return _mm512_set1_epi32(x);
}

// Adds the first G groups of one block to P pixels; `at` holds 4 times the block of each, the unit that addresses both planes.
template <int P, int G>
INLINE void add_block(const uint8_t* mantissas, const uint8_t* steps, const int64_t (&at)[P], const uint8_t* panel,
                      __m512 (&sums)[P][2]) {
  __m512i products[P][2];
  const __m512i start[2] = {load(panel + kLanes * kBlock), load(panel + kLanes * kBlock + 64)};
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) products[p][0] = start[0], products[p][1] = start[1];
#pragma GCC unroll 8
  for (int group = 0; group < G; ++group) {
    const __m512i even = load(panel + group * 128), odd = load(panel + group * 128 + 64);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m512i a = four(mantissas + 8 * at[p] + 4 * group);
      products[p][0] = _mm512_dpbusd_epi32(products[p][0], a, even);
      products[p][1] = _mm512_dpbusd_epi32(products[p][1], a, odd);
    }
  }
  const __m512i field = _mm512_set1_epi32(0x7f800000), half = _mm512_set1_epi32(0x400000);
#pragma GCC unroll 2
  for (int n = 0; n < 2; ++n) {
    const __m512 magic = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(start[n], field, half, 0xea));
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      float step;
      memcpy(&step, steps + at[p], 4);
      const __m512 d = _mm512_sub_ps(_mm512_castsi512_ps(products[p][n]), magic);
      sums[p][n] = _mm512_fmadd_ps(d, _mm512_set1_ps(step), sums[p][n]);
    }
  }
}

// What to bring into the second-level cache meanwhile: some lines at each step, until none is left.
struct Ahead {
  const uint8_t* next;
  int lines, left;

  INLINE void step() {
    if (left <= 0) return;
    for (int i = 0; i < lines; ++i, next += 64) _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
    left -= lines;
  }
};

// Adds the blocks of one tap, the first of them `base` after those that `at` holds.
template <int P, int G>
INLINE void add_blocks(const Convolve& c, int64_t base, int64_t (&at)[P], const uint8_t*& panel, Ahead& ahead,
                       __m512 (&sums)[P][2]) {
  const uint8_t* mantissas = c.mantissas + base * kBlock;
  const uint8_t* steps = reinterpret_cast<const uint8_t*>(c.steps + base);
  for (int i = 0; i < c.in_blocks; ++i, mantissas += kBlock, steps += 4, panel += kPanelBytes) {
    ahead.step();
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) asm("" : "+r"(at[p]));  // one register for both planes, not two
    add_block<P, G>(mantissas, steps, at, panel, sums);
  }
}

template <int P>
INLINE void place(const int32_t* blocks, int64_t (&at)[P]) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) at[p] = 4 * int64_t(blocks[p]);
}

template <int P, int G>
INLINE void add_taps(const Convolve& c, int tile, int first, const uint8_t* panel, Ahead ahead,
                     __m512 (&sums)[P][2]) {
  int64_t at[P];
  const int32_t list = c.tile_blocks[tile];
  if (list < 0) {
    place(c.pixel_in + tile * kPixels, at);
    for (int tap = 0; tap < c.taps; ++tap)
      add_blocks<P, G>(c, first + c.tap_offsets[tap], at, panel, ahead, sums);
  } else {
    for (int tap = 0; tap < c.taps; ++tap) {
      place(c.tap_blocks + list + tap * kPixels, at);
      add_blocks<P, G>(c, first, at, panel, ahead, sums);
    }
  }
}

template <int P>
INLINE void begin_tile(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) sums[p][0] = sums[p][1] = _mm512_setzero_ps();
  if (!c.resumed) return;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const Lanes begin = split(c.resumed + (int64_t(pixel + p) * c.out_blocks + out_block) * kLanes);
    sums[p][0] = begin.even, sums[p][1] = begin.odd;
  }
}

template <int P>
INLINE void finish_tile(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
  if (!c.suspended) return end_tile<P>(c, out_block, pixel, sums);
  for (int p = 0; p < P; ++p)
    join(c.suspended + (int64_t(pixel + p) * c.out_blocks + out_block) * kLanes, sums[p][0], sums[p][1]);
}

template <int P, int G>
void convolve_tile(const Convolve& c, int out_block, int tile, const uint8_t* panel, Ahead ahead) {
  __m512 sums[P][2];
  begin_tile<P>(c, out_block, tile * kPixels, sums);
  add_taps<P, G>(c, tile, first_block(c, out_block), panel, ahead, sums);
  finish_tile<P>(c, out_block, tile * kPixels, sums);
}

// The panels of one output block, and those that its tiles fetch for later: each tile its share of as many.
struct Strip {
  Strip(const Convolve& c, int out_block, int first_tile) : c(c), out_block(out_block) {
    const int64_t steps = int64_t(c.taps) * c.in_blocks;
    panel = panels_of(c, out_block);
    next = panel + c.ahead;
    if (c.fetch_runs > 1) skip_others();
    total = int(steps * (kPanelBytes / 64));
    const int64_t within = (c.panels_end - next) / 64;
    if (within < total) total = within < 0 ? 0 : int(within);
    share = (total + c.fetch_tiles - 1) / c.fetch_tiles;
    lines = int((share + steps - 1) / steps);
    begin = first_tile / c.fetch_tiles * c.fetch_tiles;
  }

  // After a thread's run of output blocks comes its run of the next convolution.
  void skip_others() {
    const int64_t run = int64_t(out_block) * c.fetch_runs / c.out_blocks;
    const int64_t beyond = next - (c.panels + (run + 1) * c.panel_bytes / c.fetch_runs);
    if (beyond >= 0) next = c.panels + c.panel_bytes + run * c.next_run + beyond;
  }

  INLINE Ahead ahead(int tile) const {
    const int64_t done = int64_t(tile - begin) * share, left = total - done;
    return {next + done * 64, lines, int(left < share ? left : share)};
  }

  const Convolve& c;
  int out_block, total, share, lines, begin;
  const uint8_t *panel, *next;
};

// Whole tiles with the usual epilogue, and nothing resumed or suspended.
template <int G, bool kResidual, bool kRelu>
void convolve_usual(const Strip& strip, int first_tile, int last_tile) {
  const Convolve& c = strip.c;
  const int first = first_block(c, strip.out_block);
  for (int tile = first_tile; tile < last_tile; ++tile) {
    __m512 sums[kPixels][2];
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) sums[p][0] = sums[p][1] = _mm512_setzero_ps();
    fetch_ends<kPixels, kResidual>(c, strip.out_block, tile * kPixels);
    add_taps<kPixels, G>(c, tile, first, strip.panel, strip.ahead(tile), sums);
    end_blocks<kPixels, kResidual, kRelu>(c, strip.out_block, tile * kPixels, sums);
  }
}

template <int G>
void convolve_any(const Strip& strip, int first_tile, int last_tile) {
  const Convolve& c = strip.c;
  each_tile<kPixels>(c, first_tile, last_tile, [&]<int P>(int tile) {
    convolve_tile<P, G>(c, strip.out_block, tile, strip.panel, strip.ahead(tile));
  });
}

template <int G>
void convolve_groups(const Convolve& c, int out_block, int first_tile, int last_tile) {
  const Strip strip(c, out_block, first_tile);
  if (!is_usual(c, out_block)) return convolve_any<G>(strip, first_tile, last_tile);
  const int whole = c.pixels / kPixels, end = last_tile < whole ? last_tile : whole;
  const bool residual = c.end.residual.present();
  if (residual && c.end.activation)
    convolve_usual<G, true, true>(strip, first_tile, end);
  else if (residual)
    convolve_usual<G, true, false>(strip, first_tile, end);
  else if (c.end.activation)
    convolve_usual<G, false, true>(strip, first_tile, end);
  else
    convolve_usual<G, false, false>(strip, first_tile, end);
  convolve_any<G>(strip, end, last_tile);
}

void convolve(const Convolve& c, int out_block, int first_tile, int last_tile) {
  // Few input channels leave the end of a block without weights.
  if (c.channels <= 16)
    convolve_groups<4>(c, out_block, first_tile, last_tile);
  else if (c.channels <= 24)
    convolve_groups<6>(c, out_block, first_tile, last_tile);
  else
    convolve_groups<kGroups>(c, out_block, first_tile, last_tile);
}

template <int P>
void convolve_depthwise_tile(const Convolve& c, int out_block, int tile) {
  __m512 sums[P][2];
  begin_tile<P>(c, out_block, tile * kPixels, sums);
  const uint8_t* panel = panels_of(c, out_block);
  for (int tap = 0; tap < c.taps; ++tap, panel += kPanelBytes) {
    const Taps taps = taps_of(c, tile, kPixels, tap);
    const Lanes weights = split(reinterpret_cast<const float*>(panel));
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const int64_t block = taps.blocks[p] + taps.offset + first_block(c, out_block);
      const __m512 step = _mm512_set1_ps(c.steps[block]);
      const Lanes mantissas = read_mantissas(c.mantissas + block * kBlock);
      // Both products are exact.
      sums[p][0] = _mm512_fmadd_ps(mantissas.even, _mm512_mul_ps(weights.even, step), sums[p][0]);
      sums[p][1] = _mm512_fmadd_ps(mantissas.odd, _mm512_mul_ps(weights.odd, step), sums[p][1]);
    }
  }
  finish_tile<P>(c, out_block, tile * kPixels, sums);
}

void convolve_depthwise(const Convolve& c, int out_block, int first_tile, int last_tile) {
  each_tile<kPixels>(c, first_tile, last_tile, [&]<int P>(int tile) { convolve_depthwise_tile<P>(c, out_block, tile); });
}

}  // namespace

namespace gatecast {
extern const Kernels kAvx512Vnni = {"avx512vnni", kFlip, kPixels, pack_panel, convolve, convolve_depthwise,
                                    pool<kFlip>, elementwise<kFlip>};
}
