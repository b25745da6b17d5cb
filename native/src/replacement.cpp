#include "draftwood/replacement.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <system_error>
#include <utility>

#include "fork.h"

namespace draftwood {
namespace {

[[noreturn]] void fail_with_errno(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Where a link leads: it is the file that is replaced, not the link.
std::string resolved(std::string path) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  char* const real = ::realpath(path.c_str(), nullptr);
  if (real == nullptr) fail_with_errno(path);
  path = real;
  std::free(real);
  return path;
}

/// The mode of the file that will be replaced; of a new one, 0600. Throws for what is no file: a
/// device or a pipe would be gone.
mode_t mode_at(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return 0600;
  if (S_ISDIR(status.st_mode)) throw std::system_error(EISDIR, std::generic_category(), path);
  if (!S_ISREG(status.st_mode)) {
    throw std::system_error(EINVAL, std::generic_category(), path);
  }
  return status.st_mode & 07777;
}

// A file that is being written is `.NAME.0123456789abcdef.writing`, beside NAME, and its writer holds
// a lock on it. A lock ends with its process, however that ends; a process number says nothing: it
// comes again.
constexpr std::string_view kWriting = ".writing";
constexpr std::size_t kDigits = 16;

std::string random_digits() {
  std::random_device device;
  std::string digits;
  while (digits.size() < kDigits) digits += "0123456789abcdef"[device() & 0xFU];
  return digits;
}

bool is_beside(std::string_view name, std::string_view begin) {
  return name.size() == begin.size() + kDigits + kWriting.size() && name.starts_with(begin) &&
         name.ends_with(kWriting) &&
         name.substr(begin.size(), kDigits).find_first_not_of("0123456789abcdef") ==
             std::string_view::npos;
}

/// Removes what writers of the same path left that did not come to their end.
void remove_stale(const std::string& directory, std::string_view begin) {
  DIR* const entries = ::opendir(directory.c_str());
  if (entries == nullptr) return;  // then nothing can be created there either, or nothing be seen
  while (const dirent* const entry = ::readdir(entries)) {
    if (!is_beside(entry->d_name, begin)) continue;
    const std::string path = directory + "/" + entry->d_name;
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) continue;
    if (::flock(file, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
    ::close(file);
  }
  ::closedir(entries);
}

/// Creates a file of a new name that begins with `begin` and locks it; sets `path` to its name.
int create_locked(const std::string& begin, std::string& path) {
  for (;;) {
    path = begin + random_digits() + std::string(kWriting);
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST) continue;
    if (file < 0) return -1;
    // Where there are no locks, nobody takes ours for stale either. Where there are, another writer
    // may have found the file before it was locked.
    struct stat status{};
    const bool locked = ::flock(file, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    if (locked && ::fstat(file, &status) == 0 && status.st_nlink != 0) return file;
    ::close(file);
  }
}

void sync_directory(const std::string& directory) {
  const int file = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) fail_with_errno(directory);
  // Some file systems cannot sync a directory and say so with EINVAL; the rename stands anyway.
  const bool failed = ::fsync(file) != 0 && errno != EINVAL;
  const int error = errno;
  ::close(file);
  if (failed) throw std::system_error(error, std::generic_category(), directory);
}

}  // namespace

Replacement::Replacement(std::string path) : path_(resolved(std::move(path))) {
  mode_at(path_);
  const std::size_t slash = path_.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  std::string begin(1, '.');  // not "." + ...: g++ 12 warns of that by mistake
  begin += path_.substr(name) + ".";
  remove_stale(directory_of(path_), begin);
  file_ = create_locked(path_.substr(0, name) + begin, beside_);
  if (file_ < 0) fail_with_errno(path_);
  const auto leave = [](void* object, ForkHook::Side side) {
    auto& self = *static_cast<Replacement*>(object);
    if (side == ForkHook::Side::kParent || self.file_ < 0) return;
    ::close(self.file_);  // the file, its name and its lock are the parent's
    self.file_ = -1;
    self.left_ = true;
  };
  fork_ = std::make_unique<ForkHook>(ForkHook::Kind::kLock, this, [](void*) {}, leave);
}

Replacement::~Replacement() {
  fork_.reset();
  abandon();
}

void Replacement::abandon() noexcept {
  if (file_ < 0) return;
  ::unlink(beside_.c_str());  // before the lock goes with the file
  ::close(file_);
  file_ = -1;
}

void Replacement::commit() {
  if (file_ < 0) throw std::system_error(EBADF, std::generic_category(), path_);
  if (::fchmod(file_, mode_at(path_)) != 0) fail_with_errno(path_);
  if (::fsync(file_) != 0) fail_with_errno(path_);
  if (std::rename(beside_.c_str(), path_.c_str()) != 0) fail_with_errno(path_);
  ::close(file_);
  file_ = -1;
  sync_directory(directory_of(path_));
}

}  // namespace draftwood
