// What is loaded into the tile registers of AMX before their use: so many of them, whole. For files with -m flags of
// their own, too: everything has internal linkage.
#pragma once
#include <stdint.h>

namespace {

struct alignas(64) TileSettings {
  explicit TileSettings(int count) {
    for (int n = 0; n < count; ++n) bytes[n] = 64, rows[n] = 16;
  }

  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};
};

}  // namespace
