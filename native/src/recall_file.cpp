// A Recall file is the memory itself: header, owners, records, heads, and what was learned, mapped.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "draftwood/history.h"
#include "recall_impl.h"

namespace draftwood {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'W', 'R', 'E', 'C', 'A', 'L', 'L'};
constexpr std::uint32_t kVersion = 2;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kFlushed = std::size_t{1}
                                 << 25;  ///< bytes for one call that waits for a disk
constexpr RecallHeader kNoHeader{};

static_assert(std::endian::native == std::endian::little, "the file is the memory, little-endian");
static_assert(sizeof(RecallHeader) <= kPage);

std::size_t pages(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

[[noreturn]] void refuse(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

/// A file that is closed unless it is kept, and removed then if it was made here.
struct Handle {
  const std::string& path;
  int file = -1;
  bool made = false;

  ~Handle() {
    if (file < 0) return;
    if (made) ::unlink(path.c_str());
    ::close(file);
  }
  int keep() { return std::exchange(file, -1); }

  void open(bool write) {
    // O_NONBLOCK: opening a pipe by mistake must not wait for somebody at its other end.
    const int flags = O_CLOEXEC | O_NONBLOCK | (write ? O_RDWR : O_RDONLY);
    file = ::open(path.c_str(), flags);
    if (file < 0 && errno == ENOENT && write) {
      file = ::open(path.c_str(), flags | O_CREAT | O_EXCL, 0600);
      made = file >= 0;
      if (file < 0 && errno == EEXIST) file = ::open(path.c_str(), flags);
    }
    if (file < 0) refuse(path);
  }
};

/// Takes all of the disk that a file needs, so that no page of its mapping lacks it later. Returns
/// an error number, or 0. fresh: nothing stands in the file yet.
int take_disk(int file, std::uint64_t bytes, bool fresh, Pause pause) {
  int error = EOPNOTSUPP;
#if defined(__linux__)
  for (std::uint64_t at = 0; at < bytes; at += kFlushed) {
    const auto part = static_cast<off_t>(std::min<std::uint64_t>(kFlushed, bytes - at));
    do {
      error = ::posix_fallocate(file, static_cast<off_t>(at), part);
    } while (error == EINTR);
    if (error != 0) break;
    if (pause != nullptr) pause();
  }
#endif
  if (error != EOPNOTSUPP && error != EINVAL && error != ENOSYS) return error;
  if (!fresh) return 0;  // its pages were written when it was made
  const std::vector<std::byte> zeros(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < bytes;) {
    const std::size_t part = std::min<std::uint64_t>(zeros.size(), bytes - at);
    const ssize_t count = ::pwrite(file, zeros.data(), part, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : ENOSPC;
    at += static_cast<std::uint64_t>(count);
    if (pause != nullptr) pause();
  }
  return 0;
}

void validate(const RecallHeader& header, std::uint64_t file_bytes, const std::string& path,
              const TokenizerPrint& print) {
  if (header.magic != kMagic) {
    throw RecallError(RecallFault::kNotARecall, path + " does not begin as a Recall file does");
  }
  const bool first = header.version == 1;
  if (!first && header.version != kVersion) {
    throw RecallError(RecallFault::kNewer, path + " is of version " +
                                               std::to_string(header.version) +
                                               "; this reads versions 1 and 2");
  }
  RecallHeader expected{};
  if ((first ? header.seed : header.check) != check_of(header) ||
      header.capacity < Recall::kLeastTokens || header.capacity % kBlock != 0 ||
      header.capacity > Recall::kMostTokens) {
    throw RecallError(RecallFault::kMalformed, path + " has a damaged header");
  }
  if (!first && header.sections != 0) {
    throw RecallError(RecallFault::kNewer, path + " has a section that this release does not know");
  }
  begin_header(expected, header.capacity, header.print, 0);
  if (header.header_bytes != expected.header_bytes || header.order_bits != expected.order_bits ||
      header.file_bytes != expected.file_bytes || header.written > header.claimed) {
    throw RecallError(RecallFault::kMalformed, path + " has a damaged header");
  }
  if (file_bytes < header.file_bytes) {
    throw RecallError(RecallFault::kTruncated, path + " has " + std::to_string(file_bytes) +
                                                   " of " + std::to_string(header.file_bytes) +
                                                   " bytes");
  }
  if (print != TokenizerPrint{} && header.print != TokenizerPrint{} && header.print != print) {
    throw RecallError(RecallFault::kFingerprint, path + " was written with another tokenizer");
  }
}

}  // namespace

RecallLayout RecallLayout::of(std::uint32_t capacity) {
  RecallLayout layout{};
  const auto bits = recall::Ring::head_bits(capacity);
  layout.owners = kPage;
  layout.records = layout.owners + pages(std::size_t{capacity} / kBlock * sizeof(std::uint64_t));
  std::size_t at = layout.records + pages(std::size_t{capacity} * sizeof(recall::Record));
  for (std::size_t k = 0; k < recall::kOrders; ++k) {
    layout.heads[k] = at;
    at += pages((std::size_t{1} << bits[k]) * sizeof(std::uint32_t));
  }
  layout.model = at;
  layout.total = at + pages(recall::Model::kWords * sizeof(std::uint32_t));
  return layout;
}

std::uint64_t check_of(const RecallHeader& header) noexcept {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  if (header.version != 1) return crc32c(bytes.first(offsetof(RecallHeader, check)));
  std::uint64_t hash = 0xCBF29CE484222325U;  // FNV-1a
  for (const std::byte byte : bytes.first(offsetof(RecallHeader, seed))) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3U;
  }
  return hash;
}

void begin_header(RecallHeader& header, std::size_t max_tokens, const TokenizerPrint& print,
                  std::uint64_t seed) {
  if (max_tokens < Recall::kLeastTokens || max_tokens > Recall::kMostTokens) {
    throw std::invalid_argument("max_tokens is " + std::to_string(max_tokens) + "; use " +
                                std::to_string(Recall::kLeastTokens) + " to " +
                                std::to_string(Recall::kMostTokens));
  }
  const auto capacity = static_cast<std::uint32_t>(max_tokens / kBlock * kBlock);
  const auto bits = recall::Ring::head_bits(capacity);
  header.magic = kMagic;
  header.version = kVersion;
  header.header_bytes = sizeof(RecallHeader);
  header.file_bytes = RecallLayout::of(capacity).total;
  header.capacity = capacity;
  header.order_bits = bits[0] | bits[1] << 8 | bits[2] << 16;
  header.print = print;
  header.seed = seed;
  header.sections = 0;
  header.check = check_of(header);
}

RecallMemory::~RecallMemory() {
  lost_.leave();
  if (data_ != nullptr) ::munmap(data_, size_);
  if (file_ >= 0) ::close(file_);
}

void RecallMemory::allocate(const RecallHeader& header) {
  const std::size_t bytes = header.file_bytes;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  ::madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
  capacity_ = header.capacity;
  version_ = header.version;
  seed_ = header.seed;
  std::memcpy(data_, &header, sizeof header);
}

void RecallMemory::map(const std::string& path, bool write, std::size_t max_tokens,
                       const TokenizerPrint& print, std::uint64_t seed, Pause pause) {
  Handle handle{path};
  handle.open(write);
  struct stat status{};
  if (::fstat(handle.file, &status) != 0) refuse(path);
  if (S_ISDIR(status.st_mode)) throw std::system_error(EISDIR, std::generic_category(), path);
  if (!S_ISREG(status.st_mode)) {
    throw RecallError(RecallFault::kNotARecall,
                      path + " is not a regular file; pass the path of a Recall file");
  }
  if (write && ::flock(handle.file, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) refuse(path);  // no lock to be had, as on some network disks
    handle.made = false;                     // another writer found it before we had the lock
    throw RecallError(RecallFault::kBusy, path + " is open for writing in another process");
  }
  RecallHeader header{};
  const ssize_t got = ::pread(handle.file, &header, sizeof header, 0);
  if (got < 0) refuse(path);
  RecallHeader fresh{};
  begin_header(fresh, max_tokens, print, seed);
  // A writer that died before it wrote the header leaves nothing, or zeros of the file's full
  // length.
  const bool zeros = std::memcmp(&header, &kNoHeader, sizeof header) == 0;
  if (write && zeros &&
      (got == 0 || static_cast<std::uint64_t>(status.st_size) == fresh.file_bytes)) {
    header = fresh;
    if (const int error = take_disk(handle.file, header.file_bytes, true, pause); error != 0) {
      if (got == 0) static_cast<void>(::ftruncate(handle.file, 0) == 0);
      throw std::system_error(error, std::generic_category(), path);
    }
    if (::pwrite(handle.file, &header, sizeof header, 0) != sizeof header) refuse(path);
  } else {
    if (static_cast<std::size_t>(got) < sizeof header.magic || header.magic != kMagic) {
      throw RecallError(RecallFault::kNotARecall, path + " does not begin as a Recall file does");
    }
    if (static_cast<std::size_t>(got) < sizeof header) {
      throw RecallError(RecallFault::kTruncated, path + " ends within its header");
    }
    validate(header, static_cast<std::uint64_t>(status.st_size), path, print);
    const int error = write ? take_disk(handle.file, header.file_bytes, false, pause) : 0;
    if (error != 0) throw std::system_error(error, std::generic_category(), path);
  }
  // Mapped through another open file than the locked one: a mapping keeps its file open, and with it
  // a lock, also in a child of fork() that has closed the file.
  Handle mapped{path};
  mapped.open(write);
  struct stat again{};
  if (::fstat(mapped.file, &again) != 0) refuse(path);
  if (again.st_ino != status.st_ino || again.st_dev != status.st_dev) {
    throw RecallError(RecallFault::kReplaced,
                      path + " was replaced while it was opened; try again");
  }
  void* memory = ::mmap(nullptr, header.file_bytes, write ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED, mapped.file, 0);
  if (memory == MAP_FAILED) refuse(path);
  data_ = static_cast<std::byte*>(memory);
  size_ = header.file_bytes;
  capacity_ = header.capacity;
  version_ = header.version;
  seed_ = header.seed;
  file_ = handle.keep();
  path_ = path;
  named_ = again.st_nlink != 0;
  lost_.watch(data_, size_);
}

void RecallMemory::tell_lost() const {
  throw RecallError(RecallFault::kTruncated,
                    path_ + " was cut while it was in use; open a new one");
}

void RecallMemory::require_whole() const {
  require_pages();
  if (file_ < 0) return;
  struct stat ours{};
  if (::fstat(file_, &ours) != 0) refuse(path_);
  if (static_cast<std::uint64_t>(ours.st_size) < size_) {
    throw RecallError(RecallFault::kTruncated,
                      path_ + " was cut to " + std::to_string(ours.st_size) + " of " +
                          std::to_string(size_) + " bytes while it was open; open a new one");
  }
  struct stat named{};  // a relative path may mean another folder by now
  const bool replaced = path_.front() == '/' && ::stat(path_.c_str(), &named) == 0 &&
                        (named.st_ino != ours.st_ino || named.st_dev != ours.st_dev);
  if ((named_ && ours.st_nlink == 0) || replaced) {
    throw RecallError(RecallFault::kReplaced,
                      path_ + " was removed or replaced while it was open; open the new one");
  }
}

void RecallMemory::leave() noexcept {
  if (file_ < 0) return;
  ::close(file_);  // the parent's lock stays: it is one open file for both
  file_ = -1;
  ::mprotect(data_, size_, PROT_READ);
}

void RecallMemory::flush(Pause pause) const {
  if (file_ < 0) return;
  require_whole();
  for (std::size_t at = 0; at < size_; at += kFlushed) {
    if (::msync(data_ + at, std::min(kFlushed, size_ - at), MS_SYNC) != 0) refuse(path_);
    if (pause != nullptr) pause();
  }
}

}  // namespace draftwood
