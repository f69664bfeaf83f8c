// What the host does for a picture before and after the device, for Python.
#pragma once
#include <nanobind/nanobind.h>

namespace gatecast {

void bind_host(nanobind::module_& m);
void bind_pictures(nanobind::module_& m);

}  // namespace gatecast
