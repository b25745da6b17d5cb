#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

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
    : path_(std::move(path)), fingerprint_(fingerprint) {
  static std::atomic<std::uint64_t> count{0};
  const std::size_t slash = path_.rfind('/');
  const std::size_t name = slash == std::string::npos ? 0 : slash + 1;
  beside_ = path_.substr(0, name) + "." + path_.substr(name) + "." + std::to_string(::getpid()) +
            "-" + std::to_string(count.fetch_add(1)) + ".writing";
  file_ = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) fail_with_errno(path_);
  buffer_.reserve(kBufferBytes);
  buffer_.resize(history::kTokensOffset);  // zeros, until finish() knows the header
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
  if (file_ < 0) {
    throw std::invalid_argument("the history is finished or abandoned; open a new writer");
  }
}

void HistoryWriter::add(std::span<const Token> tokens, std::string_view name_space,
                        std::int64_t time, std::string_view metadata) {
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
    put(std::as_bytes(tokens));
    put(std::as_bytes(separator));
    token_checksum_ = crc32c(std::as_bytes(tokens), token_checksum_);
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
