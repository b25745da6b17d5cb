#include "draftwood/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "fork.h"

namespace draftwood {
namespace {

/// The items of one call.
struct Job {
  const std::function<void(std::size_t)>& work;
  std::size_t count;
  std::atomic<std::size_t> next{0};
  std::mutex mutex{};
  std::exception_ptr error{};

  void share() {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

}  // namespace

struct ThreadPool::State {
  std::mutex turn;  ///< held by the call that has the pool
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable idle;
  Job* job = nullptr;
  std::size_t calls = 0;
  unsigned inside = 0;  ///< threads at work on the job
  bool started = false;
  bool stop = false;

  void serve() {
    std::size_t served = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [&] { return stop || (job != nullptr && calls != served); });
      if (stop) return;
      Job& mine = *job;
      served = calls;
      ++inside;
      lock.unlock();
      mine.share();
      lock.lock();
      if (--inside == 0) idle.notify_one();
    }
  }
};

ThreadPool::ThreadPool(unsigned threads)
    : threads_(threads), state_(std::make_shared<State>()) {
  const auto hold = [](void* object) {
    State& state = *static_cast<ThreadPool*>(object)->state_;
    state.turn.lock();
    state.mutex.lock();
  };
  const auto give_back = [](void* object, ForkHook::Side side) {
    auto& pool = *static_cast<ThreadPool*>(object);
    if (side == ForkHook::Side::kParent) {
      pool.state_->mutex.unlock();
      pool.state_->turn.unlock();
    } else {
      // The threads that wait in the old one do not exist here; it cannot be destroyed.
      static_cast<void>(new std::shared_ptr<State>(std::move(pool.state_)));
      pool.state_ = std::make_shared<State>();
    }
  };
  fork_ = std::make_unique<ForkHook>(ForkHook::Kind::kPool, this, hold, give_back);
}

ThreadPool::~ThreadPool() {
  fork_.reset();
  const std::lock_guard lock(state_->mutex);
  state_->stop = true;
  state_->wake.notify_all();
}

void ThreadPool::run(std::size_t count, const std::function<void(std::size_t)>& work) {
  Job job{work, count};
  const std::unique_lock turn(state_->turn, std::try_to_lock);
  if (threads_ < 2 || count < 2 || !turn.owns_lock()) {
    job.share();
  } else {
    {
      const std::lock_guard lock(state_->mutex);
      state_->job = &job;
      ++state_->calls;
      if (!state_->started) {
        // Detached: a child of fork() has none of them, and nothing to join.
        for (unsigned i = 1; i < threads_; ++i) {
          std::thread([state = state_] { state->serve(); }).detach();
        }
        state_->started = true;
      }
    }
    state_->wake.notify_all();
    job.share();
    std::unique_lock lock(state_->mutex);
    state_->job = nullptr;
    state_->idle.wait(lock, [&] { return state_->inside == 0; });
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace draftwood
