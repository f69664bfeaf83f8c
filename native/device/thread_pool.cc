#include "thread_pool.h"

#include <unistd.h>

#include <chrono>
#include <map>

#include "float_state.h"

namespace gatecast {
namespace {

// Of a worker between pieces, and of the caller at the end of one.
constexpr auto kSpin = std::chrono::microseconds(100);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spins until `met`; false if that takes too long.
template <class Condition>
bool spin(const Condition& met) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  for (int spins = 1; !met(); ++spins) {
    pause();
    if (spins % 64 == 0 && std::chrono::steady_clock::now() > deadline) return met();
  }
  return true;
}

uint64_t word_of(uint64_t piece, int64_t next, int64_t end) { return piece << 40 | uint64_t(end) << 20 | uint64_t(next); }
int end_of(uint64_t word) { return int(word >> 20) & kMostParts; }
int next_of(uint64_t word) { return int(word) & kMostParts; }

}  // namespace

ThreadPool::ThreadPool(int threads) : left_(size_t(threads)) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard guard(sleep_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int parts, Part part, const void* work) {
  if (workers_.empty() || parts <= 1) {
    for (int i = 0; i < parts; ++i) part(work, i, 0);
    return;
  }
  part_.store(part, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  parts_.store(parts, std::memory_order_relaxed);
  const uint64_t piece = piece_.load(std::memory_order_relaxed) + 1;
  const int64_t count = threads();
  for (int64_t i = 0; i < count; ++i)
    left_[size_t(i)].word.store(word_of(piece, parts * i / count, parts * (i + 1) / count), std::memory_order_release);
  piece_.store(piece);  // sequentially consistent with `sleepers_`: no wake-up is lost
  if (sleepers_.load()) {
    std::lock_guard guard(sleep_);
    wake_.notify_all();
  }
  take_parts(0);
  wait_until_done(parts);
}

// A worker may have lost its processor to another program: a caller that sleeps leaves it its own.
void ThreadPool::wait_until_done(int parts) {
  const auto done = [&] { return done_.load(std::memory_order_acquire) == parts; };
  if (spin(done)) return;
  std::unique_lock guard(sleep_);
  caller_sleeps_ = true;
  finished_.wait(guard, [&] { return done_.load() == parts; });
  caller_sleeps_ = false;
}

void ThreadPool::take_parts(int thread) {
  const int count = int(left_.size());
  for (int i = 0; i < count; ++i) take(left_[size_t((thread + i) % count)], thread, i == 0);
}

// Takes parts of a run until none is left: of one's own the first, of another's the last.
void ThreadPool::take(Left& left, int thread, bool own) {
  uint64_t word = left.word.load(std::memory_order_acquire);
  while (next_of(word) < end_of(word)) {
    const Part part = part_.load(std::memory_order_relaxed);
    const void* work = work_.load(std::memory_order_relaxed);
    const int number = own ? next_of(word) : end_of(word) - 1;
    const uint64_t rest = own ? word + 1 : word - (uint64_t(1) << 20);
    if (!left.word.compare_exchange_weak(word, rest, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    part(work, number, thread);
    const int all = parts_.load(std::memory_order_relaxed);  // of this piece, which lasts until the next line
    if (done_.fetch_add(1) + 1 == all && caller_sleeps_) {
      std::lock_guard guard(sleep_);
      finished_.notify_one();
    }
    word = left.word.load(std::memory_order_acquire);
  }
}

void ThreadPool::serve(int thread) {
  const FloatState state;
  uint64_t seen;
  do {
    seen = piece_.load(std::memory_order_acquire);
    take_parts(thread);
  } while (wait_for_more(seen));
}

// Waits for a piece after `seen`; false when the pool ends.
bool ThreadPool::wait_for_more(uint64_t seen) {
  const auto more = [&] { return stop_ || piece_.load() != seen; };
  if (!spin(more)) {
    std::unique_lock guard(sleep_);
    ++sleepers_;
    wake_.wait(guard, more);
    --sleepers_;
  }
  return !stop_;
}

std::shared_ptr<ThreadPool> ThreadPool::shared(int threads) {
  static std::mutex lock;
  static std::map<int, std::shared_ptr<ThreadPool>> pools;
  static pid_t process = getpid();
  std::lock_guard guard(lock);
  if (process != getpid()) {
    // The threads did not come along, so these pools can be neither used nor ended: they are left alone.
    for (auto& [count, pool] : pools) new std::shared_ptr<ThreadPool>(std::move(pool));
    pools.clear();
    process = getpid();
  }
  auto& pool = pools[threads];
  if (!pool) pool = std::make_shared<ThreadPool>(threads);
  return pool;
}

}  // namespace gatecast
