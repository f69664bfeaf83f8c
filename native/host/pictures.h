// Pictures of 8-bit channels resized, cropped and made float32, to the bits of docs/spec/pictures.md.
#pragma once
#include <vector>

#include "picture_kernels.h"

namespace gatecast {

struct Picture {
  const uint8_t* pixels;  // [rows, columns, channels], channels 1 or 3
  int rows, columns, channels;
};

// Part of a resized picture: of `height` x `width`, the `kept` rows and columns from `top` and `left`.
struct Crop {
  int height, width, top, left, kept_rows, kept_columns;
};

// TensorFlow 1's bilinear resize, corners not aligned, then arithmetic; `result` is [kept rows, kept columns, channels].
void resize_legacy(const Picture& picture, const Crop& crop, const Arithmetic& arithmetic, const PictureKernels& kernels,
                   float* result);

// Pillow's bilinear resize, with antialiasing, whose 8-bit values become those of `table` [256, channels], the
// channels of which are reversed to those of the picture if told so.
void resize_antialiased(const Picture& picture, const Crop& crop, const float* table, bool reversed,
                        const PictureKernels& kernels, float* result);

// The table's values of a picture as it is.
void look_up(const uint8_t* pixels, int64_t count, int channels, const float* table, bool reversed, float* result);

// The best of this processor.
const PictureKernels& picture_kernels();

}  // namespace gatecast
