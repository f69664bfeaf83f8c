#include "transfer.h"

namespace gatecast {

Transfer transfer_of(const Instruction& i, const Memory& memory) {
  const std::string view = i.name() == "load" ? "out" : "in";
  return {i.name() == "load",
          int(i("section")),
          i("offset"),
          i("row_pitch"),
          i("exponents"),
          i("exponent_pitch"),
          i("pixel_pitch"),
          memory.view(i, view),
          int(i(view + "_rows")),
          int(i(view + "_columns")),
          int(i(view + "_blocks"))};
}

namespace {

void flip_blocks(const uint8_t* from, int64_t blocks, uint8_t flip, uint8_t* to) {
  for (int64_t i = 0; i < blocks * kBlock; ++i) to[i] = from[i] ^ flip;
}

}  // namespace

void unpack_block(const uint8_t* packed, int bits, uint8_t flip, uint8_t* mantissas) {
  if (bits == 8) {
    flip_blocks(packed, 1, flip, mantissas);
    return;
  }
  uint64_t held = 0;
  int count = 0;
  const uint8_t sign = uint8_t(1 << (bits - 1)), mask = uint8_t((1 << bits) - 1);
  for (int i = 0; i < kBlock; ++i) {
    for (; count < bits; count += 8) held |= uint64_t(*packed++) << count;
    mantissas[i] = uint8_t(((uint8_t(held) & mask) ^ sign) - sign) ^ flip;
    held >>= bits;
    count -= bits;
  }
}

void pack_block(const uint8_t* mantissas, int bits, uint8_t flip, uint8_t* packed) {
  if (bits == 8) {
    flip_blocks(mantissas, 1, flip, packed);
    return;
  }
  uint64_t held = 0;
  int count = 0;
  const uint8_t mask = uint8_t((1 << bits) - 1);
  for (int i = 0; i < kBlock; ++i) {
    held |= uint64_t(uint8_t(mantissas[i] ^ flip) & mask) << count;
    for (count += bits; count >= 8; count -= 8) {
      *packed++ = uint8_t(held);
      held >>= 8;
    }
  }
}

namespace {

uint8_t exponent_byte(float step, int bits) {
  uint32_t field;
  memcpy(&field, &step, 4);
  return uint8_t((field >> 23) + uint32_t(bits - 2));
}

float step_of(uint8_t exponent, int bits) {
  const uint32_t field = uint32_t(exponent - (bits - 2)) << 23;
  float step;
  memcpy(&step, &field, 4);
  return step;
}

void transfer_vectors(const Transfer& t, uint8_t* external, int y) {
  for (int x = 0; x < t.columns; ++x) {
    uint8_t* outside = external + t.offset + y * t.row_pitch + x * t.pixel_pitch * 4 * kLanes;
    float* inside = t.chip.vectors + t.chip.at(y, x) * kLanes;
    const size_t bytes = size_t(t.blocks) * 4 * kLanes;
    t.inward ? memcpy(inside, outside, bytes) : memcpy(outside, inside, bytes);
  }
}

// A row of bfp8 blocks that lie side by side on both sides.
void load_row(const Transfer& t, const uint8_t* external, uint8_t flip, int y) {
  const int64_t blocks = int64_t(t.columns) * t.blocks, at = t.chip.at(y, 0);
  flip_blocks(external + t.offset + y * t.row_pitch, blocks, flip, t.chip.mantissas + at * kBlock);
  const uint8_t* exponents = external + t.exponents + y * t.exponent_pitch;
  for (int64_t i = 0; i < blocks; ++i) t.chip.steps[at + i] = step_of(exponents[i], 8);
}

void transfer_blocks(const Transfer& t, uint8_t* external, uint8_t flip, int y) {
  const int bits = t.chip.bits;
  if (t.inward && bits == 8 && t.chip.pixel == t.blocks && t.pixel_pitch == t.blocks)
    return load_row(t, external, flip, y);
  for (int x = 0; x < t.columns; ++x) {
    for (int c = 0; c < t.blocks; ++c) {
      const int64_t at = t.chip.at(y, x) + c;
      uint8_t* packed = external + t.offset + y * t.row_pitch + (x * t.pixel_pitch + c) * 4 * bits;
      uint8_t* exponent = external + t.exponents + y * t.exponent_pitch + x * t.pixel_pitch + c;
      if (t.inward) {
        unpack_block(packed, bits, flip, t.chip.mantissas + at * kBlock);
        t.chip.steps[at] = step_of(*exponent, bits);
      } else {
        pack_block(t.chip.mantissas + at * kBlock, bits, flip, packed);
        *exponent = exponent_byte(t.chip.steps[at], bits);
      }
    }
  }
}

}  // namespace

void transfer(const Transfer& t, uint8_t* external, uint8_t flip, int first_row, int last_row) {
  for (int y = first_row; y < last_row; ++y)
    t.chip.vectors ? transfer_vectors(t, external, y) : transfer_blocks(t, external, flip, y);
}

}  // namespace gatecast
