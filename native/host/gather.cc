#include "gather.h"

#include <string.h>

#include <numeric>

#include "../device/float_state.h"

namespace gatecast {

namespace {

// Appends the runs of a row of the table.
void append_row(const int32_t* table, int columns, const std::vector<int>& counts, MapRuns& to) {
  for (int x = 0; x < columns; ++x)
    for (const int count : counts) {
      bool goes_on = false;
      for (int lane = 0; lane < count; ++lane) {
        const int32_t number = *table++;
        goes_on = goes_on && number >= 0 && number == to.runs.back().from + to.runs.back().count;
        if (goes_on) {
          ++to.runs.back().count;
        } else if (number >= 0) {
          to.runs.push_back({number, uint8_t(lane), 1});
          goes_on = true;
        }
      }
      to.ends.push_back(int32_t(to.runs.size()));
    }
}

size_t run_before(const MapRuns& runs, size_t block) { return block ? size_t(runs.ends[block - 1]) : 0; }

// Whether the rows of `blocks` blocks at two places have the same runs, all `shift` apart.
bool same_row(const MapRuns& runs, size_t blocks, size_t place, size_t other, int64_t& shift) {
  const size_t first = run_before(runs, place), second = run_before(runs, other);
  for (size_t i = 0; i < blocks; ++i)
    if (size_t(runs.ends[place + i]) - first != size_t(runs.ends[other + i]) - second) return false;
  const size_t count = size_t(runs.ends[place + blocks - 1]) - first;
  shift = count ? int64_t(runs.runs[second].from) - runs.runs[first].from : 0;
  for (size_t i = 0; i < count; ++i) {
    const Run &a = runs.runs[first + i], &b = runs.runs[second + i];
    if (a.lane != b.lane || a.count != b.count || b.from - int64_t(a.from) != shift) return false;
  }
  return true;
}

}  // namespace

Gather::Gather(const int32_t* table, int rows, int columns, const std::vector<int>& counts)
    : rows_(rows), columns_(columns), counts_(counts) {
  const int channels = std::accumulate(counts.begin(), counts.end(), 0);
  const size_t blocks = size_t(columns) * counts.size();
  for (int y = 0; y < rows; ++y, table += int64_t(columns) * channels) {
    const size_t place = from_.ends.size();
    append_row(table, columns, counts, from_);
    int64_t shift = 0;
    if (y && blocks && same_row(from_, blocks, places_.back().block, place, shift)) {
      from_.runs.resize(run_before(from_, place));
      from_.ends.resize(place);
      places_.push_back({places_.back().block, shift});
    } else {
      places_.push_back({place, 0});
    }
  }
  from_.runs.shrink_to_fit();
  from_.ends.shrink_to_fit();
}

void Gather::copy(const float* source, float* result) const {
  for (const Row& row : places_) {
    size_t block = row.block;
    const Run* run = from_.runs.data() + run_before(from_, block);
    for (int x = 0; x < columns_; ++x)
      for (const int count : counts_) {
        memset(result, 0, size_t(count) * sizeof(float));
        for (const Run* end = from_.runs.data() + from_.ends[block++]; run != end; ++run)
          memcpy(result + run->lane, source + run->from + row.shift, run->count * sizeof(float));
        result += count;
      }
  }
}

bool Gather::encode(const float* source, const Planes& to) const {
  const FloatState state;
  for (int y = 0; y < rows_; ++y)
    if (!encode_map_row(source + places_[y].shift, from_, places_[y].block, kBounded, to, y)) return false;
  return true;
}

}  // namespace gatecast
