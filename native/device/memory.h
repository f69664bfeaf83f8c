// Memories of a Program: docs/spec/isa.md §2. As large as it needs, and all there is: a run allocates nothing.
#pragma once
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <memory>
#include <new>

#include "instruction.h"
#include "kernels.h"

namespace gatecast {

// Zeroed memory of a fixed size, in large pages where it is large.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : count_(count) {
    if (!count) return;
    const size_t alignment = count * sizeof(T) >= kLarge ? kLarge : 64;
    const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
    data_.reset(static_cast<T*>(aligned_alloc(alignment, bytes)));
    if (!data_) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (alignment == kLarge) madvise(data_.get(), bytes, MADV_HUGEPAGE);
#endif
    memset(static_cast<void*>(data_.get()), 0, bytes);
  }

  T* data() const { return data_.get(); }
  size_t size() const { return count_; }
  T& operator[](size_t i) const { return data_.get()[i]; }

 private:
  static constexpr size_t kLarge = size_t(1) << 21;
  struct Free {
    void operator()(T* p) const { free(p); }
  };
  size_t count_ = 0;
  std::unique_ptr<T, Free> data_;
};

struct Sizes {
  size_t blocks, panels, vectors;  // of the on-chip memories
  size_t weight_wrap;              // weight memory continues at 0 after so many panels
  size_t zero_blocks;              // longest run of blocks that a sum takes from one pixel
  size_t workspace, inputs, outputs;
};

class Memory {
 public:
  Memory(const Sizes& sizes, const uint8_t* weights, size_t weight_bytes, uint8_t flip)
      : mantissas((sizes.blocks + sizes.zero_blocks) * kBlock),
        steps(sizes.blocks + sizes.zero_blocks),
        vectors(sizes.vectors * kLanes),
        workspace(sizes.workspace),
        outputs(sizes.outputs),
        zero_block(int32_t(sizes.blocks)),
        sections{{weights, weight_bytes}, {workspace.data(), workspace.size()}, {nullptr, sizes.inputs}, {outputs.data(), outputs.size()}} {
    if (mantissas.size()) memset(mantissas.data(), flip, mantissas.size());
  }

  // View `name` of an instruction; not present where its format is none.
  View view(const Instruction& i, const std::string& name) const {
    const int64_t format = i(name + "_format"), address = i(name + "_address");
    View v;
    if (!format) return v;
    v.row = i(name + "_row"), v.pixel = i(name + "_pixel");
    v.bits = mantissa_bits(format);
    if (!v.bits) {
      v.vectors = vectors.data() + address * kLanes;
    } else {
      v.mantissas = mantissas.data() + address * kBlock;
      v.steps = steps.data() + address;
    }
    return v;
  }

  struct Section {
    const uint8_t* data;
    size_t size;
  };

  Buffer<uint8_t> mantissas;
  Buffer<float> steps;
  Buffer<float> vectors;
  Buffer<uint8_t> workspace, outputs;
  int32_t zero_block;  // first of a run of blocks of zeros
  Section sections[4];
};

}  // namespace gatecast
