#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>
#include <system_error>

#include "fork.h"
#include "history_layout.h"

namespace draftwood {

using history::Header;
using history::Section;

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

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

/// The mode of the file that will be replaced; of a new one, 0600. Throws for what is no file.
mode_t mode_at(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return 0600;
  if (S_ISDIR(status.st_mode)) throw std::system_error(EISDIR, std::generic_category(), path);
  if (!S_ISREG(status.st_mode)) {
    throw HistoryError(HistoryFault::kNotAHistory,
                       path + " is not a regular file; a history takes the place of a file only");
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

HistoryWriter::HistoryWriter(std::string path, const Fingerprint& fingerprint)
    : path_(resolved(std::move(path))), fingerprint_(fingerprint) {
  mode_at(path_);
  const std::size_t slash = path_.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  const std::string begin = "." + path_.substr(name) + ".";
  remove_stale(directory_of(path_), begin);
  buffer_.reserve(kBufferBytes);
  buffer_.resize(history::kTokensOffset);  // zeros, until finish() knows the header
  file_ = create_locked(path_.substr(0, name) + begin, beside_);
  if (file_ < 0) fail_with_errno(path_);
  const auto leave = [](void* object, ForkHook::Side side) {
    auto& self = *static_cast<HistoryWriter*>(object);
    if (side == ForkHook::Side::kParent || self.file_ < 0) return;
    ::close(self.file_);  // the file, its name and its lock are the parent's
    self.file_ = -1;
    self.left_ = true;
  };
  fork_ = std::make_unique<ForkHook>(ForkHook::Kind::kLock, this, [](void*) {}, leave);
}

HistoryWriter::~HistoryWriter() {
  abandon();
}

void HistoryWriter::abandon() noexcept {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(beside_.c_str());
  file_ = -1;
}

void HistoryWriter::require_open() const {
  if (left_) {
    throw std::invalid_argument("the writer is the parent process's; open a new one in this one");
  }
  if (file_ < 0) {
    throw std::invalid_argument("the history is finished or abandoned; open a new writer");
  }
}

void HistoryWriter::add(std::span<const Token> tokens, std::string_view name_space,
                        std::int64_t time, std::string_view metadata, Pause pause) {
  require_open();
  Token greatest = -1;
  for (const Token token : tokens) {
    if (token < 0) {
      throw std::invalid_argument("token id " + std::to_string(token) +
                                  " is negative; use the tokenizer that belongs to the model");
    }
    greatest = std::max(greatest, token);
  }
  if (name_space.size() > kMaxNamespaceBytes || !history::is_utf8(name_space)) {
    throw std::invalid_argument("a namespace of " + std::to_string(name_space.size()) +
                                " bytes; names are UTF-8 of at most 1024 bytes");
  }
  if (metadata.size() > kMaxMetadataBytes || !history::is_utf8(metadata)) {
    throw std::invalid_argument("metadata of " + std::to_string(metadata.size()) +
                                " bytes; it is a UTF-8 JSON object of at most 65536 bytes");
  }

  try {
    const std::span<const Token> separator(&kSeparator, 1);
    constexpr std::size_t kSlice = std::size_t{1} << 21;
    for (std::span<const Token> rest = tokens; !rest.empty();) {
      const auto part = rest.first(std::min(rest.size(), kSlice));
      put(std::as_bytes(part));
      token_checksum_ = crc32c(std::as_bytes(part), token_checksum_);
      rest = rest.subspan(part.size());
      if (pause != nullptr && !rest.empty()) pause();
    }
    put(std::as_bytes(separator));
    token_checksum_ = crc32c(std::as_bytes(separator), token_checksum_);
    tokens_ += tokens.size();
    token_limit_ = std::max(token_limit_, static_cast<std::uint32_t>(greatest + std::int64_t{1}));

    const auto next = static_cast<std::uint32_t>(namespace_numbers_.size());
    const auto [entry, added] = namespace_numbers_.try_emplace(std::string(name_space), next);
    if (added) {
      namespace_bytes_ += name_space;
      namespace_offsets_.push_back(namespace_bytes_.size());
    }
    namespace_ids_.push_back(entry->second);
    metadata_bytes_ += metadata;
    metadata_offsets_.push_back(metadata_bytes_.size());
    offsets_.push_back(offsets_.back() + tokens.size() + 1);
    times_.push_back(time);
  } catch (...) {
    abandon();  // what is on disk and what is in memory may no longer agree
    throw;
  }
}

void HistoryWriter::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (buffer_.size() == kBufferBytes) flush();
    const std::size_t count = std::min(bytes.size(), kBufferBytes - buffer_.size());
    buffer_.insert(buffer_.end(), bytes.begin(),
                   bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
  }
}

void HistoryWriter::flush() {
  std::span<const std::byte> rest(buffer_);
  while (!rest.empty()) {
    const ssize_t count = ::write(file_, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(path_);
    rest = rest.subspan(static_cast<std::size_t>(count));
  }
  written_ += buffer_.size();
  buffer_.clear();
}

HistoryInfo HistoryWriter::finish() {
  require_open();
  try {
    const std::array<std::span<const std::byte>, history::kKinds.size()> parts{
        std::span<const std::byte>{},  // the tokens are there already
        std::as_bytes(std::span(offsets_)),
        std::as_bytes(std::span(times_)),
        std::as_bytes(std::span(namespace_ids_)),
        std::as_bytes(std::span(namespace_offsets_)),
        std::as_bytes(std::span(namespace_bytes_)),
        std::as_bytes(std::span(metadata_offsets_)),
        std::as_bytes(std::span(metadata_bytes_))};
    std::array<Section, history::kKinds.size()> table{};
    const std::uint64_t tokens_end = written_ + buffer_.size();
    table[0] = {history::kKinds[0],     history::kRequired,
                history::kTokensOffset, tokens_end - history::kTokensOffset,
                token_checksum_,        0};
    constexpr std::array<std::byte, history::kAlignment> kZeros{};
    std::uint64_t end = tokens_end;
    for (std::size_t k = 1; k < parts.size(); ++k) {
      const std::uint64_t padding =
          (history::kAlignment - end % history::kAlignment) % history::kAlignment;
      put(std::span(kZeros).first(padding));
      put(parts[k]);
      table[k] = {history::kKinds[k], history::kRequired, end + padding,
                  parts[k].size(),    crc32c(parts[k]),   0};
      end += padding + parts[k].size();
    }
    flush();

    Header header{};
    header.magic = history::kMagic;
    header.major = history::kMajor;
    header.minor = history::kMinor;
    header.sections = static_cast<std::uint32_t>(table.size());
    header.bytes = end;
    header.sequences = times_.size();
    header.tokens = tokens_;
    header.namespaces = namespace_numbers_.size();
    header.token_limit = token_limit_;
    header.fingerprint = fingerprint_;
    header.table_checksum = crc32c(std::as_bytes(std::span(table)));
    header.header_checksum = history::checksum_of(header);
    if (::lseek(file_, 0, SEEK_SET) != 0) fail_with_errno(path_);
    buffer_.clear();
    put(history::bytes_of(header));
    put(std::as_bytes(std::span(table)));
    flush();

    if (::fchmod(file_, mode_at(path_)) != 0) fail_with_errno(path_);
    if (::fsync(file_) != 0) fail_with_errno(path_);
    if (std::rename(beside_.c_str(), path_.c_str()) != 0) fail_with_errno(path_);
    ::close(file_);
    file_ = -1;
    sync_directory(directory_of(path_));

    return history::info_of(header);
  } catch (...) {
    abandon();
    throw;
  }
}

}  // namespace draftwood
