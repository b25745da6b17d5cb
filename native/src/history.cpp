#include "draftwood/history.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "history_layout.h"

namespace draftwood {

using history::Header;
using history::Section;

namespace {

[[noreturn]] void fail(HistoryFault fault, const std::string& what) {
  throw HistoryError(fault, what);
}

std::string name_of(const Section& section) {
  std::string name;
  for (const char c : section.kind) name += c >= ' ' && c <= '~' ? c : '?';
  return "section " + name;
}

/// The header, where the first bytes of a file of `file_bytes` bytes are one that can be read.
Header read_header(std::span<const std::byte> start, std::uint64_t file_bytes) {
  Header header{};
  if (start.size() < sizeof(header.magic) ||
      std::memcmp(start.data(), history::kMagic.data(), sizeof(header.magic)) != 0) {
    fail(HistoryFault::kNotAHistory,
         "the first bytes are not those of a history file; build one with 'draftwood index build'");
  }
  if (start.size() < sizeof(Header)) {
    fail(HistoryFault::kTruncated, "the file has " + std::to_string(file_bytes) +
                                       " bytes and the header alone needs 128; copy it again");
  }
  std::memcpy(&header, start.data(), sizeof(header));
  if (header.header_checksum != history::checksum_of(header)) {
    fail(HistoryFault::kChecksum, "the header does not match its checksum; copy the file again");
  }
  if (header.major != history::kMajor) {
    fail(HistoryFault::kNewer, "the file has format version " + std::to_string(header.major) + "." +
                                   std::to_string(header.minor) + " and this reader knows " +
                                   std::to_string(history::kMajor) + ".x; install a newer release");
  }
  if (file_bytes < header.bytes) {
    fail(HistoryFault::kTruncated, "the file has " + std::to_string(file_bytes) + " bytes of the " +
                                       std::to_string(header.bytes) +
                                       " that its header promises; copy it again");
  }
  if (file_bytes > header.bytes) {
    fail(HistoryFault::kLayout, "the file has " + std::to_string(file_bytes) +
                                    " bytes, more than the " + std::to_string(header.bytes) +
                                    " that its header promises; copy it again");
  }
  if (header.sections > history::kMaxSections) {
    fail(HistoryFault::kLayout, "the header names " + std::to_string(header.sections) +
                                    " sections; at most " + std::to_string(history::kMaxSections) +
                                    " fit");
  }
  if (header.bytes < history::kTokensOffset) {
    fail(HistoryFault::kLayout, "the header promises " + std::to_string(header.bytes) +
                                    " bytes; a history has at least 4096");
  }
  return header;
}

/// Does `work`; a fault found in it is told with the file's path.
template <typename Work>
auto naming(const std::string& path, const Work& work) {
  try {
    return work();
  } catch (const HistoryError& error) {
    throw HistoryError(error.fault(), path + ": " + error.what());
  }
}

[[noreturn]] void fail_fingerprint(const Fingerprint& found, const Fingerprint& expected) {
  const auto text = [](const Fingerprint& fingerprint) -> std::string {
    if (fingerprint == Fingerprint{}) return "unknown";
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string digits;
    for (std::size_t i = 0; i < 6; ++i) {
      digits += kDigits[fingerprint[i] >> 4U];
      digits += kDigits[fingerprint[i] & 0xFU];
    }
    return digits;
  };
  fail(HistoryFault::kFingerprint, "the file's tokenizer fingerprint is " + text(found) +
                                       " and the model's is " + text(expected) +
                                       "; build the file again with the model's tokenizer");
}

/// An open regular file.
class File {
 public:
  explicit File(const std::string& path)
      // O_NONBLOCK: opening a pipe by mistake must not wait for somebody to write into it.
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), path);
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0) {
      const int error = errno;
      ::close(descriptor_);
      throw std::system_error(error, std::generic_category(), path);
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      if (S_ISDIR(status.st_mode)) throw std::system_error(EISDIR, std::generic_category(), path);
      fail(HistoryFault::kNotAHistory, "it is not a regular file; pass the path of a history file");
    }
    bytes_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  int descriptor_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

/// Checks one file and fills a view: first where things lie, then what stands there.
class HistoryParser {
 public:
  HistoryParser(std::span<const std::byte> file, HistoryCheck check, Pause pause)
      : file_(file), check_(check), pause_(pause), header_(read_header(file, file.size())) {}

  HistoryView parse() {
    place_sections();
    view_.info_ = history::info_of(header_);
    view_.tokens_ = array<Token>(0);
    view_.offsets_ = array<std::uint64_t>(1);
    view_.times_ = array<std::int64_t>(2);
    view_.namespace_ids_ = array<std::uint32_t>(3);
    view_.namespace_offsets_ = array<std::uint64_t>(4);
    view_.namespace_bytes_ = text(5);
    view_.metadata_offsets_ = array<std::uint64_t>(6);
    view_.metadata_bytes_ = text(7);
    check_counts();
    check_sequences();
    check_texts();
    if (check_ == HistoryCheck::kAll) check_tokens();
    return view_;
  }

 private:
  void place_sections() {
    const auto table = file_.subspan(sizeof(Header), header_.sections * sizeof(Section));
    if (crc32c(table) != header_.table_checksum) {
      fail(HistoryFault::kChecksum,
           "the section table does not match its checksum; copy the file again");
    }
    std::uint64_t end = sizeof(Header) + table.size();
    for (std::uint32_t s = 0; s < header_.sections; ++s) {
      Section section{};
      std::memcpy(&section, table.data() + s * sizeof(Section), sizeof(section));
      end = place(section, end, s == 0);
    }
    if (end != file_.size()) {
      fail(HistoryFault::kLayout, "the sections end at byte " + std::to_string(end) + " of " +
                                      std::to_string(file_.size()) +
                                      "; the last one must end the file");
    }
    for (std::size_t k = 0; k < history::kKinds.size(); ++k) {
      if (!found_[k]) {
        Section missing{};
        missing.kind = history::kKinds[k];
        fail(HistoryFault::kLayout, name_of(missing) + " is missing; build the file again");
      }
    }
  }

  /// Checks one section behind byte `end`, notes it if its kind is known, and gives its own end.
  std::uint64_t place(const Section& section, std::uint64_t end, bool first) {
    const bool placed = section.offset >= end && section.offset - end < history::kTokensOffset &&
                        section.offset % history::kAlignment == 0 &&
                        section.offset <= file_.size() &&
                        section.bytes <= file_.size() - section.offset &&
                        (!first || section.offset == history::kTokensOffset);
    if (!placed) {
      fail(HistoryFault::kLayout, name_of(section) + " with " + std::to_string(section.bytes) +
                                      " bytes at byte " + std::to_string(section.offset) +
                                      " is out of place in a file of " +
                                      std::to_string(file_.size()) + " bytes");
    }
    const auto padding = file_.subspan(end, section.offset - end);
    if (std::any_of(padding.begin(), padding.end(),
                    [](std::byte b) { return b != std::byte{0}; })) {
      fail(HistoryFault::kChecksum,
           "the padding before " + name_of(section) + " is not zero; copy the file again");
    }
    const auto kind = std::find(history::kKinds.begin(), history::kKinds.end(), section.kind);
    const auto bytes = file_.subspan(section.offset, section.bytes);
    if (kind != history::kKinds.end()) {
      const auto k = static_cast<std::size_t>(kind - history::kKinds.begin());
      if (found_[k] || (k == 0) != first) {
        fail(HistoryFault::kLayout,
             name_of(section) + (found_[k] ? " stands there twice" : " is not where it belongs") +
                 "; build the file again");
      }
      found_[k] = true;
      sections_[k] = bytes;
      if (k == 0) {
        token_checksum_ = section.checksum;
        return section.offset + section.bytes;  // the tokens' bytes are read last, or not at all
      }
    } else if ((section.flags & history::kRequired) != 0) {
      fail(HistoryFault::kNewer, name_of(section) +
                                     " is required and not known to this reader; "
                                     "install a newer release");
    }
    if (checksum(bytes) != section.checksum) fail_checksum(name_of(section));
    return section.offset + section.bytes;
  }

  template <typename T>
  std::span<const T> array(std::size_t kind) {
    const auto bytes = sections_[kind];
    if (bytes.size() % sizeof(T) != 0) {
      Section section{};
      section.kind = history::kKinds[kind];
      fail(HistoryFault::kLayout, name_of(section) + " has " + std::to_string(bytes.size()) +
                                      " bytes, not a multiple of " + std::to_string(sizeof(T)));
    }
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

  std::string_view text(std::size_t kind) {
    const auto bytes = sections_[kind];
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  void check_counts() {
    // Counts from the header are compared with lengths that are known to fit: no sum can overflow.
    const std::uint64_t n = view_.times_.size();
    if (header_.sequences != n || view_.namespace_ids_.size() != n ||
        view_.offsets_.size() != n + 1 || view_.metadata_offsets_.size() != n + 1) {
      fail(HistoryFault::kLayout, "the header counts " + std::to_string(header_.sequences) +
                                      " sequences and the sections hold another number");
    }
    if (header_.tokens > view_.tokens_.size() || view_.tokens_.size() - header_.tokens != n) {
      fail(HistoryFault::kLayout, "the header counts " + std::to_string(header_.tokens) +
                                      " tokens and section TOKN holds another number");
    }
    if (view_.namespace_offsets_.empty() ||
        header_.namespaces != view_.namespace_offsets_.size() - 1) {
      fail(HistoryFault::kLayout, "the header counts " + std::to_string(header_.namespaces) +
                                      " namespaces and section NSOF holds another number");
    }
    constexpr std::uint32_t kMaxLimit = std::uint32_t{1} << 31;
    if (header_.token_limit > kMaxLimit || (header_.token_limit == 0) != (header_.tokens == 0)) {
      fail(HistoryFault::kLayout, "the header gives " + std::to_string(header_.token_limit) +
                                      " as token limit of " + std::to_string(header_.tokens) +
                                      " tokens; it is the greatest id + 1");
    }
  }

  void check_sequences() {
    const auto offsets = view_.offsets_;
    bool good = offsets.front() == 0 && offsets.back() == view_.tokens_.size();
    for (std::size_t i = 1; i < offsets.size(); ++i) good &= offsets[i] > offsets[i - 1];
    if (!good) {
      fail(HistoryFault::kLayout, "section OFFS does not cut the " +
                                      std::to_string(view_.tokens_.size()) +
                                      " entries of section TOKN into sequences");
    }
    for (const std::uint32_t id : view_.namespace_ids_) {
      if (id >= header_.namespaces) {
        fail(HistoryFault::kLayout, "a sequence belongs to namespace " + std::to_string(id) +
                                        " of " + std::to_string(header_.namespaces));
      }
    }
  }

  void check_texts() {
    check_text("NSOF", view_.namespace_offsets_, view_.namespace_bytes_, kMaxNamespaceBytes);
    check_text("MDOF", view_.metadata_offsets_, view_.metadata_bytes_, kMaxMetadataBytes);
  }

  static void check_text(const char* kind, std::span<const std::uint64_t> offsets,
                         std::string_view text, std::size_t limit) {
    bool good = offsets.front() == 0 && offsets.back() == text.size();
    for (std::size_t i = 1; good && i < offsets.size(); ++i) {
      good = offsets[i] >= offsets[i - 1] && offsets[i] <= text.size() &&
             offsets[i] - offsets[i - 1] <= limit &&
             history::is_utf8(text.substr(offsets[i - 1], offsets[i] - offsets[i - 1]));
    }
    if (!good) {
      fail(HistoryFault::kLayout, std::string("section ") + kind +
                                      " does not cut its text into UTF-8 of at most " +
                                      std::to_string(limit) + " bytes each");
    }
  }

  void check_tokens() {
    if (checksum(std::as_bytes(view_.tokens_)) != token_checksum_) fail_checksum("section TOKN");
    const auto limit = header_.token_limit;
    std::uint32_t greatest = 0;  // a separator, as unsigned, would be the greatest of all
    std::size_t seen = 0;
    for (std::size_t i = 0; i < view_.size(); ++i) {
      for (const Token token : view_.sequence(i)) {
        greatest = std::max(greatest, static_cast<std::uint32_t>(token));
      }
      seen += view_.sequence(i).size();
      if (seen * sizeof(Token) >= kSlice) {
        seen = 0;
        if (pause_ != nullptr) pause_();
      }
      if (view_.tokens_[view_.offsets_[i + 1] - 1] != kSeparator) {
        fail(HistoryFault::kLayout,
             "sequence " + std::to_string(i) + " does not end with a separator (-1)");
      }
    }
    if (header_.tokens != 0 && greatest != limit - 1) {
      fail(HistoryFault::kLayout, "the greatest token id is " +
                                      std::to_string(static_cast<Token>(greatest)) +
                                      " and the header says " + std::to_string(limit - 1));
    }
  }

  /// The checksum of what may be gigabytes on a slow disk.
  [[nodiscard]] std::uint32_t checksum(std::span<const std::byte> bytes) const {
    std::uint32_t crc = 0;
    while (!bytes.empty()) {
      const auto part = bytes.first(std::min(bytes.size(), kSlice));
      crc = crc32c(part, crc);
      bytes = bytes.subspan(part.size());
      if (pause_ != nullptr) pause_();
    }
    return crc;
  }

  [[noreturn]] static void fail_checksum(const std::string& name) {
    fail(HistoryFault::kChecksum, name + " does not match its checksum; copy the file again");
  }

  static constexpr std::size_t kSlice = std::size_t{1} << 23;

  std::span<const std::byte> file_;
  HistoryCheck check_;
  Pause pause_;
  Header header_;
  std::array<bool, history::kKinds.size()> found_{};
  std::array<std::span<const std::byte>, history::kKinds.size()> sections_{};
  std::uint32_t token_checksum_ = 0;
  HistoryView view_;
};

HistoryView HistoryView::parse(std::span<const std::byte> file, HistoryCheck check, Pause pause) {
  return HistoryParser(file, check, pause).parse();
}

std::string_view HistoryView::namespace_name(std::size_t i) const noexcept {
  return {namespace_bytes_.data() + namespace_offsets_[i],
          namespace_offsets_[i + 1] - namespace_offsets_[i]};
}

std::string_view HistoryView::metadata(std::size_t i) const noexcept {
  return {metadata_bytes_.data() + metadata_offsets_[i],
          metadata_offsets_[i + 1] - metadata_offsets_[i]};
}

std::shared_ptr<const History> History::open(const std::string& path, HistoryCheck check,
                                             const std::optional<Fingerprint>& expected,
                                             Pause pause) {
  return naming(path, [&] { return map(path, check, expected, pause); });
}

std::shared_ptr<const History> History::map(const std::string& path, HistoryCheck check,
                                            const std::optional<Fingerprint>& expected,
                                            Pause pause) {
  const File file(path);
  const std::shared_ptr<History> history(new History());
  std::span<const std::byte> bytes;
  if (file.bytes() != 0) {  // an empty file cannot be mapped; the parser names the fault
    void* address = ::mmap(nullptr, file.bytes(), PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (address == MAP_FAILED) throw std::system_error(errno, std::generic_category(), path);
    history->address_ = address;
    history->bytes_ = file.bytes();
    bytes = {static_cast<const std::byte*>(address), history->bytes_};
  }
  if (expected) {  // before the rest: another tokenizer's file need not be read through
    const HistoryInfo info = history::info_of(read_header(bytes, bytes.size()));
    if (info.fingerprint != *expected) fail_fingerprint(info.fingerprint, *expected);
  }
  history->view_ = HistoryView::parse(bytes, check, pause);
  return history;
}

History::~History() {
  if (address_ != nullptr) ::munmap(address_, bytes_);
}

HistoryInfo read_history_info(const std::string& path) {
  return naming(path, [&] {
    const File file(path);
    std::array<std::byte, sizeof(Header)> start{};
    std::size_t got = 0;
    while (got < start.size()) {
      const ssize_t count = ::read(file.descriptor(), start.data() + got, start.size() - got);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw std::system_error(errno, std::generic_category(), path);
      if (count == 0) break;
      got += static_cast<std::size_t>(count);
    }
    return history::info_of(read_header(std::span(start).first(got), file.bytes()));
  });
}

}  // namespace draftwood
