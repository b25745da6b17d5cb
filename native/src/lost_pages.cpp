#include "lost_pages.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <system_error>

namespace draftwood {
namespace {

std::atomic<LostPages::Watched*> all{nullptr};
std::uintptr_t page_bytes = 0;
struct sigaction before{};

/// Puts zeros where a watched page is gone; false: the address is not ours, or there is no memory.
bool put_zeros(std::uintptr_t address) {
  for (LostPages::Watched* each = all.load(); each != nullptr; each = each->next) {
    if (address < each->begin.load() || address >= each->end.load()) continue;
    each->lost.store(true);
    void* const page = reinterpret_cast<void*>(address / page_bytes * page_bytes);
    return ::mmap(page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                  -1, 0) != MAP_FAILED;
  }
  return false;
}

/// Gives a signal to whoever had it before us.
void pass_on(int signal, siginfo_t* info, void* context) {
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    ::sigaction(signal, &before, nullptr);    // the touch is tried again, and ends as it would have
    if (info->si_code <= 0) ::raise(signal);  // or somebody sent the signal
  }
}

void handle(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const bool fault = info->si_code > 0;
  if (!fault || !put_zeros(reinterpret_cast<std::uintptr_t>(info->si_addr))) {
    pass_on(signal, info, context);
  }
  errno = error;
}

void set_handler() {
  page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction ours{};
  ours.sa_sigaction = handle;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigemptyset(&ours.sa_mask);
  // What was set is known before it can be asked for.
  if (::sigaction(SIGBUS, nullptr, &before) != 0 || ::sigaction(SIGBUS, &ours, nullptr) != 0) {
    throw std::system_error(errno, std::generic_category(), "sigaction");
  }
}

/// An entry that nobody uses any more, or a new one.
LostPages::Watched* take() {
  for (LostPages::Watched* each = all.load(); each != nullptr; each = each->next) {
    if (!each->taken.exchange(true)) return each;
  }
  auto* const made = new LostPages::Watched;
  made->next = all.load();
  while (!all.compare_exchange_weak(made->next, made)) {
  }
  return made;
}

}  // namespace

void LostPages::watch(void* begin, std::size_t bytes) {
  static std::once_flag once;
  std::call_once(once, set_handler);
  leave();
  watched_ = take();
  watched_->lost.store(false);
  watched_->begin.store(reinterpret_cast<std::uintptr_t>(begin));
  watched_->end.store(reinterpret_cast<std::uintptr_t>(begin) + bytes);
}

void LostPages::leave() noexcept {
  if (watched_ == nullptr) return;
  watched_->end.store(0);
  watched_->taken.store(false);
  watched_ = nullptr;
}

}  // namespace draftwood
