// Mapped files that somebody cuts while they are in use.
//
// A page of a mapping that lies beyond the end of its file raises SIGBUS when it is touched, which
// ends the process, and no look at the file's length comes early enough to exclude it. So for the
// mappings registered here a handler puts a page of zeros where the lost one was, and notes it: the
// touch goes on, and whoever touched finds out afterwards. All other faults go where they went before.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace draftwood {

/// Watches one mapping from `watch` to `leave`, for all threads. What reads the mapping must bear
/// zeros anywhere.
class LostPages {
 public:
  LostPages() = default;
  ~LostPages() { leave(); }
  LostPages(const LostPages&) = delete;
  LostPages& operator=(const LostPages&) = delete;

  /// The first call of a process sets its handler of SIGBUS. Throws std::bad_alloc,
  /// std::system_error.
  void watch(void* begin, std::size_t bytes);
  /// To be called before the mapping goes.
  void leave() noexcept;
  /// Whether a page was gone when it was touched.
  [[nodiscard]] bool any() const noexcept {
    return watched_ != nullptr && watched_->lost.load(std::memory_order_relaxed);
  }

  /// A mapping, in a list that the handler walks: it takes no lock, so nothing leaves the list.
  struct Watched {
    std::atomic<bool> taken{true};
    std::atomic<std::uintptr_t> begin{0};
    std::atomic<std::uintptr_t> end{0};
    std::atomic<bool> lost{false};
    Watched* next = nullptr;
  };

 private:
  Watched* watched_ = nullptr;
};

}  // namespace draftwood
