// Block floating point in C++: the same bits as gatecast.numerics. Ref: docs/spec/numerics.md §1.
#pragma once
#include <stdint.h>

namespace gatecast {

// Encodes blocks of 32 values. Number of the first block with a value that is not finite, where it stops; else -1.
int64_t encode_blocks(const float* values, int64_t blocks, int bits, int8_t* mantissas, uint8_t* exponents);

}  // namespace gatecast
