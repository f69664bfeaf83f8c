#include "picture_kernels.h"

namespace gatecast {
namespace {

// Sums are below 256 + a little, and positive: no weight of a bilinear filter is negative.
uint8_t rounded(int32_t sum) {
  const int32_t value = sum >> kFractionBits;
  return uint8_t(value > 255 ? 255 : value);
}

void filter_row(const uint8_t* row, bool, int channels, const Filter& along, uint8_t* result) {
  const int32_t* weight = along.weights;
  for (int i = 0; i < along.results; ++i, weight += along.taps)
    for (int c = 0; c < channels; ++c) {
      int32_t sum = 1 << (kFractionBits - 1);
      for (int t = 0; t < along.taps; ++t) sum += row[(along.first[i] + t) * channels + c] * weight[t];
      *result++ = rounded(sum);
    }
}

void filter_column(const uint8_t* rows, int64_t pitch, int values, const int32_t* weights, int taps, uint8_t* result) {
  for (int i = 0; i < values; ++i) {
    int32_t sum = 1 << (kFractionBits - 1);
    for (int t = 0; t < taps; ++t) sum += rows[t * pitch + i] * weights[t];
    result[i] = rounded(sum);
  }
}

float computed(float value, const Arithmetic& a, int lane) {
  if (a.divides) value = value / a.divide;
  if (a.subtracts) value = value - a.mean[lane];
  if (a.divides_by_std) value = value / a.std[lane];
  return a.scales ? value * a.scale : value;
}

float between(const uint8_t* row, int lower, int upper, float share) {
  const float first = row[lower], second = row[upper];
  return first + (second - first) * share;
}

void blend_rows(const uint8_t* upper, const uint8_t* lower, bool, int channels, const Between& along, float down,
                const Arithmetic& arithmetic, float* result) {
  for (int i = 0; i < along.results; ++i)
    for (int lane = 0; lane < channels; ++lane) {
      const int c = arithmetic.reversed ? channels - 1 - lane : lane;
      const int left = along.lower[i] * channels + c, right = along.upper[i] * channels + c;
      const float above = between(upper, left, right, along.share[i]);
      const float below = between(lower, left, right, along.share[i]);
      *result++ = computed(above + (below - above) * down, arithmetic, lane);
    }
}

}  // namespace

const PictureKernels kPicturePortable = {filter_row, filter_column, blend_rows};

}  // namespace gatecast
