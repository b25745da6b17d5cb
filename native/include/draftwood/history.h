// A history: sequences of token ids in one file that is mapped and used in place.
//
//   header | sections | TOKN  t t t t -1 t t -1 t t t ...   each sequence, then a separator
//                     | OFFS  0          5      8 ...       where each sequence begins
//                     | TIME, NSID, NSOF, NSTR, MDOF, META  when, whose, what else is known
//
// docs/history-format.md is the specification; whoever changes one changes the other. A file is
// immutable: it is written beside its name and renamed, so a mapping never changes under a reader.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "draftwood/draft.h"
#include "draftwood/replacement.h"

namespace draftwood {

/// Separator after the last token of every sequence; equal to no token id.
inline constexpr Token kSeparator = -1;

/// A sequence without a time.
inline constexpr std::int64_t kNoTime = std::numeric_limits<std::int64_t>::min();

inline constexpr std::size_t kMaxNamespaceBytes = 1024;
inline constexpr std::size_t kMaxMetadataBytes = 65536;

/// SHA-256 of a vocabulary (docs/history-format.md, "Fingerprint"); all zero: not known.
using Fingerprint = std::array<std::uint8_t, 32>;

/// Why a file is refused.
enum class HistoryFault {
  kTruncated,    ///< shorter than its header says
  kNotAHistory,  ///< no history header
  kNewer,        ///< a newer major version, or a required section that this reader does not know
  kChecksum,     ///< bytes that changed since they were written
  kLayout,       ///< an offset, count or value outside its range
  kFingerprint,  ///< another tokenizer's
};

/// A file that cannot be used. Errors of the operating system are std::system_error instead.
class HistoryError : public std::runtime_error {
 public:
  HistoryError(HistoryFault fault, const std::string& what)
      : std::runtime_error(what), fault_(fault) {}
  [[nodiscard]] HistoryFault fault() const noexcept { return fault_; }

 private:
  HistoryFault fault_;
};

/// The contents of the header.
struct HistoryInfo {
  std::uint16_t major = 0;
  std::uint16_t minor = 0;
  std::uint64_t bytes = 0;  ///< of the whole file
  std::uint64_t sequences = 0;
  std::uint64_t tokens = 0;  ///< separators not counted
  std::uint64_t namespaces = 0;
  std::uint32_t token_limit = 0;  ///< greatest token id + 1; 0 without tokens
  Fingerprint fingerprint{};
};

/// How much of a file is checked before it is used.
enum class HistoryCheck {
  kAll,     ///< every byte: also the tokens' checksum, range and separators
  kLayout,  ///< everything but the tokens themselves; their pages are not read
};

/// A validated view of bytes that the caller owns. Cheap to copy; any number of threads.
class HistoryView {
 public:
  /// The empty history.
  HistoryView() = default;

  /// `file` must be aligned to 8 bytes and outlive the view. Throws HistoryError.
  static HistoryView parse(std::span<const std::byte> file, HistoryCheck check,
                           Pause pause = nullptr);

  [[nodiscard]] const HistoryInfo& info() const noexcept { return info_; }
  [[nodiscard]] std::size_t size() const noexcept { return times_.size(); }

  /// All sequences, each with its separator, in the order in which they were added.
  [[nodiscard]] std::span<const Token> tokens() const noexcept { return tokens_; }
  /// size() + 1 entries: sequence i is tokens()[offsets[i] .. offsets[i + 1] - 1).
  [[nodiscard]] std::span<const std::uint64_t> offsets() const noexcept { return offsets_; }
  /// Microseconds since 1970-01-01 UTC, or kNoTime.
  [[nodiscard]] std::span<const std::int64_t> times() const noexcept { return times_; }
  /// Index into the namespaces, below info().namespaces.
  [[nodiscard]] std::span<const std::uint32_t> namespace_ids() const noexcept {
    return namespace_ids_;
  }

  /// Sequence i < size(), without its separator.
  [[nodiscard]] std::span<const Token> sequence(std::size_t i) const noexcept {
    return tokens_.subspan(offsets_[i], offsets_[i + 1] - 1 - offsets_[i]);
  }
  /// UTF-8 name of namespace i < info().namespaces.
  [[nodiscard]] std::string_view namespace_name(std::size_t i) const noexcept;
  /// UTF-8 JSON object about sequence i < size(), or nothing.
  [[nodiscard]] std::string_view metadata(std::size_t i) const noexcept;

 private:
  friend class HistoryParser;

  HistoryInfo info_;
  std::span<const Token> tokens_;
  std::span<const std::uint64_t> offsets_;
  std::span<const std::int64_t> times_;
  std::span<const std::uint32_t> namespace_ids_;
  std::span<const std::uint64_t> namespace_offsets_;
  std::string_view namespace_bytes_;
  std::span<const std::uint64_t> metadata_offsets_;
  std::string_view metadata_bytes_;
};

/// A mapped file and the view of it. Read-only; any number of threads.
class History {
 public:
  /// Maps and validates; where `expected` is given, the file must be of that tokenizer. Throws
  /// HistoryError (its text begins with the path), or std::system_error where the operating
  /// system refuses the file.
  static std::shared_ptr<const History> open(const std::string& path,
                                             HistoryCheck check = HistoryCheck::kAll,
                                             const std::optional<Fingerprint>& expected = {},
                                             Pause pause = nullptr);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  [[nodiscard]] const HistoryView& view() const noexcept { return view_; }

 private:
  History() = default;
  static std::shared_ptr<const History> map(const std::string& path, HistoryCheck check,
                                            const std::optional<Fingerprint>& expected,
                                            Pause pause);

  void* address_ = nullptr;
  std::size_t bytes_ = 0;
  HistoryView view_;
};

/// Reads and checks the header only: 128 bytes, however long the file. Throws as History::open().
HistoryInfo read_history_info(const std::string& path);

/// Writes a history as a Replacement of `path`, whose place it takes in finish(). One thread at a
/// time; in a child of fork(), calls throw std::invalid_argument.
///
/// Tokens go to the file as they come; 28 bytes a sequence and the metadata stay in memory until
/// finish(). Without finish() nothing appears at `path`, and the file beside it is removed.
class HistoryWriter {
 public:
  /// Throws as Replacement does.
  explicit HistoryWriter(std::string path, const Fingerprint& fingerprint = {});
  ~HistoryWriter();
  HistoryWriter(const HistoryWriter&) = delete;
  HistoryWriter& operator=(const HistoryWriter&) = delete;

  /// Throws std::invalid_argument for a negative token, text that is not UTF-8, and names or
  /// metadata beyond their limits (nothing is added then); std::system_error from the disk, after
  /// which the writer refuses all but its destruction.
  void add(std::span<const Token> tokens, std::string_view name_space = {},
           std::int64_t time = kNoTime, std::string_view metadata = {}, Pause pause = nullptr);

  /// Everything on disk, then the name: after a crash at any point `path` holds the old file or
  /// the new one. Throws std::system_error. Nothing can be added afterwards.
  HistoryInfo finish();

  /// Removes the file beside; nothing happens after finish().
  void abandon() noexcept;

  [[nodiscard]] std::uint64_t sequences() const noexcept { return times_.size(); }
  [[nodiscard]] std::uint64_t tokens() const noexcept { return tokens_; }

 private:
  void put(std::span<const std::byte> bytes);
  void flush();
  void require_open() const;

  Replacement out_;
  Fingerprint fingerprint_;
  std::vector<std::byte> buffer_;
  std::uint64_t written_ = 0;
  std::uint64_t synced_ = 0;  ///< of them, surely on disk
  std::uint32_t token_checksum_ = 0;
  std::uint64_t tokens_ = 0;
  std::uint32_t token_limit_ = 0;
  std::vector<std::uint64_t> offsets_{0};
  std::vector<std::int64_t> times_;
  std::vector<std::uint32_t> namespace_ids_;
  std::vector<std::uint64_t> namespace_offsets_{0};
  std::string namespace_bytes_;
  std::unordered_map<std::string, std::uint32_t> namespace_numbers_;
  std::vector<std::uint64_t> metadata_offsets_{0};
  std::string metadata_bytes_;
};

/// CRC-32C (Castagnoli) of `bytes`, continuing the checksum of the bytes before them.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0);

}  // namespace draftwood
