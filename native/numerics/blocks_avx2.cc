#include <immintrin.h>

#include "encode_row.h"

namespace gatecast {
namespace {

struct Avx2 {
  struct Block {
    __m256 part[4];
  };

  static Block run(const float* from, int count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    Block block;
    for (int i = 0; i < 4; ++i)  // lanes that are masked out are not read
      block.part[i] = _mm256_maskload_ps(from + 8 * i, _mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8 * i), lanes));
    return block;
  }

  static Block values(const float* from) {
    Block block;
    for (int i = 0; i < 4; ++i) block.part[i] = _mm256_loadu_ps(from + 8 * i);
    return block;
  }

  static int32_t largest_of(const Block& block) {
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i)
      most = _mm256_max_epi32(
          most, _mm256_and_si256(_mm256_castps_si256(block.part[i]), _mm256_set1_epi32(0x7fffffff)));
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
  }

  static bool encode(const Block& block, int bits, int32_t largest, uint8_t* mantissas, uint8_t* exponent) {
    const int32_t most = largest_of(block);
    if (most > largest) return false;
    *exponent = uint8_t(exponent_of(most));
    const float limit = float((1 << (bits - 1)) - 1);
    const __m256 inverse = _mm256_set1_ps(inverse_step(*exponent, bits));
    const __m256 high = _mm256_set1_ps(limit), low = _mm256_set1_ps(-limit);
    __m256i m[4];
    for (int i = 0; i < 4; ++i)  // rounds to even
      m[i] = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(block.part[i], inverse), high), low));
    // Packing works in halves of the registers: groups of 4 lanes come out in the order 0, 2, 4, 6, 1, 3, 5, 7.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(mantissas), _mm256_permutevar8x32_epi32(bytes, order));
    return true;
  }
};

}  // namespace

bool encode_row_avx2(const BlockRow& row) { return encode_row_by<Avx2>(row); }

}  // namespace gatecast
