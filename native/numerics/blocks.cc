#include "blocks.h"

#include "encode_row.h"

namespace gatecast {
namespace {

class Portable {
 public:
  struct Block {
    float values[kBlock];
  };

  explicit Portable(int bits) : bits_(bits) {}

  static Block run(const float* from, int count) {
    Block block = {};
    memcpy(block.values, from, size_t(count) * sizeof(float));
    return block;
  }

  static Block values(const float* from) { return run(from, kBlock); }

  // Writes mantissas; the biased exponent. Bits of magnitudes are compared: the same order, and no NaN.
  uint8_t encode(const Block& block, uint8_t* mantissas) {
    int32_t raw[kBlock], most = 0;
    memcpy(raw, block.values, sizeof raw);
    for (int i = 0; i < kBlock; ++i) {
      const int32_t magnitude = raw[i] & 0x7fffffff;
      most = magnitude > most ? magnitude : most;
    }
    largest_ = most > largest_ ? most : largest_;
    const int field = most >> 23, exponent = field < kLowest ? kLowest : field > kHighest ? kHighest : field;
    const float inverse = inverse_step(exponent), limit = float((1 << (bits_ - 1)) - 1), magic = 0x1.8p23f;
    for (int i = 0; i < kBlock; ++i) {
      // Clamping first is the same, the limits being integers; adding and taking the magic number rounds to even.
      float scaled = block.values[i] * inverse;
      scaled = scaled < limit ? scaled : limit;
      scaled = scaled > -limit ? scaled : -limit;
      mantissas[i] = uint8_t(int8_t(int32_t(scaled + magic - magic)));
    }
    return uint8_t(exponent);
  }

  int32_t largest() const { return largest_; }

 private:
  float inverse_step(int exponent) const {
    const uint32_t field = uint32_t(bits_ - 2 + 254 - exponent) << 23;
    float x;
    memcpy(&x, &field, 4);
    return x;
  }

  int bits_;
  int32_t largest_ = 0;
};

}  // namespace

bool encode_row_portable(const BlockRow& row) { return encode_row_by<Portable>(row); }

bool encode_row(const BlockRow& row) {
#if defined(__x86_64__)
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2) return encode_row_avx2(row);
#endif
  return encode_row_portable(row);
}

}  // namespace gatecast
