#include "peak.h"

#include <stdint.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../device/memory.h"
#include "../device/tile_settings.h"

namespace gatecast {
namespace {

constexpr int kAttempts = 12;

// Runs the same work on some threads at once; the shortest of some times, in nanoseconds.
template <class Work>
double best_time(int threads, const Work& work) {
  double best = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int number = 1; number < threads; ++number) others.emplace_back([&work, number] { work(number); });
    work(0);
    for (std::thread& other : others) other.join();
    const std::chrono::duration<double, std::nano> passed = std::chrono::steady_clock::now() - start;
    if (!attempt || passed.count() < best) best = passed.count();
  }
  return best;
}

constexpr int64_t kLoops = 1 << 20;

#if defined(__x86_64__)
// Twelve chains, so that none waits for its own last result.
__attribute__((target("avx512f,avx512vnni"))) void multiply_avx512vnni(int) {
  const __m512i a = _mm512_set1_epi32(0x01020304), w = _mm512_set1_epi32(0x01010101);
  __m512i s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a;
  for (int64_t i = 0; i < kLoops; ++i)
    asm volatile(
        "vpdpbusd %12, %13, %0\n vpdpbusd %12, %13, %1\n vpdpbusd %12, %13, %2\n vpdpbusd %12, %13, %3\n"
        "vpdpbusd %12, %13, %4\n vpdpbusd %12, %13, %5\n vpdpbusd %12, %13, %6\n vpdpbusd %12, %13, %7\n"
        "vpdpbusd %12, %13, %8\n vpdpbusd %12, %13, %9\n vpdpbusd %12, %13, %10\n vpdpbusd %12, %13, %11\n"
        : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9),
          "+v"(s10), "+v"(s11)
        : "v"(a), "v"(w));
}

// Four products of tiles, so that none waits for its own last result. This processor has them: the caller looks.
void multiply_avx512amx(int) {
  const TileSettings settings(6);
  asm volatile("ldtilecfg %0\n tilezero %%tmm4\n tilezero %%tmm5" ::"m"(settings));
  for (int64_t i = 0; i < kLoops / 8; ++i)
    asm volatile(
        "tdpbf16ps %tmm5, %tmm4, %tmm0\n tdpbf16ps %tmm5, %tmm4, %tmm1\n"
        "tdpbf16ps %tmm5, %tmm4, %tmm2\n tdpbf16ps %tmm5, %tmm4, %tmm3");
  asm volatile("tilerelease");
}

// A product of pairs, its sum of pairs, and the addition to each chain.
__attribute__((target("avx2"))) void multiply_avx2(int) {
  const __m256i a = _mm256_set1_epi32(0x01020304), w = _mm256_set1_epi32(0x01010101), ones = _mm256_set1_epi16(1);
  __m256i s0 = a, s1 = a, s2 = a, s3 = a, t0, t1, t2, t3;
  for (int64_t i = 0; i < kLoops; ++i)
    asm volatile(
        "vpmaddubsw %8, %9, %4\n vpmaddubsw %8, %9, %5\n vpmaddubsw %8, %9, %6\n vpmaddubsw %8, %9, %7\n"
        "vpmaddwd %10, %4, %4\n vpmaddwd %10, %5, %5\n vpmaddwd %10, %6, %6\n vpmaddwd %10, %7, %7\n"
        "vpaddd %4, %0, %0\n vpaddd %5, %1, %1\n vpaddd %6, %2, %2\n vpaddd %7, %3, %3\n"
        : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "=&x"(t0), "=&x"(t1), "=&x"(t2), "=&x"(t3)
        : "x"(a), "x"(w), "x"(ones));
}
#endif

uint64_t read_words(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8)
    for (int n = 0; n < 8; ++n) sums[n] ^= words[i + n];
  for (int n = 1; n < 8; ++n) sums[0] ^= sums[n];
  return sums[0];
}

}  // namespace

double peak_products(const std::string& instruction_set, int threads) {
#if defined(__x86_64__)
  if (instruction_set == "avx512amx")
    return threads * (kLoops / 8) * 4 * (16. * 16 * 32) / best_time(threads, multiply_avx512amx);
  if (instruction_set == "avx512vnni") return threads * kLoops * 12 * 64 / best_time(threads, multiply_avx512vnni);
  if (instruction_set == "avx2") return threads * kLoops * 4 * 32 / best_time(threads, multiply_avx2);
#endif
  (void)instruction_set, (void)threads;
  return 0;
}

double peak_reading(size_t bytes, int threads) {
  const size_t share = std::max<size_t>(bytes / sizeof(uint64_t) / size_t(threads), 8);
  const Buffer<uint64_t> words(share * size_t(threads));
  const double time = best_time(threads, [&](int number) {
    const uint64_t sum = read_words(words.data() + share * size_t(number), share);
    asm volatile("" : : "r"(sum));  // it is needed
  });
  return double(words.size() * sizeof(uint64_t)) / time;
}

}  // namespace gatecast
