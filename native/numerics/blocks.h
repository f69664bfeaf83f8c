// Block floating point in C++: the same bits as gatecast.numerics. Ref: docs/spec/numerics.md §1.
#pragma once
#include <stdint.h>

#include <vector>

namespace gatecast {

// Encodes pixels of channels into blocks that hold `counts` channels each, from lane 0; further lanes are zeros.
// Number of the first pixel with a value that is not finite, where it stops; else -1.
int64_t encode_pixels(const float* values, int64_t pixels, const std::vector<int>& counts, int bits, int8_t* mantissas,
                      uint8_t* exponents);

}  // namespace gatecast
