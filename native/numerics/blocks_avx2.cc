#include <immintrin.h>

#include "encode_row.h"

namespace gatecast {
namespace {

// Read from kBlock - n on, the first n lanes are taken.
alignas(64) constexpr int32_t kMasks[2 * kBlock] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                                    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

class Avx2 {
 public:
  struct Block {
    __m256 part[4];
  };

  explicit Avx2(int bits)
      : bias_(_mm256_set1_epi32(bits - 2 + 254)),
        high_(_mm256_set1_ps(float((1 << (bits - 1)) - 1))),
        low_(_mm256_set1_ps(-float((1 << (bits - 1)) - 1))),
        largest_(_mm256_setzero_si256()) {}

  static Block run(const float* from, int count) {
    const int32_t* masks = kMasks + kBlock - count;
    Block block;
    for (int i = 0; i < 4; ++i)  // lanes that are masked out are not read
      block.part[i] = _mm256_maskload_ps(from + 8 * i, load(masks + 8 * i));
    return block;
  }

  static Block values(const float* from) {
    Block block;
    for (int i = 0; i < 4; ++i) block.part[i] = _mm256_loadu_ps(from + 8 * i);
    return block;
  }

  uint8_t encode(const Block& block, uint8_t* mantissas) {
    const __m256i most = largest_of(block);
    largest_ = _mm256_max_epi32(largest_, most);
    const __m256i exponent = _mm256_min_epi32(_mm256_max_epi32(_mm256_srli_epi32(most, 23), _mm256_set1_epi32(kLowest)),
                                              _mm256_set1_epi32(kHighest));
    const __m256 inverse = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_sub_epi32(bias_, exponent), 23));
    __m256i m[4];
    for (int i = 0; i < 4; ++i)  // rounds to even
      m[i] = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(block.part[i], inverse), high_), low_));
    // Packing works in halves of the registers: groups of 4 lanes come out in the order 0, 2, 4, 6, 1, 3, 5, 7.
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(m[0], m[1]), _mm256_packs_epi32(m[2], m[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(mantissas), _mm256_permutevar8x32_epi32(bytes, order));
    return uint8_t(_mm_cvtsi128_si32(_mm256_castsi256_si128(exponent)));
  }

  int32_t largest() const { return _mm_cvtsi128_si32(_mm256_castsi256_si128(largest_)); }

 private:
  static __m256i load(const int32_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

  // Bits of the largest magnitude, in every lane.
  static __m256i largest_of(const Block& block) {
    __m256i most = _mm256_setzero_si256();
    for (int i = 0; i < 4; ++i)
      most = _mm256_max_epi32(
          most, _mm256_and_si256(_mm256_castps_si256(block.part[i]), _mm256_set1_epi32(0x7fffffff)));
    most = _mm256_max_epi32(most, _mm256_permute2x128_si256(most, most, 1));
    most = _mm256_max_epi32(most, _mm256_shuffle_epi32(most, 0x4e));
    return _mm256_max_epi32(most, _mm256_shuffle_epi32(most, 0xb1));
  }

  __m256i bias_;
  __m256 high_, low_;
  __m256i largest_;
};

}  // namespace

bool encode_row_avx2(const BlockRow& row) { return encode_row_by<Avx2>(row); }

}  // namespace gatecast
