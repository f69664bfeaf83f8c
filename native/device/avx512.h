// What kernels with AVX-512 share: the end of a tile of pixels, in registers. Included once by each file of kernels;
// everything has internal linkage.
//
// Of a pixel's two vectors one holds the even channels and the other the odd ones, so that 16-bit halves of both make
// the mantissas' order. Stored mantissas are M + 128.
#pragma once
#include <immintrin.h>

#include "values.h"

namespace {

constexpr uint8_t kFlip = 0x80;

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

INLINE __m512 floats(__m512i x) { return _mm512_castsi512_ps(x); }
INLINE __m512i bits(__m512 x) { return _mm512_castps_si512(x); }

// A byte M + 128 is put into the mantissa of a float whose unit it is; taking that float's own value leaves M.
INLINE Lanes read_mantissas(const uint8_t* from) {
  __m256i bytes;
  memcpy(&bytes, from, 32);
  const __m512i pairs = _mm512_cvtepu16_epi32(bytes);
  const __m512i even = _mm512_ternarylogic_epi32(pairs, _mm512_set1_epi32(0xff), _mm512_set1_epi32(0x4b000000), 0xea);
  const __m512i odd = _mm512_ternarylogic_epi32(pairs, _mm512_set1_epi32(0xff00), _mm512_set1_epi32(0x47000000), 0xea);
  return {_mm512_sub_ps(floats(even), _mm512_set1_ps(0x1p23f + 128)),
          _mm512_sub_ps(floats(odd), _mm512_set1_ps(0x1p15f + 128))};
}

INLINE void add_residual_block(const uint8_t* block, float block_step, __m512 (&v)[2]) {
  const Lanes mantissas = read_mantissas(block);
  const __m512 step = _mm512_set1_ps(block_step);
  // The products are exact.
  v[0] = _mm512_fmadd_ps(mantissas.even, step, v[0]);
  v[1] = _mm512_fmadd_ps(mantissas.odd, step, v[1]);
}

INLINE void add_vectors(const float* vectors, int64_t at, __m512 (&v)[2]) {
  const Lanes other = split(vectors + at * kBlock);
  v[0] = _mm512_add_ps(v[0], other.even);
  v[1] = _mm512_add_ps(v[1], other.odd);
}

template <int P>
INLINE void drop_negatives(__m512 (&sums)[P][2]) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
    for (__m512& v : sums[p]) v = _mm512_max_ps(v, _mm512_setzero_ps());  // gives its second operand if both are zeros
}

template <int P>
INLINE void activate(const Epilogue& end, __m512 (&sums)[P][2]) {
  if (end.activation == 1) {
    drop_negatives(sums);
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

// Writes two pixels whose mantissas are the lower halves of `words`, two for each 32 bits; limits are of M + 128.
struct Packer {
  uint8_t low, high;

  INLINE __m512i operator()(__m512i first, __m512i second) const {
    __m512i bytes = _mm512_packus_epi16(first, second);  // M = 128, a rounding up, becomes 127
    bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(char(low)));
    if (high < 255) bytes = _mm512_min_epu8(bytes, _mm512_set1_epi8(char(high)));
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes);
  }
};

// What belongs to the block of each of up to eight pixels, that of pixel p in lane kPlace[p], to be read one by one.
struct alignas(64) OfBlocks {
  explicit INLINE OfBlocks(__m512i all) {
    _mm512_store_si512(value, all);
    asm("" : "+m"(value));  // read from memory, not shuffled: the units for shuffles have enough to do
  }
  INLINE __m512 each(int p) const { return _mm512_set1_ps(value[kPlace[p]]); }

  float value[16];
};

// The powers of two that are the exponents of pixels' blocks, as bits of floats, of pixel p in lane kPlace[p]. Clamps
// values beyond all exponents to what can still be rounded. With `kRelu` a block without positive values has any
// exponent: it is zeros.
template <int P, bool kRelu = false>
INLINE __m512i find_exponents(__m512 (&sums)[P][2]) {
  __m512i most[8];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
    most[p] = bits(kRelu ? _mm512_max_ps(sums[p][0], sums[p][1])
                         : _mm512_range_ps(sums[p][0], sums[p][1], 0xb));  // larger magnitude
#pragma GCC unroll 8
  for (int p = P; p < 8; ++p) most[p] = most[0];
  const __m512i all = largest(most);
  if (__builtin_expect(_mm512_cmpge_epi32_mask(all, _mm512_set1_epi32((127 + 49) << 23)), 0)) {
    // Twice the range of the last exponent's step is enough to saturate.
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (__m512& v : sums[p]) v = _mm512_range_ps(v, _mm512_set1_ps(0x1p49f), 2);
  }
  const __m512i power = _mm512_and_si512(all, _mm512_set1_epi32(0x7f800000));
  return _mm512_min_epi32(_mm512_set1_epi32((127 + 48) << 23),
                          _mm512_max_epi32(_mm512_set1_epi32((127 - 48) << 23), power));
}

template <int P>
INLINE void write_blocks(const View& out, const int32_t* pixels, int out_block, const __m512 (&sums)[P][2],
                         __m512i exponents) {
  const int shift = out.bits - 2;
  const OfBlocks inverses(_mm512_sub_epi32(_mm512_set1_epi32((254 + shift) << 23), exponents));
  const OfBlocks steps(_mm512_sub_epi32(exponents, _mm512_set1_epi32(shift << 23)));
  // Its unit is 1: adding it rounds to even, and leaves M + 128 in the lower half. The product is exact.
  const __m512 magic = _mm512_set1_ps(0x1.8p23f + 128);
  __m512i words[P + 1];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const __m512 inverse = inverses.each(p);
    const __m512i even = bits(_mm512_fmadd_ps(sums[p][0], inverse, magic));
    const __m512i odd = bits(_mm512_fmadd_ps(sums[p][1], inverse, magic));
    words[p] = _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16));
  }
  words[P] = words[P - 1];
  const int limit = (1 << (out.bits - 1)) - 1;
  const Packer pack{uint8_t(128 - limit), uint8_t(128 + limit)};
#pragma GCC unroll 4
  for (int p = 0; p < P; p += 2) {
    const __m512i both = pack(words[p], words[p + 1]);
    const __m256i halves[2] = {_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64(both, 1)};
    for (int q = p; q < p + 2 && q < P; ++q) {
      const int64_t at = pixels[q] + out_block;
      memcpy(out.mantissas + at * kBlock, &halves[q - p], 32);
      out.steps[at] = steps.value[kPlace[q]];
    }
  }
}

// Ends that write blocks and nothing else; residuals are blocks too, or vectors.
struct BlockEnds {
  template <int P, bool kRelu>
  static INLINE void encode(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
    if (kRelu) drop_negatives(sums);
    const __m512i exponents = find_exponents<P>(sums);
    write_blocks<P>(c.end.out, c.pixel_out + pixel, out_block, sums, exponents);
  }

  template <int P>
  static INLINE void add_residuals(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const int64_t at = c.pixel_residual[pixel + p] + out_block;
      add_residual_block(c.end.residual.mantissas + at * kBlock, c.end.residual.steps[at], sums[p]);
    }
  }
};

// The usual epilogue: no scale, blocks in and out.
template <int P, bool kResidual, bool kRelu, class Ends = BlockEnds>
INLINE void end_blocks(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
  const Lanes bias = split(c.end.bias + out_block * kLanes);
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    sums[p][0] = _mm512_add_ps(sums[p][0], bias.even);
    sums[p][1] = _mm512_add_ps(sums[p][1], bias.odd);
  }
  if (kResidual) Ends::template add_residuals<P>(c, out_block, pixel, sums);
  Ends::template encode<P, kRelu>(c, out_block, pixel, sums);
}

template <int P, class Ends = BlockEnds>
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
  if (end.residual.vectors) {
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) add_vectors(end.residual.vectors, c.pixel_residual[pixel + p] + out_block, sums[p]);
  } else if (end.residual.present()) {
    Ends::template add_residuals<P>(c, out_block, pixel, sums);
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
  if (!end.out.vectors) return Ends::template encode<P, false>(c, out_block, pixel, sums);
  const __m512 zero = _mm512_setzero_ps();  // makes -0.0 into +0.0; a block has one zero
  for (int p = 0; p < P; ++p)
    join(end.out.vectors + (c.pixel_out[pixel + p] + out_block) * kBlock, _mm512_add_ps(sums[p][0], zero),
         _mm512_add_ps(sums[p][1], zero));
}

// Brings what the end of a tile reads and writes into the first-level cache while its sums are made.
template <int P, bool kResidual>
INLINE void fetch_ends(const Convolve& c, int out_block, int pixel) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const int64_t at = c.pixel_out[pixel + p] + out_block;
    __builtin_prefetch(c.end.out.mantissas + at * kBlock, 1);
    __builtin_prefetch(c.end.out.steps + at, 1);
    if (!kResidual) continue;
    const int64_t from = c.pixel_residual[pixel + p] + out_block;
    __builtin_prefetch(c.end.residual.mantissas + from * kBlock);
    __builtin_prefetch(c.end.residual.steps + from);
  }
}

}  // namespace
