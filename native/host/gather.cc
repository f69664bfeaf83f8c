#include "gather.h"

#include <string.h>

#include "../device/float_state.h"

namespace gatecast {

Gather::Gather(const int32_t* table, int rows, int columns, const std::vector<int>& counts)
    : rows_(rows), columns_(columns), counts_(counts) {
  auto& [runs, ends] = from_;
  for (int64_t pixel = 0; pixel < int64_t(rows) * columns; ++pixel)
    for (const int count : counts) {
      bool goes_on = false;
      for (int lane = 0; lane < count; ++lane) {
        const int32_t number = *table++;
        goes_on = goes_on && number >= 0 && number == runs.back().from + runs.back().count;
        if (goes_on) {
          ++runs.back().count;
        } else if (number >= 0) {
          runs.push_back({number, uint8_t(lane), 1});
          goes_on = true;
        }
      }
      ends.push_back(int32_t(runs.size()));
    }
}

void Gather::copy(const float* source, float* result) const {
  const Run* run = from_.runs.data();
  size_t block = 0;
  for (int64_t pixel = 0; pixel < int64_t(rows_) * columns_; ++pixel)
    for (const int count : counts_) {
      memset(result, 0, size_t(count) * sizeof(float));
      for (const Run* end = from_.runs.data() + from_.ends[block++]; run != end; ++run)
        memcpy(result + run->lane, source + run->from, run->count * sizeof(float));
      result += count;
    }
}

bool Gather::encode(const float* source, const Planes& to) const {
  const FloatState state;
  for (int y = 0; y < rows_; ++y)
    if (!encode_map_row(source, from_, size_t(y) * columns_ * counts_.size(), kBounded, to, y)) return false;
  return true;
}

}  // namespace gatecast
