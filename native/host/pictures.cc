#include "pictures.h"

#include <algorithm>
#include <cmath>

namespace gatecast {
namespace {

// What an axis of an antialiased resize reads, in Pillow's arithmetic. Windows have one size: those that are smaller,
// or would begin too late to fit, have weights of 0.
struct FilterAxis {
  FilterAxis(int source, int target, int from, int kept);
  Filter view() const { return {first.data(), weights.data(), int(first.size()), taps}; }

  int taps = 0;
  std::vector<int32_t> first, weights;
};

struct Window {
  int first;
  std::vector<double> weights;
};

Window window_of(int source, double scale, int position) {
  const double support = std::max(scale, 1.0), inverse = 1.0 / support;
  const double centre = (position + 0.5) * scale;
  const int first = std::max(int(centre - support + 0.5), 0), last = std::min(int(centre + support + 0.5), source);
  Window window{first, {}};
  double sum = 0;
  for (int x = first; x < last; ++x) {
    const double distance = std::abs((x - centre + 0.5) * inverse);
    window.weights.push_back(distance < 1.0 ? 1.0 - distance : 0.0);
    sum += window.weights.back();
  }
  if (sum != 0)
    for (double& weight : window.weights) weight /= sum;
  return window;
}

FilterAxis::FilterAxis(int source, int target, int from, int kept) {
  std::vector<Window> windows;
  for (int i = 0; i < kept; ++i) {
    windows.push_back(window_of(source, double(source) / target, from + i));
    taps = std::max(taps, int(windows.back().weights.size()));
  }
  weights.resize(size_t(kept) * taps);
  for (int i = 0; i < kept; ++i) {
    const Window& window = windows[i];
    first.push_back(std::min(window.first, source - taps));
    int32_t* to = weights.data() + size_t(i) * taps + (window.first - first[i]);
    for (const double weight : window.weights) *to++ = int32_t(0.5 + weight * (1 << kFractionBits));
  }
}

struct BetweenAxis {
  BetweenAxis(int source, int target, int from, int kept) {
    const float scale = float(source) / float(target);
    for (int i = 0; i < kept; ++i) {
      const float position = float(from + i) * scale, below = std::floor(position);
      lower.push_back(int32_t(below));
      upper.push_back(std::min(int32_t(std::ceil(position)), source - 1));
      share.push_back(position - below);
    }
  }

  std::vector<int32_t> lower, upper;
  std::vector<float> share;
};

template <int kChannels>
void look_up_pixels(const uint8_t* pixels, int64_t count, const float* table, bool reversed, float* result) {
  for (int64_t i = 0; i < count; ++i, pixels += kChannels)
    for (int c = 0; c < kChannels; ++c)
      *result++ = table[pixels[reversed ? kChannels - 1 - c : c] * kChannels + c];
}

}  // namespace

void look_up(const uint8_t* pixels, int64_t count, int channels, const float* table, bool reversed, float* result) {
  channels == 1 ? look_up_pixels<1>(pixels, count, table, false, result)
  : reversed    ? look_up_pixels<3>(pixels, count, table, true, result)
                : look_up_pixels<3>(pixels, count, table, false, result);
}

void resize_antialiased(const Picture& picture, const Crop& crop, const float* table, bool reversed,
                        const PictureKernels& kernels, float* result) {
  const FilterAxis along(picture.columns, crop.width, crop.left, crop.kept_columns);
  const FilterAxis down(picture.rows, crop.height, crop.top, crop.kept_rows);
  const int values = crop.kept_columns * picture.channels, begin = down.first.front();
  const int rows = down.first.back() + down.taps - begin;
  const int64_t pitch = values + 4, step = int64_t(picture.columns) * picture.channels;
  // Along the rows first, rounded to 8 bits, then down the columns: only what the crop needs.
  std::vector<uint8_t> narrow(size_t(rows) * pitch), line(values);
  for (int y = 0; y < rows; ++y)
    kernels.filter_row(picture.pixels + (begin + y) * step, begin + y + 1 < picture.rows, picture.channels,
                       along.view(), narrow.data() + y * pitch);
  for (int y = 0; y < crop.kept_rows; ++y, result += values) {
    kernels.filter_column(narrow.data() + (down.first[y] - begin) * pitch, pitch, values,
                          down.weights.data() + size_t(y) * down.taps, down.taps, line.data());
    look_up(line.data(), crop.kept_columns, picture.channels, table, reversed, result);
  }
}

void resize_legacy(const Picture& picture, const Crop& crop, const Arithmetic& arithmetic, const PictureKernels& kernels,
                   float* result) {
  const BetweenAxis along(picture.columns, crop.width, crop.left, crop.kept_columns);
  const BetweenAxis down(picture.rows, crop.height, crop.top, crop.kept_rows);
  const Between view{along.lower.data(), along.upper.data(), along.share.data(), crop.kept_columns};
  const int64_t step = int64_t(picture.columns) * picture.channels;
  for (int y = 0; y < crop.kept_rows; ++y, result += crop.kept_columns * picture.channels)
    kernels.blend_rows(picture.pixels + down.lower[y] * step, picture.pixels + down.upper[y] * step,
                       down.upper[y] + 1 < picture.rows, picture.channels, view, down.share[y], arithmetic, result);
}

const PictureKernels& picture_kernels() {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2) return kPictureAvx2;
#endif
  return kPicturePortable;
}

}  // namespace gatecast
