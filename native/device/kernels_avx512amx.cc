// Convolutions by tiles, for processors with AMX for bfloat16; all else is done by the kernels for AVX-512 VNNI, whose
// panels these read.
//
// A mantissa has at most 7 bits of magnitude, so a value of a block is a bfloat16, exactly. The products of a block and
// all their sums are integers below 2**19 times one power of two, so a tile register that begins with zeros holds the
// block's sum exactly, already scaled, and adding it to the sum so far rounds once, as docs/spec/numerics.md §2 wants.
// Nothing is ever subnormal, which AMX would take for zero.
#include <stddef.h>

#include "avx512.h"
#include "tile_settings.h"
#include "tiling.h"

namespace {

constexpr int kLine = 64, kPanelTiles = 2 * 16 * kLine;  // bytes: a panel in bfloat16, even lanes, then odd ones
constexpr int kSumFloats = 2 * kTileRows * 16;           // sums of a tile: of even lanes, then of odd ones
constexpr int kTiles = 7;                                // registers: four of products, three of factors
constexpr int kMostSteps = 9;                            // whose panels, widened, stay in the first-level cache
constexpr int kEndedTogether = 2;                        // tiles, whose sums stay there
constexpr int kFewTiles = 9;                             // fewer fetch five lines at a step, else two: a panel has 18

// Of each value the upper half of a float, which is a bfloat16, without any loss: the lower halves are zeros.
INLINE __m512i halves(__m512 even, __m512 odd) { return _mm512_or_si512(_mm512_srli_epi32(bits(even), 16), bits(odd)); }

// Bytes M + 128 in bits 0 to 7 and 8 to 15 of each lane, put into the mantissas of floats whose unit they are. Taking
// those floats' own values leaves M * step; nothing is rounded, for each result has at most 8 bits.
struct Scale {
  explicit INLINE Scale(__m512 step)
      : step(step), even(_mm512_mul_ps(step, _mm512_set1_ps(0x1p23f + 128))),
        odd(_mm512_mul_ps(step, _mm512_set1_ps(0x1p15f + 128))) {}

  // `signs`: what to xor the bytes with first.
  INLINE __m512i operator()(__m512i bytes, int signs) const {
    const __m512i low = _mm512_set1_epi32(0x4b000000 | signs), high = _mm512_set1_epi32(0x47000000 | signs << 8);
    const __m512i first = _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi32(0xff), low, 0x6a);
    const __m512i second = _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi32(0xff00), high, 0x6a);
    return halves(_mm512_fmsub_ps(floats(first), step, even), _mm512_fmsub_ps(floats(second), step, odd));
  }

  __m512 step, even, odd;
};

// A block as a line of a plane. `signs`: what to xor its bytes with, so that they are M + 128.
INLINE __m512i spread_block(const uint8_t* mantissas, float step, int signs) {
  __m256i bytes;
  memcpy(&bytes, mantissas, 32);
  return Scale(_mm512_set1_ps(step))(_mm512_cvtepu16_epi32(bytes), signs);
}

INLINE void clear(uint8_t* to, int64_t positions) { memset(to, 0, size_t(positions) * kPositionBytes); }

// Rows of one phase's planes of N blocks, side by side in the map.
template <int N>
void spread_blocks(const Convolve& c, const Tiling& t, const Phase& phase, int64_t base, int rows, int block,
                   uint8_t* planes) {
  const int left = phase.x < 0 ? (-phase.x + t.stride_x - 1) / t.stride_x : 0;
  const int inside = t.columns <= phase.x ? 0 : (t.columns - phase.x + t.stride_x - 1) / t.stride_x;
  const int right = inside < t.width ? inside : t.width;
  const int64_t step = t.stride_x * t.pixel;
  uint8_t* to = planes + block * t.plane_bytes;
  for (int row = 0; row < rows; ++row, to += t.width * kPositionBytes) {
    const int64_t y = phase.y + (base + row) * t.stride_y;
    const bool empty = y < 0 || y >= t.rows || left >= right;
    for (int n = 0; n < N; ++n) {
      clear(to + n * t.plane_bytes, empty ? t.width : left);
      if (!empty) clear(to + n * t.plane_bytes + right * kPositionBytes, t.width - right);
    }
    if (empty) continue;
    const int64_t from = t.address + y * t.row + (phase.x + int64_t(left) * t.stride_x) * t.pixel + block;
    const uint8_t* mantissas = c.mantissas + from * kBlock;
    const float* steps = c.steps + from;
    for (int column = left; column < right; ++column, mantissas += step * kBlock, steps += step)
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n)
        _mm512_store_si512(to + n * t.plane_bytes + column * kPositionBytes,
                           spread_block(mantissas + n * kBlock, steps[n], 0));
  }
  for (int n = 0; n < N; ++n) clear(to + n * t.plane_bytes, t.overhang);
}

void spread_phase(const Convolve& c, const Tiling& t, const Phase& phase, int64_t base, int rows, int first,
                  int last, uint8_t* planes) {
  int block = first;
  for (; block + 4 <= last; block += 4) spread_blocks<4>(c, t, phase, base, rows, block, planes);
  for (; block < last; ++block) spread_blocks<1>(c, t, phase, base, rows, block, planes);
}

// A panel in the order of tile registers: [even lanes, odd lanes][pair of channels][lane][2].
INLINE void expand_panel(const uint8_t* panel, uint8_t* to) {
  for (int n = 0; n < 2; ++n, to += 16 * kLine) {
    const __m512i start = _mm512_loadu_si512(panel + kLanes * kBlock + n * kLine);
    const __m512i field = _mm512_and_si512(start, _mm512_set1_epi32(0x7f800000));
    const Scale scale(floats(_mm512_sub_epi32(field, _mm512_set1_epi32(23 << 23))));
#pragma GCC unroll 8
    for (int group = 0; group < kBlock / 4; ++group) {
      const __m512i four = _mm512_loadu_si512(panel + group * 128 + n * kLine);
      _mm_prefetch(reinterpret_cast<const char*>(panel + kPanelBytes + group * 128 + n * kLine), _MM_HINT_T0);
      _mm512_store_si512(to + 2 * group * kLine, scale(four, 0x80));
      _mm512_store_si512(to + (2 * group + 1) * kLine, scale(_mm512_srli_epi32(four, 16), 0x80));
    }
  }
}

// What the loop below works on. It holds the products of two blocks, and what is needed once for each tile.
struct alignas(64) Work {
  float rows[2][512];        // of an even and an odd step: even lanes of all positions, then odd lanes
  const int64_t* places;     // of the tiles in the map, in bytes
  const uint8_t* map;
  const int64_t* distances;  // of this chunk's steps
  const uint8_t* panels;
  float* sums;               // of the first tile; those of the others follow
  int64_t steps, tiles;
  const uint8_t *ahead, *ahead_end;  // panels that come later
  int64_t first;             // whether sums begin from zeros
  bool few;                  // tiles share a panel, so each step fetches more
};

// Multiplies, stores and adds, by hand: the sums of a tile fill all 32 registers. Products of a step are stored while
// those of the next are made, and added one step later, so the first two steps of a tile end the sums of the one
// before. Even steps use tiles 0 and 1, odd ones 2 and 3.
#define FIELD(name) "%c[" name "](%[work])"
#define LOAD                                     \
  "movq (%[distance]), %[at]\n"                  \
  "addq $8, %[distance]\n"                       \
  "addq %[map], %[at]\n"                         \
  "tileloadd (%[at],%[line],1), %%tmm4\n"        \
  "tileloadd (%[panel],%[line],1), %%tmm5\n"     \
  "tileloadd 1024(%[panel],%[line],1), %%tmm6\n" \
  "addq $2048, %[panel]\n"
#define FETCH_2                \
  "prefetcht1 (%[ahead])\n"    \
  "prefetcht1 64(%[ahead])\n"  \
  "subq $-128, %[ahead]\n"
#define FETCH_5                \
  "prefetcht1 (%[ahead])\n"    \
  "prefetcht1 64(%[ahead])\n"  \
  "prefetcht1 128(%[ahead])\n" \
  "prefetcht1 192(%[ahead])\n" \
  "prefetcht1 256(%[ahead])\n" \
  "addq $320, %[ahead]\n"
#define MULTIPLY(even, odd)                   \
  "tilezero %%tmm" even "\n"                  \
  "tdpbf16ps %%tmm5, %%tmm4, %%tmm" even "\n" \
  "tilezero %%tmm" odd "\n"                   \
  "tdpbf16ps %%tmm6, %%tmm4, %%tmm" odd "\n"
#define STORE(even, odd, rows)                                 \
  "tilestored %%tmm" even ", " rows "(%[work],%[line],1)\n"    \
  "tilestored %%tmm" odd ", " rows "+1024(%[work],%[line],1)\n"
#define EACH_SUM(DO)                                                                                           \
  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15) DO(16) \
  DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23) DO(24) DO(25) DO(26) DO(27) DO(28) DO(29) DO(30) DO(31)
#define ADD_EVEN_ROW(n) "vaddps 64*" #n "(%[work]), %%zmm" #n ", %%zmm" #n "\n"
#define ADD_ODD_ROW(n) "vaddps 2048+64*" #n "(%[work]), %%zmm" #n ", %%zmm" #n "\n"
#define CLEAR_SUM(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n"
#define LOAD_SUM(n) "vmovaps 64*" #n "(%[sums]), %%zmm" #n "\n"
#define STORE_SUM(n) "vmovaps %%zmm" #n ", 64*" #n "(%[sums])\n"
#define MAKE_EVEN LOAD MULTIPLY("0", "1")
#define MAKE_ODD LOAD MULTIPLY("2", "3")
#define STORE_EVEN STORE("0", "1", "0")
#define STORE_ODD STORE("2", "3", "2048")
#define ADD_EVEN EACH_SUM(ADD_EVEN_ROW)
#define ADD_ODD EACH_SUM(ADD_ODD_ROW)
#define EVEN_STEP(FETCH) FETCH MAKE_EVEN STORE_ODD ADD_EVEN
#define ODD_STEP(FETCH) FETCH MAKE_ODD STORE_EVEN ADD_ODD
// What begins and goes on with a tile's sums. Labels are numbers, so each use needs some of its own.
#define BEGIN_SUMS(label)                                              \
  "cmpq $0, " FIELD("first") "\n"                                      \
  "jne " label "0f\n" EACH_SUM(LOAD_SUM)                               \
  "jmp " label "1f\n" label "0:\n" EACH_SUM(CLEAR_SUM) label "1:\n"
#define NEXT_TILE(label)                       \
  "movq " FIELD("places") ", %[at]\n"          \
  "addq $8, " FIELD("places") "\n"             \
  "movq (%[at]), %[map]\n"                     \
  "addq " FIELD("map_field") ", %[map]\n"      \
  "movq " FIELD("distances") ", %[distance]\n" \
  "movq " FIELD("panels") ", %[panel]\n"       \
  "movq " FIELD("steps") ", %[left]\n"         \
  "subq $2, %[left]\n"                         \
  "cmpq " FIELD("ahead_end") ", %[ahead]\n"    \
  "jb " label "f\n"                            \
  "movq " FIELD("ahead_end") ", %[ahead]\n"    \
  label ":\n"
#define END_SUMS EACH_SUM(STORE_SUM) "addq $2048, %[sums]\n"

// Adds at least two steps to the sums of each of some tiles.
#define ADD_STEPS(FETCH)                                                                                              \
  asm volatile(                                                                                                       \
      NEXT_TILE("10") FETCH MAKE_EVEN FETCH MAKE_ODD STORE_EVEN BEGIN_SUMS("2")                                       \
      ".p2align 5\n"                                                                                                  \
      "1:\n"                                                                                                          \
      "subq $1, %[left]\n"                                                                                            \
      "jb 3f\n" EVEN_STEP(FETCH)                                                                                      \
      "2:\n"                                                                                                          \
      "subq $1, %[left]\n"                                                                                            \
      "jb 4f\n" ODD_STEP(FETCH)                                                                                       \
      "jmp 1b\n"                                                                                                      \
      "3:\n"                                                                                                          \
      "decq " FIELD("tiles") "\n"                                                                                     \
      "jz 5f\n" NEXT_TILE("10") EVEN_STEP(FETCH) ODD_STEP(FETCH) END_SUMS BEGIN_SUMS("3")                             \
      "jmp 1b\n"                                                                                                      \
      "4:\n"                                                                                                          \
      "decq " FIELD("tiles") "\n"                                                                                     \
      "jz 6f\n" NEXT_TILE("10") ODD_STEP(FETCH) EVEN_STEP(FETCH) END_SUMS BEGIN_SUMS("4")                             \
      "jmp 2b\n"                                                                                                      \
      "5:\n" STORE_ODD ADD_EVEN ADD_ODD                                                                               \
      "jmp 7f\n"                                                                                                      \
      "6:\n" STORE_EVEN ADD_ODD ADD_EVEN                                                                              \
      "7:\n" END_SUMS                                                                                                 \
      : [at] "=&r"(at), [distance] "=&r"(distance), [panel] "=&r"(panel), [map] "=&r"(map), [left] "=&r"(left),       \
        [ahead] "+&r"(ahead), [sums] "+&r"(sums)                                                                      \
      : [work] "r"(&work), [line] "r"(int64_t(kLine)), [places] "i"(offsetof(Work, places)),                          \
        [map_field] "i"(offsetof(Work, map)), [distances] "i"(offsetof(Work, distances)),                             \
        [panels] "i"(offsetof(Work, panels)), [steps] "i"(offsetof(Work, steps)), [tiles] "i"(offsetof(Work, tiles)), \
        [ahead_end] "i"(offsetof(Work, ahead_end)), [first] "i"(offsetof(Work, first))                                \
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",      \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",   \
        "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31")

INLINE void add_steps(Work& work) {
  int64_t at, distance, panel, map, left;
  const uint8_t* ahead = work.ahead;
  float* sums = work.sums;
  if (!work.few)
    ADD_STEPS(FETCH_2);
  else
    ADD_STEPS(FETCH_5);
  work.ahead = ahead, work.sums = sums;
}

// Whether pixels of a tile are rows of it that follow one another.
template <int P>
INLINE bool in_rows(const Tile& tile, int first) { return tile.rows[first + P - 1] - tile.rows[first] == P - 1; }

// Sums of pixels of a tile, by the number of each among the tile's.
template <int P, bool kInRows = false>
INLINE void load_sums(const Tile& tile, int first, const float* from, __m512 (&sums)[P][2]) {
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const float* row = from + (kInRows ? tile.rows[first] + p : tile.rows[first + p]) * 16;
    sums[p][0] = _mm512_load_ps(row), sums[p][1] = _mm512_load_ps(row + kTileRows * 16);
  }
}

void begin_tile(const Convolve& c, int out_block, const Tile& tile, float* sums) {
  for (int p = 0; p < tile.count; ++p) {
    const Lanes lanes = split(c.resumed + (int64_t(tile.pixel + p) * c.out_blocks + out_block) * kLanes);
    _mm512_store_ps(sums + tile.rows[p] * 16, lanes.even);
    _mm512_store_ps(sums + (tile.rows[p] + kTileRows) * 16, lanes.odd);
  }
}

void suspend_tile(const Convolve& c, int out_block, const Tile& tile, const float* sums) {
  for (int p = 0; p < tile.count; ++p) {
    __m512 one[1][2];
    load_sums<1>(tile, p, sums, one);
    join(c.suspended + (int64_t(tile.pixel + p) * c.out_blocks + out_block) * kLanes, one[0][0], one[0][1]);
  }
}

constexpr int kGroup = 8;  // pixels that are ended together

INLINE __m512 even_channels(__m512i line) { return floats(_mm512_slli_epi32(line, 16)); }
INLINE __m512 odd_channels(__m512i line) { return floats(_mm512_and_si512(line, _mm512_set1_epi32(int(0xffff0000)))); }

INLINE __m512i load_line(const SpreadMap& map, int64_t block, int64_t pixel) {
  return _mm512_load_si512(map.lines + block * map.plane_bytes + int64_t(map.positions[pixel]) * kPositionBytes);
}

// Whether pixels have positions that follow one another.
template <int P>
INLINE bool follow(const int32_t* positions) {
  const __m512i all = _mm512_maskz_loadu_epi32(__mmask16((1 << P) - 1), positions);
  const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i expected = _mm512_add_epi32(_mm512_set1_epi32(positions[0]), numbers);
  return positions[0] >= 0 && !_mm512_mask_cmpneq_epi32_mask(__mmask16((1 << P) - 1), all, expected);
}

// A float whose unit is a block's step, added and taken off, rounds to even. What a block cannot hold is clamped as
// the bits of bfloat16, which are in order.
template <int P, bool kRelu>
INLINE void write_lines(const Feeds& feeds, int mantissa_bits, int out_block, int pixel, const __m512 (&sums)[P][2],
                        __m512i exponents) {
  const int shift = mantissa_bits - 2;
  // 1.5 * 2**23 times the step, and the largest value twice: as a float it has zeros below.
  const __m512i units = _mm512_add_epi32(exponents, _mm512_set1_epi32((23 - shift) << 23));
  const __m512i largest = _mm512_sub_epi32(exponents, _mm512_set1_epi32((1 << (23 - shift)) - (1 << 23)));
  const OfBlocks magics(_mm512_or_si512(units, _mm512_set1_epi32(0x400000)));
  const OfBlocks limits(_mm512_or_si512(largest, _mm512_srli_epi32(largest, 16)));
  __m512i lines[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    const __m512 magic = magics.each(p);
    const __m512i most = bits(limits.each(p));
    const __m512i even = bits(_mm512_sub_ps(_mm512_add_ps(sums[p][0], magic), magic));
    const __m512i odd = bits(_mm512_sub_ps(_mm512_add_ps(sums[p][1], magic), magic));
    // A negative value that ReLU drops may be no bfloat16; its sign tells.
    const __m512i line =
        _mm512_min_epi16(_mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(even, 16), odd), most);
    lines[p] = kRelu ? _mm512_max_epi16(line, _mm512_setzero_si512())
                     : _mm512_min_epu16(line, _mm512_or_si512(most, _mm512_set1_epi32(int(0x80008000))));
  }
  for (int n = 0; n < feeds.count; ++n) {
    const SpreadMap& feed = feeds.maps[n];
    uint8_t* plane = feed.lines + out_block * feed.plane_bytes;
    const int32_t* positions = feed.positions + pixel;
    if (follow<P>(positions)) {
      uint8_t* to = plane + int64_t(positions[0]) * kPositionBytes;
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) _mm512_store_si512(to + p * kPositionBytes, lines[p]);
    } else {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p)
        if (positions[p] >= 0) _mm512_store_si512(plane + int64_t(positions[p]) * kPositionBytes, lines[p]);
    }
  }
}

// Ends whose outputs, and residuals, may be in lines.
struct TileEnds {
  template <int P, bool kRelu>
  static INLINE void encode(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
    if (!c.feeds.count) return BlockEnds::encode<P, kRelu>(c, out_block, pixel, sums);
    const __m512i exponents = find_exponents<P, kRelu>(sums);
    write_lines<P, kRelu>(c.feeds, c.end.out.bits, out_block, pixel, sums, exponents);
  }

  template <int P>
  static INLINE void add_residuals(const Convolve& c, int out_block, int pixel, __m512 (&sums)[P][2]) {
    if (!c.residual.lines) return BlockEnds::add_residuals<P>(c, out_block, pixel, sums);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      const __m512i line = load_line(c.residual, out_block, pixel + p);
      sums[p][0] = _mm512_add_ps(sums[p][0], even_channels(line));
      sums[p][1] = _mm512_add_ps(sums[p][1], odd_channels(line));
    }
  }
};

template <int P>
void end_group(const Convolve& c, int out_block, const Tile& tile, int first, const float* from) {
  __m512 sums[P][2];
  load_sums<P>(tile, first, from, sums);
  end_tile<P, TileEnds>(c, out_block, tile.pixel + first, sums);
}

template <bool kResidual, bool kRelu, bool kInRows>
void end_usual(const Convolve& c, int out_block, const Tile& tile, int first, const float* from) {
  __m512 sums[kGroup][2];
  load_sums<kGroup, kInRows>(tile, first, from, sums);
  end_blocks<kGroup, kResidual, kRelu, TileEnds>(c, out_block, tile.pixel + first, sums);
}

using EndGroup = void (*)(const Convolve&, int out_block, const Tile&, int first, const float* from);
constexpr EndGroup kEndGroup[kGroup] = {end_group<1>, end_group<2>, end_group<3>, end_group<4>,
                                        end_group<5>, end_group<6>, end_group<7>, end_group<8>};
constexpr EndGroup kEndUsual[2][2][2] = {
    {{end_usual<false, false, false>, end_usual<false, false, true>},
     {end_usual<false, true, false>, end_usual<false, true, true>}},
    {{end_usual<true, false, false>, end_usual<true, false, true>},
     {end_usual<true, true, false>, end_usual<true, true, true>}}};

void end_pixels(const Convolve& c, int out_block, const Tile& tile, const float* sums) {
  if (c.suspended) return suspend_tile(c, out_block, tile, sums);
  const bool usual = is_usual(c, out_block);
  int first = 0;
  for (; first + kGroup <= tile.count; first += kGroup) {
    const EndGroup end = usual ? kEndUsual[c.end.residual.present()][c.end.activation][in_rows<kGroup>(tile, first)]
                               : kEndGroup[kGroup - 1];
    end(c, out_block, tile, first, sums);
  }
  if (first < tile.count) kEndGroup[tile.count - first - 1](c, out_block, tile, first, sums);
}

// Panels that come later, which are fetched while this chunk's are multiplied.
const uint8_t* fetched_meanwhile(const Convolve& c, int out_block, const uint8_t* panels) {
  const uint8_t* next = panels + c.ahead;
  if (c.fetch_runs <= 1) return next;
  // After a thread's run of output blocks comes its run of the next convolution.
  const int64_t run = int64_t(out_block) * c.fetch_runs / c.out_blocks;
  const int64_t beyond = next - (c.panels + (run + 1) * c.panel_bytes / c.fetch_runs);
  return beyond < 0 ? next : c.panels + c.panel_bytes + run * c.next_run + beyond;
}

// A part of the work with its scratch memory.
struct TilePart {
  TilePart(const Convolve& c, const Tiling& t, int first, int last, uint8_t* scratch)
      : c(c), t(t), first(first), last(last), base(t.kept ? 0 : t.tiles[first].position / t.width),
        map(t.kept ? t.kept : scratch), panels(scratch + t.spread_bytes),
        work(*reinterpret_cast<Work*>(panels + kMostSteps * kPanelTiles)),
        sums(reinterpret_cast<float*>(&work + 1)),
        places(reinterpret_cast<int64_t*>(sums + (last - first) * kSumFloats)) {
    for (int n = first; n < last; ++n) places[n - first] = (t.tiles[n].position - base * t.width) * kPositionBytes;
  }

  const Convolve& c;
  const Tiling& t;
  int first, last;
  int64_t base;        // row of the first position of the map
  const uint8_t* map;  // in planes
  uint8_t* panels;
  Work& work;
  float* sums;
  int64_t* places;
};

// Adds a chunk of steps to the sums of some tiles, counted from the part's first.
void add_chunk(const TilePart& p, int begin, int end) {
  p.work.places = p.places + begin, p.work.sums = p.sums + begin * kSumFloats, p.work.tiles = end - begin;
  add_steps(p.work);
}

// Sums of one output block.
void convolve_block(const TilePart& p, int out_block) {
  const Convolve& c = p.c;
  const int tiles = p.last - p.first, all = c.taps * c.in_blocks;
  const int chunks = (all + kMostSteps - 1) / kMostSteps;
  const Tile* const tile = p.t.tiles + p.first;
  if (c.resumed)
    for (int n = 0; n < tiles; ++n) begin_tile(c, out_block, tile[n], p.sums + n * kSumFloats);
  const uint8_t* panel = panels_of(c, out_block);
  p.work.map = p.map + first_block(c, out_block) * p.t.plane_bytes, p.work.panels = p.panels;
  for (int chunk = 0, step = 0, steps; chunk < chunks; ++chunk, step += steps, panel += steps * kPanelBytes) {
    steps = all * (chunk + 1) / chunks - step;  // two at least
    for (int n = 0; n < steps; ++n) expand_panel(panel + n * kPanelBytes, p.panels + n * kPanelTiles);
    p.work.steps = steps, p.work.distances = p.t.distances + step, p.work.first = step == 0 && !c.resumed;
    p.work.ahead = fetched_meanwhile(c, out_block, panel);
    const uint8_t* ahead_end = p.work.ahead + steps * kPanelBytes;
    p.work.ahead_end = ahead_end < c.panels_end ? ahead_end : c.panels_end;
    if (step + steps < all) {
      add_chunk(p, 0, tiles);
      continue;
    }
    for (int n = 0; n < tiles; n += kEndedTogether) {
      const int end = n + kEndedTogether < tiles ? n + kEndedTogether : tiles;
      add_chunk(p, n, end);
      for (int m = n; m < end; ++m) end_pixels(c, out_block, tile[m], p.sums + m * kSumFloats);
    }
  }
}

// Spreads what a part reads of the map.
void spread(const TilePart& p, int first_out, int last_out, uint8_t* planes) {
  const Tiling& t = p.t;
  const Tile& last = t.tiles[p.last - 1];
  const int rows = int((last.position + last.rows[last.count - 1]) / t.width + 1 - p.base + t.reach);
  const int begin = first_block(p.c, first_out), end = first_block(p.c, last_out - 1) + p.c.in_blocks;
  for (int n = 0; n < t.phase_count; ++n)
    spread_phase(p.c, t, t.phases[n], p.base, rows, begin, end, planes + int64_t(n) * t.blocks * t.plane_bytes);
}

void convolve_tiles(const Convolve& c, const Tiling& t, int first_out, int last_out, int first_tile, int last_tile,
                    uint8_t* scratch) {
  const TilePart p(c, t, first_tile, last_tile, scratch);
  if (!t.kept) spread(p, first_out, last_out, scratch);
  const TileSettings settings(kTiles);
  _tile_loadconfig(&settings);
  p.work.few = last_tile - first_tile < kFewTiles;
  for (int out_block = first_out; out_block < last_out; ++out_block) convolve_block(p, out_block);
  _tile_release();
}

// Spreads rows of blocks that come from outside; those that read them have chosen where.
void load_lines(const Loading& l, int first_row, int last_row) {
  for (int y = first_row; y < last_row; ++y) {
    const uint8_t* mantissas = l.mantissas + y * l.row_pitch;
    const uint8_t* exponents = l.exponents + y * l.exponent_pitch;
    for (int x = 0; x < l.columns; ++x, mantissas += l.pixel_pitch * kBlock, exponents += l.pixel_pitch)
      for (int block = 0; block < l.blocks; ++block) {
        const float step = power_of_two(exponents[block] - 127 - 6);
        const __m512i line = spread_block(mantissas + block * kBlock, step, kFlip);
        for (int n = 0; n < l.feeds->count; ++n) {
          const SpreadMap& feed = l.feeds->maps[n];
          const int64_t position = feed.positions[int64_t(y) * l.columns + x];
          uint8_t* to = feed.lines + block * feed.plane_bytes + position * kPositionBytes;
          if (position >= 0) _mm512_store_si512(to, line);
        }
      }
  }
}

// Bits of bfloat16 are in order as signed numbers, but for negative ones among themselves, whose order is the inverse.
INLINE __m512i largest_line(const Pool& p, int block, const PoolWindow& w) {
  __m512i most = _mm512_set1_epi16(int16_t(0x8000)), least = _mm512_set1_epi16(-1);
  for (int y = w.y; y < w.y_end; ++y)
    for (int x = w.x; x < w.x_end; ++x) {
      const __m512i line = load_line(p.lines, block, int64_t(y) * p.in_columns + x);
      most = _mm512_max_epi16(most, line);
      least = _mm512_min_epu16(least, line);
    }
  return _mm512_mask_mov_epi16(most, _mm512_movepi16_mask(most), least);
}

INLINE void average_lines(const Pool& p, int block, const PoolWindow& w, __m512 (&sum)[2]) {
  sum[0] = sum[1] = _mm512_setzero_ps();
  for (int y = w.y; y < w.y_end; ++y)
    for (int x = w.x; x < w.x_end; ++x) {
      const __m512i line = load_line(p.lines, block, int64_t(y) * p.in_columns + x);
      sum[0] = _mm512_add_ps(sum[0], even_channels(line));
      sum[1] = _mm512_add_ps(sum[1], odd_channels(line));
    }
  for (__m512& v : sum) v = _mm512_mul_ps(v, _mm512_set1_ps(p.factor));
}

// Some outputs of a row.
template <int P>
void pool_group(const Pool& p, int block, int oy, int ox) {
  __m512 values[P][2];
  int32_t pixels[P];
#pragma GCC unroll 8
  for (int n = 0; n < P; ++n) {
    const PoolWindow window(p, oy, ox + n);
    pixels[n] = int32_t(p.end.out.at(oy, ox + n));
    if (p.average) {
      average_lines(p, block, window, values[n]);
    } else {
      const __m512i line = largest_line(p, block, window);
      values[n][0] = even_channels(line), values[n][1] = odd_channels(line);
    }
  }
  const __m512i exponents = find_exponents<P>(values);
  if (p.feeds.count)
    write_lines<P, false>(p.feeds, p.end.out.bits, block, oy * p.columns + ox, values, exponents);
  else
    write_blocks<P>(p.end.out, pixels, block, values, exponents);
}

using PoolGroup = void (*)(const Pool&, int block, int oy, int ox);
constexpr PoolGroup kPoolGroup[kGroup] = {pool_group<1>, pool_group<2>, pool_group<3>, pool_group<4>,
                                          pool_group<5>, pool_group<6>, pool_group<7>, pool_group<8>};

void pool_lines(const Pool& p, int first_row, int last_row) {
  for (int oy = first_row; oy < last_row; ++oy)
    for (int block = 0; block < p.blocks; ++block)
      for (int ox = 0; ox < p.columns; ox += kGroup)
        kPoolGroup[(p.columns - ox < kGroup ? p.columns - ox : kGroup) - 1](p, block, oy, ox);
}

}  // namespace

namespace gatecast {
extern const TileKernels kAmxTiles = {kMostSteps * kPanelTiles + int64_t(sizeof(Work)), kSumFloats * 4 + 8,
                                      convolve_tiles, load_lines, pool_lines};
}
