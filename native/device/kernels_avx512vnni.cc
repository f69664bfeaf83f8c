// Kernels for AVX-512 with VNNI.
//
// Activations are stored as M + 128, unsigned. The integer sum of a block starts from the bits of the float
// 1.5 * 2**23 * 2**e, e the weights' exponent, less 128 * sum(Mw): then d lands in that float's mantissa field, and
// one subtraction, which is exact, leaves d * 2**e. Its product with the activations' step is exact too, so the fused
// multiply-add rounds once, as docs/spec/numerics.md §2 wants. |d| < 2**19 and |128 * sum(Mw)| < 2**20 stay within
// the 2**22 on either side of 1.5 * 2**23.
//
// Of a pixel's two accumulators one holds the even channels and the other the odd ones, so that two shifts and a
// narrowing store put the mantissas in order.
#include <immintrin.h>

#include "values.h"

namespace {

constexpr int kPixels = 7;
constexpr uint8_t kFlip = 0x80;
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
    const int32_t magic = (exponents[lane] + 23 - (bits - 2)) << 23 | 0x400000;
    const int32_t start = magic - 128 * sum;
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

// What to bring into the second-level cache meanwhile: some lines at each step.
struct Ahead {
  const uint8_t* next;
  int lines;

  INLINE void step() {
    for (int i = 0; i < lines; ++i, next += 64) _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
  }
};

template <int P, int G>
INLINE void add_taps(const Convolve& c, int tile, int first, const uint8_t* panel, Ahead ahead,
                     __m512 (&sums)[P][2]) {
  for (int tap = 0; tap < c.taps; ++tap) {
    const Taps taps = taps_of(c, tile, kPixels, tap);
    const int64_t base = taps.offset + first;
    const uint8_t* mantissas = c.mantissas + base * kBlock;
    const uint8_t* steps = reinterpret_cast<const uint8_t*>(c.steps + base);
    int64_t at[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) at[p] = 4 * int64_t(taps.blocks[p]);
    for (int i = 0; i < c.in_blocks; ++i, mantissas += kBlock, steps += 4, panel += kPanelBytes) {
      ahead.step();
      add_block<P, G>(mantissas, steps, at, panel, sums);
    }
  }
}

struct Lanes {
  __m512 even, odd;
};

INLINE Lanes split(const float* vector) {
  const __m512 low = _mm512_loadu_ps(vector), high = _mm512_loadu_ps(vector + 16);
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return {_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high)};
}

INLINE void join(float* vector, __m512 even, __m512 odd) {
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_ps(vector, _mm512_permutex2var_ps(even, low, odd));
  _mm512_storeu_ps(vector + 16, _mm512_permutex2var_ps(even, high, odd));
}

// Bytes are the low ones of `x`, and stand for M + 128.
INLINE __m512 mantissas_of(__m512i x) {
  const __m512i byte = _mm512_set1_epi32(0xff), magic = _mm512_set1_epi32(0x4b000000);  // 2**23
  return _mm512_sub_ps(_mm512_castsi512_ps(_mm512_ternarylogic_epi32(x, byte, magic, 0xea)),
                       _mm512_set1_ps(0x1p23f + 128));
}

INLINE void add_residual(const View& view, int64_t at, __m512 (&v)[2]) {
  if (view.vectors) {
    const Lanes other = split(view.vectors + at * kBlock);
    v[0] = _mm512_add_ps(v[0], other.even);
    v[1] = _mm512_add_ps(v[1], other.odd);
    return;
  }
  __m256i bytes;
  memcpy(&bytes, view.mantissas + at * kBlock, 32);
  const __m512i pairs = _mm512_cvtepu16_epi32(bytes);
  const __m512 step = _mm512_set1_ps(view.steps[at]);
  v[0] = _mm512_fmadd_ps(mantissas_of(pairs), step, v[0]);  // the product is exact
  v[1] = _mm512_fmadd_ps(mantissas_of(_mm512_srli_epi32(pairs, 8)), step, v[1]);
}

template <int P>
INLINE void activate(const Epilogue& end, __m512 (&sums)[P][2]) {
  const __m512 zero = _mm512_setzero_ps();
  if (end.activation == 1) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      for (__m512& v : sums[p]) v = _mm512_max_ps(v, zero);  // gives its second operand if both are zeros
  } else if (end.activation == 2) {
    const __m512 low = _mm512_set1_ps(end.low), high = _mm512_set1_ps(end.high);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      for (__m512& v : sums[p]) v = _mm512_min_ps(high, _mm512_max_ps(low, v));  // gives `v` where it equals a limit
  }
}

// Largest lane of each of 8 vectors of non-negative integers: of vector p in lane kPlace[p].
constexpr int kPlace[8] = {0, 8, 2, 10, 1, 9, 3, 11};

INLINE __m512i largest(const __m512i (&v)[8]) {
  __m512i r[4], q[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    r[i] = _mm512_max_epi32(_mm512_unpacklo_epi32(v[i], v[i + 4]), _mm512_unpackhi_epi32(v[i], v[i + 4]));
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    q[i] = _mm512_max_epi32(_mm512_unpacklo_epi64(r[i], r[i + 2]), _mm512_unpackhi_epi64(r[i], r[i + 2]));
  const __m512i z = _mm512_max_epi32(_mm512_shuffle_i32x4(q[0], q[1], 0x88), _mm512_shuffle_i32x4(q[0], q[1], 0xdd));
  return _mm512_max_epi32(z, _mm512_shuffle_i32x4(z, z, 0xb1));
}

template <int P>
INLINE void encode(const Convolve& c, int out_block, int pixel, const __m512 (&sums)[P][2]) {
  const View& out = c.end.out;
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i most[8];
#pragma GCC unroll 8
  for (int p = 0; p < 8; ++p) {
    const int q = p < P ? p : 0;
    most[p] = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(sums[q][0]), magnitude),
                               _mm512_and_si512(_mm512_castps_si512(sums[q][1]), magnitude));
  }
  const __m512i fields = _mm512_min_epi32(_mm512_set1_epi32(127 + 48),
                                          _mm512_max_epi32(_mm512_set1_epi32(127 - 48), _mm512_srli_epi32(largest(most), 23)));
  const int shift = out.bits - 2;
  alignas(64) float steps[16], inverses[16];
  _mm512_store_si512(steps, _mm512_slli_epi32(_mm512_sub_epi32(fields, _mm512_set1_epi32(shift)), 23));
  _mm512_store_si512(inverses, _mm512_slli_epi32(_mm512_sub_epi32(_mm512_set1_epi32(254 + shift), fields), 23));
  const __m512 limit = _mm512_set1_ps(float((1 << (out.bits - 1)) - 1));
  // Its unit is 1: adding it rounds to even, and leaves M + 128 in the lowest byte.
  const __m512 magic = _mm512_set1_ps(0x1.8p23f + 128);
  const __m512i low = _mm512_set1_epi32(0xff);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int64_t at = c.pixel_out[pixel + p] + out_block;
    const __m512 inverse = _mm512_set1_ps(inverses[kPlace[p]]);
    const __m512 even = _mm512_add_ps(_mm512_range_ps(_mm512_mul_ps(sums[p][0], inverse), limit, 2), magic);
    const __m512 odd = _mm512_add_ps(_mm512_range_ps(_mm512_mul_ps(sums[p][1], inverse), limit, 2), magic);
    const __m512i both = _mm512_ternarylogic_epi32(low, _mm512_castps_si512(even),
                                                   _mm512_slli_epi32(_mm512_castps_si512(odd), 8), 0xca);
    const __m256i bytes = _mm512_cvtepi32_epi16(both);
    memcpy(out.mantissas + at * kBlock, &bytes, 32);
    out.steps[at] = steps[kPlace[p]];
  }
}

template <int P>
INLINE void end_tile(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
  const Epilogue& end = c.end;
  if (end.bias) {
    const Lanes bias = split(end.bias + out_block * kLanes);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      sums[p][0] = _mm512_add_ps(sums[p][0], bias.even);
      sums[p][1] = _mm512_add_ps(sums[p][1], bias.odd);
    }
  }
  if (end.scale) {
    const Lanes scale = split(end.scale + out_block * kLanes), shift = split(end.shift + out_block * kLanes);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      sums[p][0] = _mm512_add_ps(_mm512_mul_ps(sums[p][0], scale.even), shift.even);
      sums[p][1] = _mm512_add_ps(_mm512_mul_ps(sums[p][1], scale.odd), shift.odd);
    }
  }
  if (end.residual.present()) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) add_residual(end.residual, c.pixel_residual[pixel + p] + out_block, sums[p]);
  }
  activate(end, sums);
  if (out_block == end.last_block) {
    const __mmask16 even = __mmask16((1u << (end.last_channels + 1) / 2) - 1);
    const __mmask16 odd = __mmask16((1u << end.last_channels / 2) - 1);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      sums[p][0] = _mm512_maskz_mov_ps(even, sums[p][0]);
      sums[p][1] = _mm512_maskz_mov_ps(odd, sums[p][1]);
    }
  }
  if (!end.out.vectors) {
    encode<P>(c, out_block, pixel, sums);
    return;
  }
  const __m512 zero = _mm512_setzero_ps();  // makes -0.0 into +0.0; a block has one zero
  for (int p = 0; p < P; ++p)
    join(end.out.vectors + (c.pixel_out[pixel + p] + out_block) * kBlock, _mm512_add_ps(sums[p][0], zero),
         _mm512_add_ps(sums[p][1], zero));
}

// Brings what the end of a tile reads and writes into the first-level cache while its sums are made.
template <int P>
INLINE void fetch_ends(const Convolve& c, int out_block, int pixel) {
  if (c.suspended || c.end.out.vectors) return;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int64_t at = c.pixel_out[pixel + p] + out_block;
    __builtin_prefetch(c.end.out.mantissas + at * kBlock, 1);
    __builtin_prefetch(c.end.out.steps + at, 1);
  }
  if (!c.end.residual.steps) return;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int64_t at = c.pixel_residual[pixel + p] + out_block;
    __builtin_prefetch(c.end.residual.mantissas + at * kBlock);
    __builtin_prefetch(c.end.residual.steps + at);
  }
}

template <int P, int G>
void convolve_tile(const Convolve& c, int out_block, int tile, const uint8_t* panel, Ahead ahead) {
  __m512 sums[P][2];
  const int pixel = tile * kPixels;
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) sums[p][0] = sums[p][1] = _mm512_setzero_ps();
  if (c.resumed) {
    for (int p = 0; p < P; ++p) {
      const Lanes begin = split(c.resumed + (int64_t(pixel + p) * c.out_blocks + out_block) * kLanes);
      sums[p][0] = begin.even, sums[p][1] = begin.odd;
    }
  }
  fetch_ends<P>(c, out_block, pixel);
  add_taps<P, G>(c, tile, first_block(c, out_block), panel, ahead, sums);
  if (!c.suspended) {
    end_tile<P>(c, out_block, pixel, sums);
    return;
  }
  for (int p = 0; p < P; ++p)
    join(c.suspended + (int64_t(pixel + p) * c.out_blocks + out_block) * kLanes, sums[p][0], sums[p][1]);
}

template <int G>
void convolve_groups(const Convolve& c, int out_block, int first_tile, int last_tile) {
  const int64_t steps = int64_t(c.taps) * c.in_blocks, bytes = steps * kPanelBytes;
  const uint8_t* panel = c.panels + out_block * bytes;
  // Each tile fetches its share of the panels that this thread will probably need next.
  const int ahead_block = out_block + c.ahead_blocks < c.out_blocks ? out_block + c.ahead_blocks : 0;
  const int lines = (kPanelBytes / 64 + last_tile - first_tile - 1) / (last_tile - first_tile);
  for (int tile = first_tile; tile < last_tile; ++tile) {
    int64_t offset = (tile - first_tile) * steps * lines * 64;
    const Ahead ahead{c.panels + ahead_block * bytes + offset, offset < bytes && c.ahead_blocks ? lines : 0};
    switch (c.pixels - tile * kPixels) {
      case 1: convolve_tile<1, G>(c, out_block, tile, panel, ahead); break;
      case 2: convolve_tile<2, G>(c, out_block, tile, panel, ahead); break;
      case 3: convolve_tile<3, G>(c, out_block, tile, panel, ahead); break;
      case 4: convolve_tile<4, G>(c, out_block, tile, panel, ahead); break;
      case 5: convolve_tile<5, G>(c, out_block, tile, panel, ahead); break;
      case 6: convolve_tile<6, G>(c, out_block, tile, panel, ahead); break;
      default: convolve_tile<7, G>(c, out_block, tile, panel, ahead);
    }
  }
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

}  // namespace

namespace gatecast {
extern const Kernels kAvx512Vnni = {"avx512vnni",   kFlip,       kPixels, pack_panel, convolve, pool<kFlip>,
                                    elementwise<kFlip>};
}
