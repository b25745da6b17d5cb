// fork() while other threads are at work.
//
// A child has only the thread that forked. Whatever lock another thread held at that moment would
// stay locked in the child for ever, and what it guards would be half done. So fork() first waits
// for every lock in this list; the child begins with fresh ones.

#pragma once

#include <new>

namespace draftwood {

/// An object that has something to do around fork(), for as long as the hook lives. Declare it after
/// the members that it uses.
class ForkHook {
 public:
  enum class Side { kParent, kChild };
  using Before = void (*)(void* object);
  using After = void (*)(void* object, Side side);
  /// Pools are held before locks, since the calls that hold a pool take locks in its threads.
  enum class Kind { kPool, kLock };

  ForkHook(Kind kind, void* object, Before before, After after);
  ~ForkHook();
  ForkHook(const ForkHook&) = delete;
  ForkHook& operator=(const ForkHook&) = delete;

 private:
  friend struct ForkList;
  Kind kind_;
  void* object_;
  Before before_;
  After after_;
  ForkHook* previous_ = nullptr;
  ForkHook* next_ = nullptr;
};

/// A mutex that no thread but the forking one can hold in a child of fork(). Nobody may wait for one
/// while holding another, nor create or destroy one while holding one.
template <class Mutex>
class ForkSafe : public Mutex {
 private:
  static void hold(void* object) { static_cast<ForkSafe*>(object)->lock(); }
  static void give_back(void* object, ForkHook::Side side) {
    auto* const mutex = static_cast<ForkSafe*>(object);
    if (side == ForkHook::Side::kParent) {
      mutex->unlock();
    } else {
      // Not unlocked: it knows its owner and its waiters by thread, and the child has others.
      ::new (static_cast<Mutex*>(mutex)) Mutex();
    }
  }

  ForkHook hook_{ForkHook::Kind::kLock, this, hold, give_back};
};

}  // namespace draftwood
