// A rearrangement of values, known before any of them: each value of the result is one of the source, or +0.0.
#pragma once
#include "../numerics/maps.h"

namespace gatecast {

class Gather {
 public:
  // `table` [rows, columns, channels] holds the number of each value in the source, -1 for +0.0.
  Gather(const int32_t* table, int rows, int columns, const std::vector<int>& counts);

  // The result as float32 [rows, columns, channels].
  void copy(const float* source, float* result) const;

  // The result in blocks. False if a value is not finite or beyond 2**64; what was written then means nothing.
  bool encode(const float* source, const Planes& to) const;

  int rows() const { return rows_; }
  int columns() const { return columns_; }
  int blocks() const { return int(counts_.size()); }

 private:
  // A row whose runs are those of an earlier one, only elsewhere in the source, shares them: the table is then so
  // small that it stays in the cache.
  struct Row {
    size_t block;  // the first one in `from_`
    int64_t shift;
  };

  int rows_, columns_;
  std::vector<int> counts_;  // channels of each block
  MapRuns from_;
  std::vector<Row> places_;
};

}  // namespace gatecast
