// The engine without Python: replays cases that write_cases.py made, on each instruction set of this processor, and
// compares the bytes with what the reference device gave. For processors that only an emulator has here, and for
// compilers other than the one that builds the extension.
#include <fstream>
#include <iostream>
#include <iterator>

#include "../device/processor.h"
#include "../device/program.h"

using namespace gatecast;

namespace {

struct Case {
  Layout layout;
  Sizes sizes{};
  size_t prologue = 0;
  std::vector<uint32_t> text;
  std::vector<uint8_t> weights, inputs, expected;
};

template <class T>
T next(std::istream& in) {
  T value{};
  if (!(in >> value)) throw std::runtime_error("a case ends too early");
  return value;
}

template <class T>
std::vector<T> bytes(std::istream& in, size_t count) {
  std::vector<T> found(count / sizeof(T));
  in.read(reinterpret_cast<char*>(found.data()), std::streamsize(count));
  if (!in) throw std::runtime_error("a case ends too early");
  return found;
}

Layout read_layout(std::istream& in) {
  Layout layout;
  for (int kinds = next<int>(in); kinds > 0; --kinds) {
    Kind& kind = layout[next<int>(in)];
    kind.name = next<std::string>(in);
    for (int fields = next<int>(in); fields > 0; --fields) {
      const std::string field = next<std::string>(in);
      Place& place = kind.places[field];
      in >> place.word >> place.bit >> place.bits >> place.is_signed;
    }
  }
  return layout;
}

Case read_case(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (next<std::string>(in) != "gatecast-case-1") throw std::runtime_error(path + " is no case");
  Case c;
  c.layout = read_layout(in);
  Sizes& s = c.sizes;
  in >> s.blocks >> s.panels >> s.vectors >> s.weight_wrap >> s.zero_blocks >> s.workspace >> s.inputs >> s.outputs;
  c.prologue = next<size_t>(in);
  const size_t text = next<size_t>(in), weights = next<size_t>(in);
  in.get();  // the end of the last line
  c.text = bytes<uint32_t>(in, text);
  c.weights = bytes<uint8_t>(in, weights);
  c.inputs = bytes<uint8_t>(in, s.inputs);
  c.expected = bytes<uint8_t>(in, s.outputs);
  return c;
}

bool same(const Case& c, const Kernels& kernels, int threads, bool all_tiles) {
  Program program(c.layout, c.text.data(), c.text.size() / kInstructionWords, c.prologue, c.sizes,
                  {c.weights.data(), c.weights.size()}, kernels, threads, {}, all_tiles);
  for (int run = 0; run < 2; ++run) {  // memories that a run left behind must not matter
    program.run(c.inputs.data());
    if (memcmp(program.outputs().data(), c.expected.data(), c.expected.size())) return false;
  }
  return true;
}

}  // namespace

int main(int count, char** paths) {
  if (count < 2) {
    std::cerr << "usage: replay CASE...\n";
    return 2;
  }
  std::map<std::string, int> right;
  int wrong = 0;
  for (int i = 1; i < count; ++i) {
    const Case c = read_case(paths[i]);
    for (const Kernels* kernels : kernels_of_this_processor()) {
      for (const int threads : {1, 2}) {
        if (same(c, *kernels, threads, false) && (!kernels->tiles || same(c, *kernels, threads, true))) {
          ++right[kernels->name];
        } else {
          ++wrong;
          std::cout << paths[i] << ": other bytes on " << kernels->name << ", threads " << threads << "\n";
        }
      }
    }
  }
  for (const auto& [name, runs] : right) std::cout << name << ": " << runs << " runs gave the same bytes\n";
  return wrong ? 1 : 0;
}
