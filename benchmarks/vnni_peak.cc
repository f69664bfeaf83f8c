// GMAC/s of vpdpbusd alone, twelve chains in registers: the best of some tries. What no kernel can pass.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

int main() {
  constexpr long kLoops = 2000000;
  const __m512i a = _mm512_set1_epi32(0x01020304), w = _mm512_set1_epi32(0x01010101);
  double best = 0;
  for (int attempt = 0; attempt < 30; ++attempt) {
    __m512i t0 = a, t1 = a, t2 = a, t3 = a, t4 = a, t5 = a, t6 = a, t7 = a, t8 = a, t9 = a, t10 = a, t11 = a;
    const auto start = std::chrono::steady_clock::now();
    for (long i = 0; i < kLoops; ++i) {
      asm volatile(
          "vpdpbusd %12, %13, %0\n vpdpbusd %12, %13, %1\n vpdpbusd %12, %13, %2\n vpdpbusd %12, %13, %3\n"
          "vpdpbusd %12, %13, %4\n vpdpbusd %12, %13, %5\n vpdpbusd %12, %13, %6\n vpdpbusd %12, %13, %7\n"
          "vpdpbusd %12, %13, %8\n vpdpbusd %12, %13, %9\n vpdpbusd %12, %13, %10\n vpdpbusd %12, %13, %11\n"
          : "+v"(t0), "+v"(t1), "+v"(t2), "+v"(t3), "+v"(t4), "+v"(t5), "+v"(t6), "+v"(t7), "+v"(t8), "+v"(t9),
            "+v"(t10), "+v"(t11)
          : "v"(a), "v"(w));
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, kLoops * 12 * 64 / seconds.count() / 1e9);
  }
  std::printf("%.1f\n", best);
}
