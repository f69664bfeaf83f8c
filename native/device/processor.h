// Which kernels this processor can run.
#pragma once
#include <vector>

#include "kernels.h"

namespace gatecast {

// Best first; the last ones run everywhere.
std::vector<const Kernels*> kernels_of_this_processor();

}  // namespace gatecast
