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
#include <system_error>
#include <utility>

#include "recall_impl.h"

namespace draftwood {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'W', 'R', 'E', 'C', 'A', 'L', 'L'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kPage = 4096;
constexpr RecallHeader kNoHeader{};

static_assert(std::endian::native == std::endian::little, "the file is the memory, little-endian");
static_assert(sizeof(RecallHeader) <= kPage);

std::size_t pages(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

[[noreturn]] void refuse(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

/// Closes a file unless it is kept.
struct Handle {
  int file;
  ~Handle() {
    if (file >= 0) ::close(file);
  }
  int keep() { return std::exchange(file, -1); }
};

void validate(const RecallHeader& header, std::uint64_t file_bytes, const std::string& path,
              const TokenizerPrint& print) {
  if (header.magic != kMagic) {
    throw RecallError(RecallFault::kNotARecall, path + " does not begin as a Recall file does");
  }
  if (header.version != kVersion) {
    throw RecallError(
        RecallFault::kNewer,
        path + " is of version " + std::to_string(header.version) + "; this reads version 1");
  }
  RecallHeader expected{};
  if (header.check != check_of(header) || header.capacity < Recall::kLeastTokens ||
      header.capacity % kBlock != 0 || header.capacity > Recall::kMostTokens) {
    throw RecallError(RecallFault::kMalformed, path + " has a damaged header");
  }
  begin_header(expected, header.capacity, header.print);
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
  std::uint64_t hash = 0xCBF29CE484222325U;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  for (std::size_t i = 0; i < offsetof(RecallHeader, check); ++i) {
    hash = (hash ^ bytes[i]) * 0x100000001B3U;
  }
  return hash;
}

void begin_header(RecallHeader& header, std::size_t max_tokens, const TokenizerPrint& print) {
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
  header.check = check_of(header);
}

RecallMemory::~RecallMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
  if (file_ >= 0) ::close(file_);
}

void RecallMemory::allocate(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  ::madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
}

void RecallMemory::map(const std::string& path, bool write, std::size_t max_tokens,
                       const TokenizerPrint& print) {
  Handle handle{::open(path.c_str(), (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0600)};
  if (handle.file < 0) refuse(path);
  if (write && ::flock(handle.file, LOCK_EX | LOCK_NB) != 0) {
    throw RecallError(RecallFault::kBusy, path + " is open for writing in another process");
  }
  struct stat status{};
  if (::fstat(handle.file, &status) != 0) refuse(path);
  RecallHeader header{};
  const ssize_t got = ::pread(handle.file, &header, sizeof header, 0);
  if (got < 0) refuse(path);
  RecallHeader fresh{};
  begin_header(fresh, max_tokens, print);
  // A writer that died before it wrote the header leaves nothing, or zeros of the file's full
  // length.
  const bool zeros = std::memcmp(&header, &kNoHeader, sizeof header) == 0;
  if (write && zeros &&
      (got == 0 || static_cast<std::uint64_t>(status.st_size) == fresh.file_bytes)) {
    header = fresh;
    if (::ftruncate(handle.file, static_cast<off_t>(header.file_bytes)) != 0 ||
        ::pwrite(handle.file, &header, sizeof header, 0) != sizeof header) {
      refuse(path);
    }
  } else {
    if (static_cast<std::size_t>(got) < sizeof header.magic || header.magic != kMagic) {
      throw RecallError(RecallFault::kNotARecall, path + " does not begin as a Recall file does");
    }
    if (static_cast<std::size_t>(got) < sizeof header) {
      throw RecallError(RecallFault::kTruncated, path + " ends within its header");
    }
    validate(header, static_cast<std::uint64_t>(status.st_size), path, print);
  }
  void* memory = ::mmap(nullptr, header.file_bytes, write ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED, handle.file, 0);
  if (memory == MAP_FAILED) refuse(path);
  data_ = static_cast<std::byte*>(memory);
  size_ = header.file_bytes;
  file_ = handle.keep();
}

void RecallMemory::flush() const {
  if (file_ < 0) return;
  if (::msync(data_, size_, MS_SYNC) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot flush the Recall file");
  }
}

}  // namespace draftwood
