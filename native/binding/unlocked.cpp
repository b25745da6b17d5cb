#include "unlocked.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace nb = nanobind;

namespace draftwood {
namespace {

std::atomic<bool> ending{false};     ///< the interpreter ends; only its main thread comes back
std::atomic<unsigned> returning{0};  ///< threads that wait for the GIL
std::atomic<std::thread::id> ender{};
thread_local unsigned depth = 0;

bool must_not_return() {
  return ending.load() && ender.load() != std::this_thread::get_id();
}

[[noreturn]] void sleep_for_ever() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

/// Runs in the main thread before the interpreter begins to end. Threads that are on their way back
/// come through; all others find out that they must not.
void before_end() {
  // Threads that never come back keep what they hold; nanobind would complain of leaks. Not all are
  // known to `threading`, but each has a frame; this one need not have one here.
  const auto frames = nb::cast<nb::dict>(nb::module_::import_("sys").attr("_current_frames")());
  const nb::object own = nb::module_::import_("_thread").attr("get_ident")();
  if (nb::len(frames) > (frames.contains(own) ? 1U : 0U)) nb::set_leak_warnings(false);
  ender.store(std::this_thread::get_id());
  ending.store(true);
  while (returning.load() != 0) {
    PyThreadState* const state = PyEval_SaveThread();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    PyEval_RestoreThread(state);
  }
}

}  // namespace

Unlocked::Unlocked() : state_(PyEval_SaveThread()) {
  ++depth;
  if (must_not_return()) sleep_for_ever();
}

Unlocked::~Unlocked() {
  returning.fetch_add(1);
  if (must_not_return()) {
    returning.fetch_sub(1);
    sleep_for_ever();
  }
  --depth;
  PyEval_RestoreThread(state_);
  returning.fetch_sub(1);
}

bool Unlocked::active() noexcept {
  return depth > 0;
}

void run_signal_handlers() {
  returning.fetch_add(1);
  if (must_not_return()) {
    returning.fetch_sub(1);
    sleep_for_ever();
  }
  const nb::gil_scoped_acquire locked;
  returning.fetch_sub(1);
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

void bind_exit(nb::module_& module) {
  // A child of fork() has none of the threads that were on their way back.
  ::pthread_atfork(nullptr, nullptr, [] { returning.store(0); });
  module.def("_before_end", before_end);
  nb::module_::import_("atexit").attr("register")(module.attr("_before_end"));
}

}  // namespace draftwood
