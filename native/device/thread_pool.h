// Threads that share the parts of one piece of work. They spin for a short while between pieces, then sleep.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gatecast {

// What runs on a thread: part number `part` of the work.
using Part = void (*)(const void* work, int part);

constexpr int kMostParts = (1 << 20) - 1;

class ThreadPool {
 public:
  // `threads` counts the caller's.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Runs all parts (at most kMostParts) and returns when they are done. One caller at a time: hold `lock`.
  void run(int parts, Part part, const void* work);

  int threads() const { return int(workers_.size()) + 1; }
  std::mutex& lock() { return lock_; }

  // The pool of this process with so many threads, made when it is first asked for; again in a forked child.
  static std::shared_ptr<ThreadPool> shared(int threads);

 private:
  void serve();
  void take_parts();
  bool wait_for_more(uint64_t seen);

  std::mutex lock_, sleep_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  std::atomic<Part> part_{nullptr};
  std::atomic<const void*> work_{nullptr};
  // Number of the piece, how many parts it has, and the next one: all in one word, so that a thread that comes late
  // can never take a part of another piece than the one it looked at.
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace gatecast
