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
int32_t largest(const float* values) {
  int32_t bits[kBlock], most = 0;
  memcpy(bits, values, sizeof bits);
  for (int i = 0; i < kBlock; ++i) {
    const int32_t magnitude = bits[i] & 0x7fffffff;
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

// False if a value is not finite.
bool encode_block(const float* values, int bits, int8_t* mantissas, uint8_t* exponent) {
  const int32_t most = largest(values);
  if (most >= 0x7f800000) return false;
  int field = most >> 23;
  field = field < 127 - 48 ? 127 - 48 : field > 127 + 48 ? 127 + 48 : field;
  *exponent = uint8_t(field);
  const float inverse = power_of_two(bits - 2 - (field - 127));
  const float limit = float((1 << (bits - 1)) - 1), magic = 0x1.8p23f;
  for (int i = 0; i < kBlock; ++i) {
    // Clamping first is the same, the limits being integers; adding and taking the magic number rounds to even.
    float scaled = values[i] * inverse;
    scaled = scaled < limit ? scaled : limit;
    scaled = scaled > -limit ? scaled : -limit;
    mantissas[i] = int8_t(int32_t(scaled + magic - magic));
  }
  return true;
}

}  // namespace

int64_t encode_pixels(const float* values, int64_t pixels, const std::vector<int>& counts, int bits, int8_t* mantissas,
                      uint8_t* exponents) {
  const FloatState state;
  for (int64_t pixel = 0; pixel < pixels; ++pixel) {
    for (const int count : counts) {
      float block[kBlock] = {};
      memcpy(block, values, size_t(count) * sizeof(float));
      if (!encode_block(block, bits, mantissas, exponents)) return pixel;
      values += count, mantissas += kBlock, ++exponents;
    }
  }
  return -1;
}

}  // namespace gatecast
