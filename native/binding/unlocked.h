// Native calls without the GIL, at the end of the interpreter too, and Ctrl-C within long ones.

#pragma once

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

namespace draftwood {

/// Releases the GIL for as long as it lives.
///
/// Unlike nanobind's, it never comes back to an interpreter that ends: a daemon thread in a native
/// call would be ended there by unwinding its C++ frames, which aborts the process. It sleeps
/// instead until the process is gone.
class Unlocked {
 public:
  Unlocked();
  ~Unlocked();
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

  /// Whether this thread is within one: it does not hold the GIL then.
  static bool active() noexcept;

 private:
  PyThreadState* state_;
};

/// Prepares for the end of the interpreter; once, when the module is made.
void bind_exit(nanobind::module_& module);

/// Lets Python's signal handlers run, so that Ctrl-C ends a long call. Throws what they raise. Takes
/// the GIL for a moment; for callers that do not hold it.
void run_signal_handlers();

/// Calls work(part) without the GIL for parts of `all` in their order, and lets signal handlers run
/// between them. What they raise ends it: the parts before are done.
template <class T, class Work>
void in_slices(std::span<const T> all, std::size_t slice, const Work& work) {
  std::size_t done = 0;
  do {
    if (done > 0 && PyErr_CheckSignals() != 0) throw nanobind::python_error();
    const std::span<const T> part = all.subspan(done, std::min(slice, all.size() - done));
    const Unlocked unlocked;
    work(part);
    done += part.size();
  } while (done < all.size());
}

/// Destroys what may wait for a disk, without the GIL where this thread holds it.
template <class T>
struct UnlockedDelete {
  void operator()(T* object) const {
    if (Unlocked::active()) {
      delete object;
    } else {
      const Unlocked unlocked;
      delete object;
    }
  }
};

}  // namespace draftwood
