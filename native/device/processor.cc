#include "processor.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tiling.h"
#endif

namespace gatecast {

#if defined(__x86_64__)
namespace {

// Whether this processor has tile registers for bfloat16, and the operating system lets this process use them.
bool may_use_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if ((d & kBf16) == 0 || (d & kTile) == 0) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // of arch_prctl, <asm/prctl.h>
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// All is AVX-512 VNNI's, but for the convolutions that tiles suit.
const Kernels& avx512amx() {
  static const Kernels kernels = [] {
    Kernels k = kAvx512Vnni;
    k.name = "avx512amx", k.tiles = &kAmxTiles;
    return k;
  }();
  return kernels;
}

}  // namespace
#endif

std::vector<const Kernels*> kernels_of_this_processor() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();  // asks the operating system too, whether it saves the wide registers
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) {
    static const bool amx = may_use_amx();
    if (amx) found.push_back(&avx512amx());
    found.push_back(&kAvx512Vnni);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
#elif defined(__aarch64__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found.push_back(&kNeon);
#endif
  found.push_back(&kPortable);
  return found;
}

}  // namespace gatecast
