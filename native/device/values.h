// Blocks as 32 float32 values, and the end of every instruction, for any instruction set. Included once by each file
// of kernels; everything has internal linkage, so that each file keeps its own machine code.
// Ref: docs/spec/numerics.md §1 and §3.
#pragma once
#include <string.h>

#include "kernels.h"

namespace {

using namespace gatecast;

// As wide as the registers: wider ones are compiled to detours through memory.
#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
constexpr int kParts = kBlock / kWidth;

typedef float Floats __attribute__((vector_size(4 * kWidth)));
typedef int32_t Ints __attribute__((vector_size(4 * kWidth)));
typedef int8_t Bytes __attribute__((vector_size(kWidth)));

#define INLINE inline __attribute__((always_inline))

struct Values {
  Floats part[kParts];
};

INLINE Floats broadcast(float x) { return x - Floats{}; }

INLINE Floats load_floats(const float* from) {
  Floats x;
  memcpy(&x, from, sizeof x);
  return x;
}

// g++ 12 widens bytes that come from memory one by one.
INLINE void in_register(Bytes& x) {
#if defined(__x86_64__) && !defined(__clang__)
  asm("" : "+x"(x));
#else
  (void)x;
#endif
}

INLINE float power_of_two(int exponent) {
  const int32_t bits = (exponent + 127) << 23;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

INLINE Values read_vector(const float* from) {
  Values v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <uint8_t flip>
INLINE Values decode(const uint8_t* mantissas, float step) {
  Values v;
#pragma GCC unroll 8
  for (int h = 0; h < kParts; ++h) {
    Bytes m;
    memcpy(&m, mantissas + kWidth * h, kWidth);
    if (flip)
      m ^= int8_t(flip);
    else
      in_register(m);
    v.part[h] = __builtin_convertvector(__builtin_convertvector(m, Ints), Floats) * step;
  }
  return v;
}

template <uint8_t flip>
INLINE Values read(const View& view, int64_t at) {
  if (view.vectors) return read_vector(view.vectors + at * kBlock);
  return decode<flip>(view.mantissas + at * kBlock, view.steps[at]);
}

INLINE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
INLINE Ints larger(Ints a, Ints b) { return a > b ? a : b; }
INLINE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }

// Largest lane.
INLINE int32_t largest(Ints x) {
#if defined(__AVX512F__)
  x = larger(x, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  x = larger(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15));
  x = larger(x, __builtin_shufflevector(x, x, 2, 3, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  x = larger(x, __builtin_shufflevector(x, x, 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
#elif defined(__AVX2__)
  x = larger(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3));
  x = larger(x, __builtin_shufflevector(x, x, 2, 3, 0, 1, 4, 5, 6, 7));
  x = larger(x, __builtin_shufflevector(x, x, 1, 0, 2, 3, 4, 5, 6, 7));
#else
  x = larger(x, __builtin_shufflevector(x, x, 2, 3, 0, 1));
  x = larger(x, __builtin_shufflevector(x, x, 1, 0, 2, 3));
#endif
  return x[0];
}

// Field of the exponent of the largest magnitude, in the range of E.
INLINE int exponent_field(const Values& v) {
  const Ints sign = Ints{} + 0x7fffffff;
  Ints most{};
  for (int h = 0; h < kParts; ++h) most = larger(most, (Ints)v.part[h] & sign);
  const int field = largest(most) >> 23;
  return field < 127 - 48 ? 127 - 48 : field > 127 + 48 ? 127 + 48 : field;
}

template <uint8_t flip>
INLINE void encode(const Values& v, int bits, uint8_t* mantissas, float* step) {
  const int field = exponent_field(v);
  *step = power_of_two(field - 127 - (bits - 2));
  const float inverse = power_of_two(bits - 2 - (field - 127));
  const Floats limit = broadcast(float((1 << (bits - 1)) - 1)), magic = broadcast(0x1.8p23f);
  for (int h = 0; h < kParts; ++h) {
    // Clamping first is the same, the limits being integers; adding and taking the magic number rounds to even.
    const Floats scaled = larger(smaller(v.part[h] * inverse, limit), -limit);
    Bytes m = __builtin_convertvector((Ints)(scaled + magic) - (Ints)magic, Bytes);
    if (flip) m ^= int8_t(flip);
    memcpy(mantissas + kWidth * h, &m, kWidth);
  }
}

INLINE Floats clip(Floats x, float low, float high) {
  const Floats lowest = broadcast(low), highest = broadcast(high);
  return x < lowest ? lowest : (x > highest ? highest : x);
}

INLINE Floats activate(Floats x, int activation, float low, float high) {
  const Floats zero{};
  switch (activation) {
    case 1: return x > zero ? x : zero;
    case 2: return clip(x, low, high);
    case 3: return larger(x, low * x);
    case 4: return clip(low * x + high, 0, 1);
    case 5: return x * clip(low * x + high, 0, 1);
    default: return x;
  }
}

template <uint8_t flip>
INLINE void write(const View& out, int64_t at, const Values& v) {
  if (out.vectors)
    memcpy(out.vectors + at * kBlock, &v, sizeof v);
  else
    encode<flip>(v, out.bits, out.mantissas + at * kBlock, out.steps + at);
}

template <uint8_t flip>
INLINE void finish(const Epilogue& end, Values v, int block, int64_t residual, int64_t out) {
  if (end.bias) {
    const Values bias = read_vector(end.bias + block * kLanes);
    for (int h = 0; h < kParts; ++h) v.part[h] += bias.part[h];
  }
  if (end.scale) {
    const Values scale = read_vector(end.scale + block * kLanes), shift = read_vector(end.shift + block * kLanes);
    for (int h = 0; h < kParts; ++h) v.part[h] = v.part[h] * scale.part[h] + shift.part[h];
  }
  if (end.residual.present()) {
    const Values other = read<flip>(end.residual, residual + block);
    for (int h = 0; h < kParts; ++h) v.part[h] += other.part[h];
  }
  for (int h = 0; h < kParts; ++h) v.part[h] = activate(v.part[h], end.activation, end.low, end.high) + 0.0f;
  if (block == end.last_block) {
    for (int lane = end.last_channels; lane < kLanes; ++lane) v.part[lane / kWidth][lane % kWidth] = 0;
  }
  write<flip>(end.out, out + block, v);
}

// Rows and columns of a pool's window that are inside the map.
struct PoolWindow {
  INLINE PoolWindow(const Pool& p, int oy, int ox)
      : y(p.in_y + oy * p.stride_y), x(p.in_x + ox * p.stride_x), y_end(y + p.kernel_rows),
        x_end(x + p.kernel_columns) {
    if (y < 0) y = 0;
    if (x < 0) x = 0;
    if (y_end > p.in_rows) y_end = p.in_rows;
    if (x_end > p.in_columns) x_end = p.in_columns;
  }

  int y, x, y_end, x_end;
};

template <uint8_t flip>
void pool(const Pool& p, int first_row, int last_row) {
  const Floats none = broadcast(p.average ? 0.0f : -__builtin_inff());
  for (int oy = first_row; oy < last_row; ++oy) {
    for (int ox = 0; ox < p.columns; ++ox) {
      const PoolWindow w(p, oy, ox);
      for (int block = 0; block < p.blocks; ++block) {
        Values v;
        for (int h = 0; h < kParts; ++h) v.part[h] = none;
        for (int y = w.y; y < w.y_end; ++y) {
          for (int x = w.x; x < w.x_end; ++x) {
            const Values tap = read<flip>(p.in, p.in.at(y, x) + block);
            for (int h = 0; h < kParts; ++h)
              v.part[h] = p.average ? v.part[h] + tap.part[h] : larger(v.part[h], tap.part[h]);
          }
        }
        if (p.average)
          for (int h = 0; h < kParts; ++h) v.part[h] *= p.factor;
        finish<flip>(p.end, v, block, 0, p.end.out.at(oy, ox));
      }
    }
  }
}

INLINE Floats combine(int operation, Floats a, Floats b) {
  switch (operation) {
    case 1: return a + b;
    case 2: return a - b;
    case 3: return a * b;
    case 4: return larger(a, b);
    case 5: return smaller(a, b);
    default: return a;
  }
}

template <uint8_t flip>
void elementwise(const Elementwise& e, int first_row, int last_row) {
  for (int y = first_row; y < last_row; ++y) {
    for (int x = 0; x < e.columns; ++x) {
      for (int block = 0; block < e.blocks; ++block) {
        Values v = read<flip>(e.a, e.a.at(y / e.repeat_y, x / e.repeat_x) + block);
        if (e.operation) {
          const Values other = read<flip>(e.b, e.b.at(y, x) + block);
          for (int h = 0; h < kParts; ++h) v.part[h] = combine(e.operation, v.part[h], other.part[h]);
        }
        finish<flip>(e.end, v, block, 0, e.end.out.at(y, x));
      }
    }
  }
}

// Blocks that the pixels of a tile read at one tap: its own list near the map's border, else an offset from the first.
struct Taps {
  const int32_t* blocks;
  int64_t offset;
};

INLINE Taps taps_of(const Convolve& c, int tile, int tile_pixels, int tap) {
  const int32_t list = c.tile_blocks[tile];
  if (list < 0) return {c.pixel_in + tile * tile_pixels, c.tap_offsets[tap]};
  return {c.tap_blocks + list + tap * tile_pixels, 0};
}

// The bits of 1.5 * 2**23 weight steps as a float, whose unit the step is: integers added to them are its multiples.
inline int32_t start_of_sums(uint8_t exponent, int bits) { return (exponent + 23 - (bits - 2)) << 23 | 0x400000; }

// [group of 4 channels][lane][4], then the steps of the lanes.
inline void pack_lanes(const int8_t* mantissas, const uint8_t* exponents, int bits, uint8_t* panel) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kBlock; ++i) panel[(i / 4 * kLanes + lane) * 4 + i % 4] = uint8_t(mantissas[lane * kBlock + i]);
    const float step = power_of_two(exponents[lane] - 127 - (bits - 2));
    memcpy(panel + kLanes * kBlock + 4 * lane, &step, 4);
  }
}

INLINE const uint8_t* panels_of(const Convolve& c, int out_block) {
  return c.panels + int64_t(out_block) * c.taps * c.in_blocks * kPanelBytes;
}

INLINE int first_block(const Convolve& c, int out_block) {
  return c.group_blocks ? out_block / c.group_blocks * c.in_blocks : 0;
}

// Whether a convolution ends as most do: bias, residual of blocks, ReLU or nothing, blocks.
INLINE bool is_usual(const Convolve& c, int out_block) {
  const Epilogue& end = c.end;
  return !c.resumed && !c.suspended && end.bias && !end.scale && end.activation <= 1 && out_block != end.last_block && !end.residual.vectors &&
         !end.out.vectors;
}

// Calls `work.operator()<P>(tile)` for a tile of P pixels: kPixels, or those that are left for the last one.
template <int kPixels, int P = kPixels, class Work>
INLINE void with_pixels(const Convolve& c, int tile, const Work& work) {
  if constexpr (P > 1)
    if (c.pixels - tile * kPixels < P) return with_pixels<kPixels, P - 1>(c, tile, work);
  work.template operator()<P>(tile);
}

template <int kPixels, class Work>
INLINE void each_tile(const Convolve& c, int first_tile, int last_tile, const Work& work) {
  for (int tile = first_tile; tile < last_tile; ++tile) with_pixels<kPixels>(c, tile, work);
}

// Tiles of four pixels; `Tile::sum<P>` makes the sums of P pixels and ends them.
template <class Tile>
void convolve_by_four(const Convolve& c, int out_block, int first_tile, int last_tile) {
  each_tile<4>(c, first_tile, last_tile, [&]<int P>(int tile) { Tile::template sum<P>(c, out_block, tile); });
}

// The end of one pixel whose sums lie in memory in the order of the channels.
template <uint8_t flip>
INLINE void end_pixel(const Convolve& c, int out_block, int pixel, const float* sums) {
  if (c.suspended)
    memcpy(c.suspended + (int64_t(pixel) * c.out_blocks + out_block) * kLanes, sums, sizeof(Values));
  else
    finish<flip>(c.end, read_vector(sums), out_block, c.pixel_residual[pixel], c.pixel_out[pixel]);
}

INLINE void begin_pixel(const Convolve& c, int out_block, int pixel, float* sums) {
  if (c.resumed)
    memcpy(sums, c.resumed + (int64_t(pixel) * c.out_blocks + out_block) * kLanes, sizeof(Values));
  else
    memset(sums, 0, sizeof(Values));
}

// A product of decoded values is exact, so that adding it rounds as a block's sum of products does.
template <uint8_t flip>
INLINE void add_decoded(const uint8_t* mantissas, float step, const float* weights, Floats (&sums)[kParts]) {
  const Values a = decode<flip>(mantissas, step);
#pragma GCC unroll 8
  for (int h = 0; h < kParts; ++h) sums[h] += a.part[h] * load_floats(weights + kWidth * h);
}

// `end` ends a pixel whose sums lie in memory.
template <uint8_t flip, int kPixels, void (*end)(const Convolve&, int out_block, int pixel, const float* sums)>
void convolve_depthwise(const Convolve& c, int out_block, int first_tile, int last_tile) {
  const uint8_t* panels = panels_of(c, out_block);
  for (int tile = first_tile; tile < last_tile; ++tile) {
    for (int p = 0; p < kPixels && tile * kPixels + p < c.pixels; ++p) {
      alignas(64) float values[kLanes];
      begin_pixel(c, out_block, tile * kPixels + p, values);
      Floats sums[kParts];
      memcpy(&sums, values, sizeof sums);
      for (int tap = 0; tap < c.taps; ++tap) {
        const Taps taps = taps_of(c, tile, kPixels, tap);
        const int64_t block = taps.blocks[p] + taps.offset + first_block(c, out_block);
        add_decoded<flip>(c.mantissas + block * kBlock, c.steps[block],
                          reinterpret_cast<const float*>(panels + tap * kPanelBytes), sums);
      }
      memcpy(values, &sums, sizeof sums);
      end(c, out_block, tile * kPixels + p, values);
    }
  }
}

}  // namespace
