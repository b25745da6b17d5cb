// Threads that share the parts of one step after the other, without sleeping in between.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>

namespace draftwood {

/// The steps of one pass. One thread leads: it calls `step`, works along and goes on once every part
/// is done. Any number of others `follow` until the leader is `done`; where none does, the leader
/// works alone.
class Crew {
 public:
  using Work = std::function<void(std::size_t)>;

  /// Calls work(0) to work(parts - 1), parts < 2^20; returns when all have ended. No exceptions.
  void step(std::size_t parts, const Work& work) {
    if (parts == 1) return work(0);
    work_.store(&work, std::memory_order_relaxed);
    ended_.store(0, std::memory_order_relaxed);
    ++steps_;
    turn_.store((steps_ << 40) | (std::uint64_t{parts} << 20), std::memory_order_release);
    share();
    Wait wait;
    while (ended_.load(std::memory_order_acquire) < parts) wait.moment();
  }

  /// Works on the steps of the leader till the last.
  void follow() {
    Wait wait;
    while (!done_.load(std::memory_order_acquire)) {
      if (share()) wait = Wait();
      wait.moment();
    }
  }

  void done() { done_.store(true, std::memory_order_release); }

 private:
  /// Waits for some microseconds; then lets others have the processor, which may be what it waits for.
  class Wait {
   public:
    void moment() {
      if (++moments_ > 1000) return std::this_thread::yield();
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }

   private:
    int moments_ = 0;
  };

  /// Takes parts while there are some; whether there were. Number, count and next part of a step are one word, so that a
  /// part that was taken is one of the step that is on, which cannot end without it.
  bool share() {
    for (bool any = false;;) {
      std::uint64_t turn = turn_.load(std::memory_order_acquire);
      if (next(turn) >= parts(turn)) return any;
      if (!turn_.compare_exchange_weak(turn, turn + 1, std::memory_order_acq_rel)) continue;
      (*work_.load(std::memory_order_relaxed))(next(turn));
      ended_.fetch_add(1, std::memory_order_acq_rel);
      any = true;
    }
  }

  static std::size_t next(std::uint64_t turn) { return turn & 0xFFFFF; }
  static std::size_t parts(std::uint64_t turn) { return (turn >> 20) & 0xFFFFF; }

  std::atomic<std::uint64_t> turn_{0};
  std::atomic<const Work*> work_{nullptr};
  std::atomic<std::size_t> ended_{0};
  std::atomic<bool> done_{false};
  std::uint64_t steps_ = 0;
};

}  // namespace draftwood
