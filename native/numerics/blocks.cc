#include "blocks.h"

#include <string.h>

#include "../device/float_state.h"

namespace gatecast {
namespace {

constexpr int kBlock = 32;

float power_of_two(int exponent) {
  const uint32_t bits = uint32_t(exponent + 127) << 23;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// Bits of the largest magnitude.
uint32_t largest(const float* values) {
  uint32_t bits[kBlock], most = 0;
  memcpy(bits, values, sizeof bits);
  for (int i = 0; i < kBlock; ++i) {
    const uint32_t magnitude = bits[i] & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

}  // namespace

int64_t encode_blocks(const float* values, int64_t blocks, int bits, int8_t* mantissas, uint8_t* exponents) {
  const FloatState state;
  const float limit = float((1 << (bits - 1)) - 1), magic = 0x1.8p23f;
  for (int64_t n = 0; n < blocks; ++n, values += kBlock, mantissas += kBlock) {
    const uint32_t most = largest(values);
    if (most >= 0x7f800000) return n;
    int field = int(most >> 23);
    field = field < 127 - 48 ? 127 - 48 : field > 127 + 48 ? 127 + 48 : field;
    exponents[n] = uint8_t(field);
    const float inverse = power_of_two(bits - 2 - (field - 127));
    for (int i = 0; i < kBlock; ++i) {
      // Clamping first is the same, the limits being integers; adding and taking the magic number rounds to even.
      float scaled = values[i] * inverse;
      scaled = scaled > limit ? limit : scaled < -limit ? -limit : scaled;
      mantissas[i] = int8_t(scaled + magic - magic);
    }
  }
  return -1;
}

}  // namespace gatecast
