#include "fork.h"

#include <pthread.h>

#include <mutex>
#include <system_error>

namespace draftwood {

/// All hooks of this process, by kind. Never destroyed: threads may run until the process ends.
struct ForkList {
  std::mutex mutex;
  ForkHook* first[2] = {nullptr, nullptr};

  static ForkList& get() {
    static ForkList& list = *new ForkList();
    return list;
  }

  ForkList() {
    const int error = ::pthread_atfork(before, in_parent, in_child);
    if (error != 0) throw std::system_error(error, std::generic_category(), "pthread_atfork");
  }

  template <class Work>
  void each(const Work& work) const {
    for (ForkHook* hook : first) {
      for (; hook != nullptr; hook = hook->next_) work(*hook);
    }
  }

  static void before() {
    ForkList& list = get();
    list.mutex.lock();
    list.each([](ForkHook& hook) { hook.before_(hook.object_); });
  }
  static void in_parent() {
    ForkList& list = get();
    list.each([](ForkHook& hook) { hook.after_(hook.object_, ForkHook::Side::kParent); });
    list.mutex.unlock();
  }
  static void in_child() {
    ForkList& list = get();
    ::new (&list.mutex) std::mutex();
    list.each([](ForkHook& hook) { hook.after_(hook.object_, ForkHook::Side::kChild); });
  }

  ForkHook*& front(ForkHook::Kind kind) { return first[static_cast<int>(kind)]; }

  void enter(ForkHook& hook) {
    const std::lock_guard lock(mutex);
    ForkHook*& head = front(hook.kind_);
    hook.next_ = head;
    if (head != nullptr) head->previous_ = &hook;
    head = &hook;
  }
  void leave(const ForkHook& hook) {
    const std::lock_guard lock(mutex);
    (hook.previous_ != nullptr ? hook.previous_->next_ : front(hook.kind_)) = hook.next_;
    if (hook.next_ != nullptr) hook.next_->previous_ = hook.previous_;
  }
};

ForkHook::ForkHook(Kind kind, void* object, Before before, After after)
    : kind_(kind), object_(object), before_(before), after_(after) {
  ForkList::get().enter(*this);
}

ForkHook::~ForkHook() {
  ForkList::get().leave(*this);
}

}  // namespace draftwood
