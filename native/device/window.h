// Where the window of a convolution lies, and which of its taps are inside the map.
#pragma once
#include "instruction.h"

namespace gatecast {

struct Window {
  explicit Window(const Instruction& i)
      : rows(i("in_rows")), columns(i("in_columns")), y(i("in_y")), x(i("in_x")), kernel_rows(i("kernel_rows")),
        kernel_columns(i("kernel_columns")), stride_y(i("stride_y")), stride_x(i("stride_x")),
        dilation_y(i("dilation_y")), dilation_x(i("dilation_x")) {}

  bool inside(int64_t row, int64_t column) const { return row >= 0 && row < rows && column >= 0 && column < columns; }

  // Whether all taps of the output at (oy, ox) are.
  bool whole(int64_t oy, int64_t ox) const {
    const int64_t top = y + oy * stride_y, left = x + ox * stride_x;
    return inside(top, left) && inside(top + (kernel_rows - 1) * dilation_y, left + (kernel_columns - 1) * dilation_x);
  }

  int64_t rows, columns, y, x, kernel_rows, kernel_columns, stride_y, stride_x, dilation_y, dilation_x;
};

}  // namespace gatecast
