#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "history_layout.h"

namespace draftwood {

using history::Header;
using history::Section;

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr std::uint64_t kSynced = std::uint64_t{1} << 25U;  // bytes: a signal waits no longer

[[noreturn]] void fail_with_errno(const std::string& path) {
  throw std::system_error(errno, std::generic_category(), path);
}

}  // namespace

HistoryWriter::HistoryWriter(std::string path, const Fingerprint& fingerprint)
    : out_(std::move(path)), fingerprint_(fingerprint) {
  buffer_.reserve(kBufferBytes);
  buffer_.resize(history::kTokensOffset);  // zeros, until finish() knows the header
}

HistoryWriter::~HistoryWriter() = default;

void HistoryWriter::abandon() noexcept {
  out_.abandon();
}

void HistoryWriter::require_open() const {
  if (out_.left()) {
    throw std::invalid_argument("the writer is the parent process's; open a new one in this one");
  }
  if (out_.file() < 0) {
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
    const ssize_t count = ::write(out_.file(), rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(out_.path());
    rest = rest.subspan(static_cast<std::size_t>(count));
  }
  written_ += buffer_.size();
  buffer_.clear();
  if (written_ - synced_ < kSynced) return;
  if (::fsync(out_.file()) != 0) fail_with_errno(out_.path());
  synced_ = written_;
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
    if (::lseek(out_.file(), 0, SEEK_SET) != 0) fail_with_errno(out_.path());
    buffer_.clear();
    put(history::bytes_of(header));
    put(std::as_bytes(std::span(table)));
    flush();

    out_.commit();
    return history::info_of(header);
  } catch (...) {
    abandon();
    throw;
  }
}

}  // namespace draftwood
