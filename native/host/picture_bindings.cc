#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "../device/float_state.h"
#include "bindings.h"
#include "pictures.h"

namespace nb = nanobind;

namespace gatecast {
namespace {

using Pixels = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;  // [rows, columns, channels]
using Channels = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Image = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

Picture picture_of(const Pixels& pixels) {
  if (pixels.shape(2) != 1 && pixels.shape(2) != 3) throw nb::value_error("pictures have 1 or 3 channels");
  if (!pixels.size()) throw nb::value_error("pictures have pixels");
  return {pixels.data(), int(pixels.shape(0)), int(pixels.shape(1)), int(pixels.shape(2))};
}

Crop crop_of(const Pixels& pixels, const Image& image, int height, int width, int top, int left) {
  const int64_t rows = int64_t(image.shape(0)), columns = int64_t(image.shape(1));
  if (image.shape(2) != pixels.shape(2)) throw nb::value_error("image must have the channels of the picture");
  if (rows < 1 || columns < 1 || top < 0 || left < 0 || top + rows > height || left + columns > width)
    throw nb::value_error("image must lie in the resized picture");
  return {height, width, top, left, int(rows), int(columns)};
}

const PictureKernels& kernels_of(bool portable) { return portable ? kPicturePortable : picture_kernels(); }

const float* table_of(const Channels& table, const Pixels& pixels) {
  if (table.shape(0) != 256 || table.shape(1) != pixels.shape(2))
    throw nb::value_error("table must be [256, channels]");
  return table.data();
}

void antialiased(Pixels pixels, int height, int width, int top, int left, Channels table, bool reversed, Image image,
                 bool portable) {
  const Picture picture = picture_of(pixels);
  const Crop crop = crop_of(pixels, image, height, width, top, left);
  const float* values = table_of(table, pixels);
  nb::gil_scoped_release release;
  resize_antialiased(picture, crop, values, reversed, kernels_of(portable), image.data());
}

// Each of divide, mean, std and scale is empty where it does not apply.
Arithmetic arithmetic_of(const std::vector<std::vector<float>>& steps, bool reversed, size_t channels) {
  Arithmetic a = {};
  if (steps.size() != 4) throw nb::value_error("steps must be divide, mean, std and scale");
  for (size_t i = 0; i < 4; ++i)
    if (!steps[i].empty() && steps[i].size() != (i == 1 || i == 2 ? channels : 1))
      throw nb::value_error("mean and std must have a number for each channel, divide and scale one");
  a.reversed = reversed;
  if ((a.divides = !steps[0].empty())) a.divide = steps[0][0];
  if ((a.subtracts = !steps[1].empty())) std::copy(steps[1].begin(), steps[1].end(), a.mean);
  if ((a.divides_by_std = !steps[2].empty())) std::copy(steps[2].begin(), steps[2].end(), a.std);
  if ((a.scales = !steps[3].empty())) a.scale = steps[3][0];
  return a;
}

void legacy(Pixels pixels, int height, int width, int top, int left, const std::vector<std::vector<float>>& steps,
            bool reversed, Image image, bool portable) {
  const Picture picture = picture_of(pixels);
  const Crop crop = crop_of(pixels, image, height, width, top, left);
  const Arithmetic arithmetic = arithmetic_of(steps, reversed, pixels.shape(2));
  nb::gil_scoped_release release;
  const FloatState state;
  resize_legacy(picture, crop, arithmetic, kernels_of(portable), image.data());
}

void unresized(Pixels pixels, Channels table, bool reversed, Image image) {
  const Picture picture = picture_of(pixels);
  const float* values = table_of(table, pixels);
  if (image.size() != pixels.size()) throw nb::value_error("image must have the size of the picture");
  nb::gil_scoped_release release;
  look_up(picture.pixels, int64_t(picture.rows) * picture.columns, picture.channels, values, reversed, image.data());
}

}  // namespace

void bind_pictures(nb::module_& m) {
  m.def("resize_antialiased", &antialiased, nb::arg("pixels"), nb::arg("height"), nb::arg("width"), nb::arg("top"),
        nb::arg("left"), nb::arg("table"), nb::arg("reversed"), nb::arg("image"), nb::arg("portable") = false);
  m.def("resize_legacy", &legacy, nb::arg("pixels"), nb::arg("height"), nb::arg("width"), nb::arg("top"),
        nb::arg("left"), nb::arg("steps"), nb::arg("reversed"), nb::arg("image"), nb::arg("portable") = false);
  m.def("look_up", &unresized, nb::arg("pixels"), nb::arg("table"), nb::arg("reversed"), nb::arg("image"));
}

}  // namespace gatecast
