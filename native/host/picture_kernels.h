// The inner loops of resizing pictures of 8-bit channels. Files with their own -m flags include this, so it includes
// no standard C++ header.
#pragma once
#include <stdint.h>

namespace gatecast {

// One axis of an antialiased resize: each result is a sum of `taps` source values from its first one, with weights
// of so many bits behind the point.
constexpr int kFractionBits = 22;

struct Filter {
  const int32_t* first;
  const int32_t* weights;  // [results][taps]
  int results, taps;
};

// One axis of a legacy resize: each result lies between two source values, by the share of the upper one.
struct Between {
  const int32_t* lower;
  const int32_t* upper;
  const float* share;
  int results;
};

// What becomes of a value, in this order where it applies; one lane for each channel of the result.
struct Arithmetic {
  bool reversed;  // the channels
  bool divides, subtracts, divides_by_std, scales;
  float divide, mean[4], std[4], scale;
};

// Rows have 1 or 3 channels. `open` rows may be read a byte beyond their end.
struct PictureKernels {
  // `result` has room for 4 values more.
  void (*filter_row)(const uint8_t* row, bool open, int channels, const Filter& along, uint8_t* result);
  // One result row of `values` bytes from rows that lie `pitch` bytes apart.
  void (*filter_column)(const uint8_t* rows, int64_t pitch, int values, const int32_t* weights, int taps,
                        uint8_t* result);
  void (*blend_rows)(const uint8_t* upper, const uint8_t* lower, bool open, int channels, const Between& along,
                     float down, const Arithmetic& arithmetic, float* result);
};

extern const PictureKernels kPicturePortable, kPictureAvx2;

}  // namespace gatecast
