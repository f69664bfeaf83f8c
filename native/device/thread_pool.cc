#include "thread_pool.h"

#include <unistd.h>

#include <chrono>
#include <map>

#include "float_state.h"

namespace gatecast {
namespace {

constexpr auto kSpin = std::chrono::microseconds(100);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

int parts_of(uint64_t ticket) { return int(ticket >> 20) & kMostParts; }
int next_of(uint64_t ticket) { return int(ticket) & kMostParts; }

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { serve(); });
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
    for (int i = 0; i < parts; ++i) part(work, i);
    return;
  }
  part_.store(part, std::memory_order_relaxed);
  work_.store(work, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t piece = (ticket_.load(std::memory_order_relaxed) >> 40) + 1;
  ticket_.store(piece << 40 | uint64_t(parts) << 20);  // sequentially consistent with `sleepers_`: no wake-up is lost
  if (sleepers_.load()) {
    std::lock_guard guard(sleep_);
    wake_.notify_all();
  }
  take_parts();
  for (int spins = 0; done_.load(std::memory_order_acquire) < parts; ++spins) {
    if (spins < 4000)
      pause();
    else
      std::this_thread::yield();  // a worker lost its processor
  }
}

void ThreadPool::take_parts() {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (next_of(ticket) < parts_of(ticket)) {
    const Part part = part_.load(std::memory_order_relaxed);
    const void* work = work_.load(std::memory_order_relaxed);
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    part(work, next_of(ticket));
    done_.fetch_add(1, std::memory_order_release);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::serve() {
  const FloatState state;
  do take_parts();
  while (wait_for_more(ticket_.load(std::memory_order_acquire)));
}

// Waits until there is something to take; false when the pool ends. `seen` has nothing left, or has by now.
bool ThreadPool::wait_for_more(uint64_t seen) {
  const auto more = [&] {
    const uint64_t ticket = ticket_.load();
    return ticket >> 40 != seen >> 40 || next_of(ticket) < parts_of(ticket);
  };
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  for (int spins = 1; !more(); ++spins) {
    if (stop_) return false;
    pause();
    if (spins % 64 == 0 && std::chrono::steady_clock::now() > deadline) break;
  }
  if (more()) return !stop_;
  std::unique_lock guard(sleep_);
  ++sleepers_;
  wake_.wait(guard, [&] { return stop_ || more(); });
  --sleepers_;
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
