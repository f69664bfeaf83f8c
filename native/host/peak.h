// What this processor could do at its best, measured: the roof of a roofline.
#pragma once
#include <stddef.h>

#include <string>

namespace gatecast {

// Products a nanosecond (GMAC/s) of 8-bit values by the instructions that kernels of an instruction set multiply with,
// and nothing else, on so many threads at once. 0 for a set of which this knows none.
double peak_products(const std::string& instruction_set, int threads);

// Bytes a nanosecond (GB/s) that so many threads read together from memory of this size, again and again.
double peak_reading(size_t bytes, int threads);

}  // namespace gatecast
