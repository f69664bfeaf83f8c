// Reads the fields of encoded instructions. Where they lie is told by the library's table (gatecast.isa.KINDS), the
// only one there is.
#pragma once
#include <stdint.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace gatecast {

constexpr int kInstructionWords = 32;

struct Place {
  int word, bit, bits;
  bool is_signed;
};

struct Kind {
  std::string name;
  std::map<std::string, Place, std::less<>> places;
};

using Layout = std::map<int, Kind>;  // by opcode

class Instruction {
 public:
  Instruction(const Layout& layout, const uint32_t* words) : words_(words), kind_(layout.at(int(words[0] & 0xff))) {}

  const std::string& name() const { return kind_.name; }

  int64_t operator()(const std::string& field) const {
    const Place& place = kind_.places.at(field);
    const uint64_t mask = (uint64_t(1) << place.bits) - 1;
    const uint64_t value = (words_[place.word] >> place.bit) & mask;
    if (place.is_signed && value >> (place.bits - 1)) return int64_t(value) - int64_t(mask) - 1;
    return int64_t(value);
  }

  float real(const std::string& field) const {
    const uint32_t bits = uint32_t((*this)(field));
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
  }

 private:
  const uint32_t* words_;
  const Kind& kind_;
};

// Bits of a mantissa of a format's number; 0 for none and float32.
inline int mantissa_bits(int64_t format) { return format >= 2 ? int(format) + 2 : 0; }

}  // namespace gatecast
