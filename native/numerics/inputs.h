// Values that a Program takes. Ref: docs/spec/numerics.md §3.
#pragma once
#include <stdint.h>

#include <vector>

namespace gatecast {

// Copies values of any strides (in values) to where they lie in order, with magnitudes below 2**-80 as +0.0.
// False if one is not finite or beyond 2**64; what was written then means nothing.
bool take_inputs(const float* values, std::vector<int64_t> shape, std::vector<int64_t> strides, float* result);

}  // namespace gatecast
