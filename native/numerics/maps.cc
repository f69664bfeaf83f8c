#include "maps.h"

#include <numeric>

#include "../device/float_state.h"
#include "../device/kernels.h"
#include "../device/transfer.h"

namespace gatecast {

MapRuns dense_runs(int columns, const std::vector<int>& counts) {
  MapRuns made;
  int32_t from = 0;
  for (int x = 0; x < columns; ++x)
    for (const int count : counts) {
      if (count) made.runs.push_back({from, 0, uint8_t(count)});
      from += count;
      made.ends.push_back(int32_t(made.runs.size()));
    }
  return made;
}

bool encode_map_row(const float* source, const MapRuns& from, size_t first, int32_t largest, const Planes& to, int y) {
  BlockRow row{source,    from.runs.data(), from.ends.data() + first,
               first ? from.ends[first - 1] : 0,
               to.columns, to.blocks, to.bits, largest,
               to.mantissas + y * to.row_step,
               to.exponents + y * to.exponent_row_step,
               to.pixel_step, to.exponent_pixel_step};
  if (!to.packed || to.bits == 8) return encode_row(row);
  thread_local std::vector<uint8_t> plain;
  plain.resize(size_t(to.columns) * to.blocks * kBlock);
  row.mantissas = plain.data(), row.pixel_step = to.blocks * kBlock;
  if (!encode_row(row)) return false;
  for (int x = 0; x < to.columns; ++x)
    for (int b = 0; b < to.blocks; ++b)
      pack_block(plain.data() + (x * to.blocks + b) * kBlock, to.bits, 0,
                 to.mantissas + y * to.row_step + x * to.pixel_step + b * 4 * to.bits);
  return true;
}

bool encode_map(const float* source, const std::vector<int>& counts, int32_t largest, const Planes& to) {
  const FloatState state;
  const MapRuns row = dense_runs(to.columns, counts);
  const int64_t values = int64_t(to.columns) * std::accumulate(counts.begin(), counts.end(), 0);
  for (int y = 0; y < to.rows; ++y)
    if (!encode_map_row(source + y * values, row, 0, largest, to, y)) return false;
  return true;
}

}  // namespace gatecast
