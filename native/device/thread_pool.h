// Threads that share the parts of one piece of work. They spin for a short while between pieces, then sleep.
//
// Each thread begins with a run of neighbouring parts of its own, from the first; with none left it takes the last of
// another's. So threads write side by side only where their runs meet, and find what they wrote in their own caches
// when the next piece reads it; and a thread that lost its processor keeps the others waiting for one part only.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace gatecast {

// What runs on a thread: part number `part` of the work, on a thread's number from 0.
using Part = void (*)(const void* work, int part, int thread);

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
  // What is left of a thread's run: number of the piece, end and next part, all in one word, so that a thread that
  // comes late can never take a part of another piece than the one it looked at.
  struct alignas(64) Left {
    std::atomic<uint64_t> word{0};
  };

  void serve(int thread);
  void take_parts(int thread);
  void take(Left& left, int thread, bool own);
  bool wait_for_more(uint64_t seen);
  void wait_until_done(int parts);

  std::mutex lock_, sleep_;
  std::condition_variable wake_, finished_;
  std::vector<std::thread> workers_;
  std::vector<Left> left_;
  std::atomic<Part> part_{nullptr};
  std::atomic<const void*> work_{nullptr};
  alignas(64) std::atomic<uint64_t> piece_{0};
  alignas(64) std::atomic<int> done_{0};
  std::atomic<int> parts_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
};

}  // namespace gatecast
