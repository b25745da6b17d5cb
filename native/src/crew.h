// Threads that share the parts of one step after the other, without sleeping in between.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

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
    while (ended_.load(std::memory_order_acquire) < parts) pause();
  }

  /// Works on the steps of the leader till the last.
  void follow() {
    while (!done_.load(std::memory_order_acquire)) {
      share();
      pause();
    }
  }

  void done() { done_.store(true, std::memory_order_release); }

 private:
  /// Takes parts while there are some. Number, count and next part of a step are one word, so that a
  /// part that was taken is one of the step that is on, which cannot end without it.
  void share() {
    for (;;) {
      std::uint64_t turn = turn_.load(std::memory_order_acquire);
      if (next(turn) >= parts(turn)) return;
      if (!turn_.compare_exchange_weak(turn, turn + 1, std::memory_order_acq_rel)) continue;
      (*work_.load(std::memory_order_relaxed))(next(turn));
      ended_.fetch_add(1, std::memory_order_acq_rel);
    }
  }

  static std::size_t next(std::uint64_t turn) { return turn & 0xFFFFF; }
  static std::size_t parts(std::uint64_t turn) { return (turn >> 20) & 0xFFFFF; }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  std::atomic<std::uint64_t> turn_{0};
  std::atomic<const Work*> work_{nullptr};
  std::atomic<std::size_t> ended_{0};
  std::atomic<bool> done_{false};
  std::uint64_t steps_ = 0;
};

}  // namespace draftwood
