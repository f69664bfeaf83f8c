#include <immintrin.h>
#include <string.h>

#include "picture_kernels.h"

namespace gatecast {
namespace {

__m128i four_bytes(const uint8_t* from) {
  int32_t bytes;
  memcpy(&bytes, from, 4);
  return _mm_cvtsi32_si128(bytes);
}

__m128i pixel(const uint8_t* from) { return _mm_cvtepu8_epi32(four_bytes(from)); }

// Three channels and the byte behind them, which is another pixel's and is overwritten by the next result.
void filter_row(const uint8_t* row, bool open, int channels, const Filter& along, uint8_t* result) {
  if (channels != 3 || !open) return kPicturePortable.filter_row(row, open, channels, along, result);
  const int32_t* weight = along.weights;
  for (int i = 0; i < along.results; ++i, weight += along.taps, result += 3) {
    const uint8_t* from = row + along.first[i] * 3;
    __m128i sum = _mm_set1_epi32(1 << (kFractionBits - 1));
    for (int t = 0; t < along.taps; ++t)
      sum = _mm_add_epi32(sum, _mm_mullo_epi32(pixel(from + 3 * t), _mm_set1_epi32(weight[t])));
    sum = _mm_srli_epi32(sum, kFractionBits);
    sum = _mm_packus_epi16(_mm_packus_epi32(sum, sum), sum);
    const int32_t bytes = _mm_cvtsi128_si32(sum);
    memcpy(result, &bytes, 4);
  }
}

void filter_column(const uint8_t* rows, int64_t pitch, int values, const int32_t* weights, int taps, uint8_t* result) {
  constexpr int kParts = 4;  // of 8 values
  int i = 0;
  for (; i + 8 * kParts <= values; i += 8 * kParts) {
    __m256i sum[kParts];
    for (auto& part : sum) part = _mm256_set1_epi32(1 << (kFractionBits - 1));
    for (int t = 0; t < taps; ++t) {
      const __m256i weight = _mm256_set1_epi32(weights[t]);
      for (int n = 0; n < kParts; ++n) {
        const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows + t * pitch + i + 8 * n));
        sum[n] = _mm256_add_epi32(sum[n], _mm256_mullo_epi32(_mm256_cvtepu8_epi32(bytes), weight));
      }
    }
    for (auto& part : sum) part = _mm256_srli_epi32(part, kFractionBits);
    // Packing works in halves of the registers.
    const __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(sum[0], sum[1]), _mm256_packus_epi32(sum[2], sum[3]));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(result + i), _mm256_permutevar8x32_epi32(packed, order));
  }
  kPicturePortable.filter_column(rows + i, pitch, values - i, weights, taps, result + i);
}

__m128 computed(__m128 value, const Arithmetic& a) {
  if (a.reversed) value = _mm_shuffle_ps(value, value, _MM_SHUFFLE(3, 0, 1, 2));
  if (a.divides) value = _mm_div_ps(value, _mm_set1_ps(a.divide));
  if (a.subtracts) value = _mm_sub_ps(value, _mm_loadu_ps(a.mean));
  if (a.divides_by_std) value = _mm_div_ps(value, _mm_loadu_ps(a.std));
  return a.scales ? _mm_mul_ps(value, _mm_set1_ps(a.scale)) : value;
}

__m128 blend(__m128 first, __m128 second, __m128 share) {
  return _mm_add_ps(first, _mm_mul_ps(_mm_sub_ps(second, first), share));
}

__m128 values(const uint8_t* row, int32_t number) { return _mm_cvtepi32_ps(pixel(row + 3 * number)); }

void blend_rows(const uint8_t* upper, const uint8_t* lower, bool open, int channels, const Between& along, float down,
                const Arithmetic& arithmetic, float* result) {
  if (channels != 3 || !open)
    return kPicturePortable.blend_rows(upper, lower, open, channels, along, down, arithmetic, result);
  const __m128i three = _mm_setr_epi32(-1, -1, -1, 0);
  for (int i = 0; i < along.results; ++i, result += 3) {
    const int32_t left = along.lower[i], right = along.upper[i];
    const __m128 share = _mm_set1_ps(along.share[i]);
    const __m128 above = blend(values(upper, left), values(upper, right), share);
    const __m128 below = blend(values(lower, left), values(lower, right), share);
    const __m128 value = computed(blend(above, below, _mm_set1_ps(down)), arithmetic);
    if (i + 1 < along.results) {
      _mm_storeu_ps(result, value);  // the fourth is overwritten by the next
    } else {
      _mm_maskstore_ps(result, three, value);
    }
  }
}

}  // namespace

const PictureKernels kPictureAvx2 = {filter_row, filter_column, blend_rows};

}  // namespace gatecast
