// A thread pool for batch calls.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace draftwood {

class ForkHook;

/// Threads that share the items of one call at a time; the caller works along, so that a call ends
/// even where no other thread is free. fork() waits for the call that has the pool; a child starts
/// threads of its own.
class ThreadPool {
 public:
  /// `threads`: at most so many work, the caller included. They start with the first call that has
  /// work for two.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Calls work(0) to work(count - 1), in any order, and returns when all have ended. Rethrows the
  /// first exception; the other items are worked off all the same. From several threads at once:
  /// one gets the pool, the others work alone.
  void run(std::size_t count, const std::function<void(std::size_t)>& work);

  [[nodiscard]] unsigned threads() const { return threads_; }

 private:
  struct State;
  unsigned threads_;
  std::shared_ptr<State> state_;  ///< of the threads too, which may outlive the pool by a moment
  std::unique_ptr<ForkHook> fork_;
};

}  // namespace draftwood
