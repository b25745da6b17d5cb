// Atomic replacement of a file: written beside it, renamed over it when complete.

#pragma once

#include <memory>
#include <string>

namespace draftwood {

class ForkHook;

/// A new file beside a path, under a random name, that commit() puts in its place.
///
/// It gets the mode of the file that it replaces; where there was none, 0600. Where the path is a
/// link, the file that it leads to is replaced. What earlier ones for the same path left when their
/// process died is removed. A child of fork() has no part in it: commit() throws there, and its end
/// removes nothing. One thread at a time.
class Replacement {
 public:
  /// Throws std::system_error where nothing can be created beside the path, or where it is something
  /// else than a file.
  explicit Replacement(std::string path);
  ~Replacement();
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;

  /// The path, links resolved.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// To write to; -1 after commit() or abandon(), and in a child of fork().
  [[nodiscard]] int file() const noexcept { return file_; }
  /// Whether this is a child of the process that made it.
  [[nodiscard]] bool left() const noexcept { return left_; }

  /// Everything on disk, then the name: after a crash at any point the path holds the old file or the
  /// new one. Throws std::system_error.
  void commit();
  /// Removes the new file; nothing happens after commit().
  void abandon() noexcept;

 private:
  std::string path_;
  std::string beside_;
  int file_ = -1;
  bool left_ = false;
  std::unique_ptr<ForkHook> fork_;
};

}  // namespace draftwood
