#include "bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "../device/kernels.h"
#include "../device/processor.h"
#include "../numerics/inputs.h"
#include "../numerics/maps.h"
#include "gather.h"
#include "peak.h"

namespace nb = nanobind;

namespace gatecast {
namespace {

using Values = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Results = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using StridedValues = nb::ndarray<const float, nb::device::cpu>;
using Map = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Mantissas = nb::ndarray<uint8_t, nb::ndim<4>, nb::device::cpu>;  // [rows, columns, blocks, bytes]
using Exponents = nb::ndarray<uint8_t, nb::ndim<3>, nb::device::cpu>;  // [rows, columns, blocks]

size_t channels_of(const std::vector<int>& counts) {
  for (const int count : counts)
    if (count < 0 || count > kBlock) throw nb::value_error("a block holds 0 to 32 channels");
  return std::accumulate(counts.begin(), counts.end(), size_t(0));
}

Planes planes_of(const Mantissas& mantissas, const Exponents& exponents, int bits, size_t rows, size_t columns,
                 size_t blocks) {
  if (bits < 4 || bits > 8) throw nb::value_error("bits must lie in 4..8");
  const size_t bytes = mantissas.shape(3);
  for (int axis = 0; axis < 3; ++axis) {
    const size_t size = axis == 0 ? rows : axis == 1 ? columns : blocks;
    if (mantissas.shape(axis) != size || exponents.shape(axis) != size)
      throw nb::value_error("planes must be [rows, columns, blocks, bytes] and [rows, columns, blocks]");
  }
  if (bytes != size_t(kBlock) && bytes != size_t(4 * bits)) throw nb::value_error("a block has 32 or 4 * bits bytes");
  if (mantissas.stride(3) != 1 || (blocks > 1 && (mantissas.stride(2) != int64_t(bytes) || exponents.stride(2) != 1)))
    throw nb::value_error("blocks of a pixel must lie side by side");
  return {int(rows), int(columns), int(blocks), bits, bytes != size_t(kBlock), mantissas.data(), exponents.data(),
          mantissas.stride(0), mantissas.stride(1), exponents.stride(0), exponents.stride(1)};
}

bool encode(Map values, const std::vector<int>& counts, int bits, bool bounded, Mantissas mantissas,
            Exponents exponents) {
  if (values.shape(2) != channels_of(counts)) throw nb::value_error("counts must add up to the channels");
  const Planes to = planes_of(mantissas, exponents, bits, values.shape(0), values.shape(1), counts.size());
  nb::gil_scoped_release release;
  return encode_map(values.data(), counts, bounded ? kBounded : kFinite, to);
}

bool inputs(StridedValues values, Results results) {
  std::vector<int64_t> shape, strides;
  for (size_t axis = 0; axis < values.ndim(); ++axis) {
    shape.push_back(int64_t(values.shape(axis)));
    strides.push_back(values.stride(axis));
  }
  if (values.size() != results.size()) throw nb::value_error("results must have the size of the values");
  nb::gil_scoped_release release;
  return take_inputs(values.data(), std::move(shape), std::move(strides), results.data());
}

// A Gather, and how long its sources must be.
class BoundGather {
 public:
  BoundGather(Table table, const std::vector<int>& counts, size_t source) : source_(source), size_(table.size()) {
    if (table.shape(2) != channels_of(counts)) throw nb::value_error("counts must add up to the channels");
    for (size_t i = 0; i < table.size(); ++i)
      if (table.data()[i] < -1 || table.data()[i] >= int64_t(source))
        throw nb::value_error("numbers of a table must lie in the source");
    gather_ = std::make_unique<Gather>(table.data(), int(table.shape(0)), int(table.shape(1)), counts);
  }

  void copy(Values source, Results result) const {
    check(source);
    if (result.size() != size_) throw nb::value_error("result must have the size of the table");
    nb::gil_scoped_release release;
    gather_->copy(source.data(), result.data());
  }

  bool encode(Values source, int bits, Mantissas mantissas, Exponents exponents) const {
    check(source);
    const Planes to = planes_of(mantissas, exponents, bits, size_t(gather_->rows()), size_t(gather_->columns()),
                                size_t(gather_->blocks()));
    nb::gil_scoped_release release;
    return gather_->encode(source.data(), to);
  }

 private:
  void check(const Values& source) const {
    if (source.size() != source_) throw nb::value_error("source must have the size that the table was made for");
  }

  size_t source_, size_;
  std::unique_ptr<Gather> gather_;
};

double products(const std::string& instruction_set, int threads) {
  const auto& sets = kernels_of_this_processor();
  if (std::none_of(sets.begin(), sets.end(), [&](const Kernels* k) { return k->name == instruction_set; }))
    throw nb::value_error(("this processor has no " + instruction_set).c_str());
  if (threads < 1) throw nb::value_error("threads must be at least 1");
  nb::gil_scoped_release release;
  return peak_products(instruction_set, threads);
}

double reading(size_t bytes, int threads) {
  if (threads < 1) throw nb::value_error("threads must be at least 1");
  nb::gil_scoped_release release;
  return peak_reading(bytes, threads);
}

}  // namespace

void bind_host(nb::module_& m) {
  m.def("encode", &encode, nb::arg("values"), nb::arg("counts"), nb::arg("bits"), nb::arg("bounded"),
        nb::arg("mantissas"), nb::arg("exponents"));
  m.def("take_inputs", &inputs, nb::arg("values"), nb::arg("results"));
  m.def("peak_products", &products, nb::arg("instruction_set"), nb::arg("threads"));
  m.def("peak_reading", &reading, nb::arg("bytes"), nb::arg("threads"));
  nb::class_<BoundGather>(m, "Gather")
      .def(nb::init<Table, const std::vector<int>&, size_t>(), nb::arg("table"), nb::arg("counts"), nb::arg("source"))
      .def("copy", &BoundGather::copy, nb::arg("source"), nb::arg("result"))
      .def("encode", &BoundGather::encode, nb::arg("source"), nb::arg("bits"), nb::arg("mantissas"),
           nb::arg("exponents"));
}

}  // namespace gatecast
