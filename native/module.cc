// gatecast._native: the software device, for Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "device/processor.h"
#include "device/program.h"
#include "host/bindings.h"

namespace nb = nanobind;
using namespace gatecast;

namespace {

using ByteArray = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Fields = std::map<std::string, std::tuple<int, int, int, bool>>;

Layout layout_of(const std::map<int, std::tuple<std::string, Fields>>& kinds) {
  Layout layout;
  for (const auto& [opcode, kind] : kinds) {
    Kind& made = layout[opcode];
    made.name = std::get<0>(kind);
    for (const auto& [name, place] : std::get<1>(kind)) {
      const auto& [word, bit, bits, is_signed] = place;
      made.places[name] = {word, bit, bits, is_signed};
    }
  }
  return layout;
}

Sizes sizes_of(const std::map<std::string, size_t>& sizes) {
  return {sizes.at("activation"),  sizes.at("weight"),    sizes.at("vector"), sizes.at("weight_wrap"),
          sizes.at("zero_blocks"), sizes.at("workspace"), sizes.at("inputs"), sizes.at("outputs")};
}

const Kernels& kernels_named(const std::string& name) {
  for (const Kernels* kernels : kernels_of_this_processor())
    if (name == kernels->name) return *kernels;
  throw nb::value_error(("this processor has no " + name).c_str());
}

// Keeps what a Program points into.
class LoadedProgram {
 public:
  LoadedProgram(const std::map<int, std::tuple<std::string, Fields>>& kinds, ByteArray text, size_t prologue,
                const std::map<std::string, size_t>& sizes, ByteArray weights, const std::string& kernels, int threads,
                const std::string& digest, bool all_tiles)
      : weights_(weights), inputs_(sizes.at("inputs")) {
    if (text.size() % (4 * kInstructionWords)) throw nb::value_error("text must be whole instructions");
    if (threads < 1) throw nb::value_error("threads must be at least 1");
    std::vector<uint32_t> words(text.size() / 4);
    memcpy(words.data(), text.data(), text.size());
    const Layout layout = layout_of(kinds);
    nb::gil_scoped_release release;
    program_ = std::make_unique<Program>(layout, words.data(), words.size() / kInstructionWords, prologue,
                                         sizes_of(sizes), Memory::Section{weights_.data(), weights_.size()},
                                         kernels_named(kernels), threads, digest, all_tiles);
  }

  nb::bytes run(ByteArray inputs) { return run_timed(inputs, nullptr); }

  nb::bytes run_profiled(ByteArray inputs, nb::ndarray<uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> times) {
    return run_timed(inputs, times.data());
  }

  std::string kernels() const { return program_->kernels().name; }
  int threads() const { return program_->threads(); }
  uintptr_t packed_address() const { return reinterpret_cast<uintptr_t>(program_->packed()->bytes.data()); }
  size_t packed_bytes() const { return program_->packed()->bytes.size(); }
  int tilings() const { return program_->tilings(); }
  int kept_maps() const { return program_->kept_maps(); }

 private:
  nb::bytes run_timed(ByteArray inputs, uint64_t* nanoseconds) {
    if (inputs.size() != inputs_) throw nb::value_error("inputs must have the size of their section");
    std::unique_lock turn(program_->lock(), std::defer_lock);
    {
      nb::gil_scoped_release release;
      turn.lock();
      program_->run(inputs.data(), nanoseconds);
    }
    const auto& outputs = program_->outputs();
    return nb::bytes(outputs.data(), outputs.size());
  }

  ByteArray weights_;
  size_t inputs_;
  std::unique_ptr<Program> program_;
};

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : kernels_of_this_processor()) names.emplace_back(kernels->name);
  return names;
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("instruction_sets", &instruction_sets);
  bind_host(m);
  bind_pictures(m);
  nb::class_<LoadedProgram>(m, "Program")
      .def(nb::init<const std::map<int, std::tuple<std::string, Fields>>&, ByteArray, size_t,
                    const std::map<std::string, size_t>&, ByteArray, const std::string&, int, const std::string&,
                    bool>(),
           nb::arg("kinds"), nb::arg("text"), nb::arg("prologue"), nb::arg("sizes"), nb::arg("weights"),
           nb::arg("instruction_set"), nb::arg("threads"), nb::arg("digest") = "", nb::arg("all_tiles") = false)
      .def("run", &LoadedProgram::run, nb::arg("inputs"))
      .def("run_profiled", &LoadedProgram::run_profiled, nb::arg("inputs"), nb::arg("nanoseconds"))
      .def_prop_ro("instruction_set", &LoadedProgram::kernels)
      .def_prop_ro("threads", &LoadedProgram::threads)
      .def_prop_ro("packed_address", &LoadedProgram::packed_address)
      .def_prop_ro("packed_bytes", &LoadedProgram::packed_bytes)
      .def_prop_ro("tilings", &LoadedProgram::tilings)
      .def_prop_ro("kept_maps", &LoadedProgram::kept_maps);
}
