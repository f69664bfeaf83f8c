// `load` and `store`: bytes move between a map on chip and one in external memory. docs/spec/isa.md §6.
#pragma once
#include "memory.h"

namespace gatecast {

struct Transfer {
  bool inward;
  int section;
  int64_t offset, row_pitch, exponents, exponent_pitch, pixel_pitch;
  View chip;
  int rows, columns, blocks;
  Feeds feeds{};  // of a load

  bool spreads() const { return inward && chip.bits == 8; }  // whether it could
  Loading loading(const uint8_t* external) const {
    return {external + offset, external + exponents, row_pitch, exponent_pitch, pixel_pitch, columns, blocks, &feeds};
  }
};

Transfer transfer_of(const Instruction& i, const Memory& memory);

// Copies some rows. `external` is the section; it is written by a `store` only.
void transfer(const Transfer& t, uint8_t* external, uint8_t flip, int first_row, int last_row);

// One block's mantissas of `bits` bits to or from bytes; `flip` is xored with those of the device.
void unpack_block(const uint8_t* packed, int bits, uint8_t flip, uint8_t* mantissas);
void pack_block(const uint8_t* mantissas, int bits, uint8_t flip, uint8_t* packed);

}  // namespace gatecast
