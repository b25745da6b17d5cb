// History files: written and read back, and every way to be wrong told by name.

#include "draftwood/history.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "../fuzz/history_fuzz.h"
#include "../src/history_layout.h"
#include "expect.h"

namespace {

using namespace draftwood;
using Bytes = std::vector<std::byte>;

/// A folder that goes away with the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "history-XXXXXX").string();
    EXPECT(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

Bytes read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  Bytes bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

void write_sample(const std::string& path) {
  Fingerprint fingerprint{};
  fingerprint[0] = 0xAB;
  HistoryWriter writer(path, fingerprint);
  writer.add(std::vector<Token>{5, 0, 2147483647, 7}, "tenant a", 1'700'000'000'000'000,
             R"({"model":"toy"})");
  writer.add({}, "", kNoTime, "");
  writer.add(std::vector<Token>{1, 1, 1}, "tenant a", -1, "");
  writer.add(std::vector<Token>{9}, "m\xC3\xBCnchen", 0, R"({})");
  writer.finish();
}

Bytes sample() {
  const Folder folder;
  write_sample(folder.file("h"));
  return read_file(folder.file("h"));
}

std::optional<HistoryFault> fault_of(const Bytes& file, HistoryCheck check = HistoryCheck::kAll) {
  try {
    HistoryView::parse(file, check);
  } catch (const HistoryError& error) {
    return error.fault();
  }
  return std::nullopt;
}

template <typename T>
void set(Bytes& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof(value));
}

history::Section section_of(const Bytes& file, std::size_t k) {
  history::Section section{};
  std::memcpy(&section, file.data() + sizeof(history::Header) + k * sizeof(section),
              sizeof(section));
  return section;
}

void what_is_written_is_read_back() {
  const Folder folder;
  const std::string path = folder.file("h");
  write_sample(path);
  const auto history = History::open(path);
  const HistoryView& view = history->view();
  EXPECT(view.size() == 4 && view.info().tokens == 8 && view.info().namespaces == 3);
  EXPECT(view.info().token_limit == 2147483648U && view.info().fingerprint[0] == 0xAB);
  const std::vector<Token> whole{5, 0, 2147483647, 7, -1, -1, 1, 1, 1, -1, 9, -1};
  EXPECT(std::equal(whole.begin(), whole.end(), view.tokens().begin(), view.tokens().end()));
  EXPECT(view.sequence(0).size() == 4 && view.sequence(1).empty() && view.sequence(3)[0] == 9);
  EXPECT(view.namespace_name(view.namespace_ids()[2]) == "tenant a");
  EXPECT(view.namespace_name(view.namespace_ids()[1]).empty());
  EXPECT(view.metadata(0) == R"({"model":"toy"})" && view.metadata(1).empty());
  EXPECT(view.times()[0] == 1'700'000'000'000'000 && view.times()[1] == kNoTime);
  EXPECT(reinterpret_cast<std::uintptr_t>(view.tokens().data()) % 4096 == 0);
  const HistoryInfo info = read_history_info(path);
  EXPECT(info.sequences == 4 && info.bytes == std::filesystem::file_size(path));
  EXPECT(folder.files() == 1);
}

void the_same_history_is_the_same_bytes() {
  EXPECT(sample() == sample());
}

void an_empty_history_is_a_history() {
  const Folder folder;
  HistoryWriter(folder.file("h")).finish();
  const auto history = History::open(folder.file("h"));
  EXPECT(history->view().size() == 0 && history->view().tokens().empty());
  EXPECT(history->view().info().token_limit == 0);
}

void long_sequences_cross_the_writers_buffer() {
  const Folder folder;
  std::vector<Token> tokens(700'001);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 37 % 1009);
  HistoryWriter writer(folder.file("h"));
  writer.add(tokens);
  writer.add(tokens);
  writer.finish();
  const auto history = History::open(folder.file("h"));
  const auto second = history->view().sequence(1);
  EXPECT(std::equal(tokens.begin(), tokens.end(), second.begin(), second.end()));
}

void the_name_appears_only_when_all_is_written() {
  const Folder folder;
  {
    HistoryWriter writer(folder.file("h"));
    writer.add(std::vector<Token>{1});
    EXPECT(!std::filesystem::exists(folder.file("h")) && folder.files() == 1);
  }
  EXPECT(folder.files() == 0);
  write_sample(folder.file("h"));
  const auto before = History::open(folder.file("h"));
  HistoryWriter writer(folder.file("h"));
  writer.add(std::vector<Token>{42});
  EXPECT(History::open(folder.file("h"))->view().size() == 4);
  writer.finish();
  EXPECT(History::open(folder.file("h"))->view().sequence(0)[0] == 42);
  EXPECT(before->view().sequence(0)[0] == 5);  // the old file lives on for who has it mapped
}

void the_writer_refuses_what_the_reader_would() {
  const Folder folder;
  HistoryWriter writer(folder.file("h"));
  const auto refused = [&](const std::function<void()>& act) {
    try {
      act();
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  EXPECT(refused([&] { writer.add(std::vector<Token>{1, -1}); }));
  EXPECT(refused([&] { writer.add({}, "\xFF"); }));
  EXPECT(refused([&] { writer.add({}, std::string(kMaxNamespaceBytes + 1, 'a')); }));
  EXPECT(refused([&] { writer.add({}, "", kNoTime, "\xED\xA0\x80"); }));
  EXPECT(refused([&] { writer.add({}, "", kNoTime, std::string(kMaxMetadataBytes + 1, 'a')); }));
  EXPECT(writer.sequences() == 0);
  writer.finish();
  EXPECT(refused([&] { writer.add(std::vector<Token>{1}); }));
  EXPECT(History::open(folder.file("h"))->view().size() == 0);
  try {
    HistoryWriter nowhere(folder.file("missing/h"));
    EXPECT(false);
  } catch (const std::system_error& error) {
    EXPECT(error.code().value() == ENOENT);
  }
}

void faults_have_names() {
  const Bytes good = sample();
  EXPECT(!fault_of(good));
  EXPECT(fault_of({}) == HistoryFault::kNotAHistory);

  Bytes bad = good;
  bad[0] = std::byte{0};
  EXPECT(fault_of(bad) == HistoryFault::kNotAHistory);

  bad = good;
  bad.push_back(std::byte{0});
  EXPECT(fault_of(bad) == HistoryFault::kLayout);

  bad = good;
  set<std::uint16_t>(bad, offsetof(history::Header, major), 2);
  history::seal(bad);
  EXPECT(fault_of(bad) == HistoryFault::kNewer);

  bad = good;  // a newer minor version is read
  set<std::uint16_t>(bad, offsetof(history::Header, minor), 7);
  history::seal(bad);
  EXPECT(!fault_of(bad));

  bad = good;
  bad[history::kTokensOffset] ^= std::byte{1};
  EXPECT(fault_of(bad) == HistoryFault::kChecksum);
  EXPECT(!fault_of(bad, HistoryCheck::kLayout));

  bad = good;
  set<std::uint64_t>(bad, sizeof(history::Header) + offsetof(history::Section, offset), 8192);
  history::seal(bad);
  EXPECT(fault_of(bad) == HistoryFault::kLayout);

  const Folder folder;
  write_sample(folder.file("h"));
  try {
    History::open(folder.file("h"), HistoryCheck::kAll, Fingerprint{});
    EXPECT(false);
  } catch (const HistoryError& error) {
    EXPECT(error.fault() == HistoryFault::kFingerprint);
    EXPECT(std::string(error.what()).starts_with(folder.file("h") + ": "));
  }
}

/// One sealed lie a line: what is set where, in which the reader must find a fault of the layout.
void lies_with_right_checksums_are_found() {
  const Bytes good = sample();
  const auto lie = [&](std::size_t at, auto value) {
    Bytes bad = good;
    set(bad, at, value);
    history::seal(bad);
    return fault_of(bad) == HistoryFault::kLayout;
  };
  const auto at = [&](std::size_t kind) { return section_of(good, kind).offset; };
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  EXPECT(lie(offsetof(history::Header, sections), std::uint32_t{9}));
  EXPECT(lie(offsetof(history::Header, sections), std::uint32_t{0xFFFFFFFF}));
  EXPECT(lie(offsetof(history::Header, sequences), kHuge));
  EXPECT(lie(offsetof(history::Header, tokens), kHuge));
  EXPECT(lie(offsetof(history::Header, namespaces), std::uint64_t{2}));
  EXPECT(lie(offsetof(history::Header, token_limit), std::uint32_t{0x80000001}));
  EXPECT(lie(offsetof(history::Header, token_limit), std::uint32_t{100}));
  EXPECT(lie(at(0) + 4, Token{-2}));         // an id below zero
  EXPECT(lie(at(0) + 4, kSeparator));        // a separator inside a sequence
  EXPECT(lie(at(0) + 16, Token{3}));         // none behind it
  EXPECT(lie(at(1), std::uint64_t{1}));      // does not begin at the beginning
  EXPECT(lie(at(1) + 8, std::uint64_t{0}));  // runs backwards
  EXPECT(lie(at(1) + 8, kHuge));
  EXPECT(lie(at(1) + 32, std::uint64_t{11}));  // ends before the end
  EXPECT(lie(at(3) + 4, std::uint32_t{3}));    // a namespace that is none
  EXPECT(lie(at(4) + 8, kHuge));
  EXPECT(lie(at(5), std::uint8_t{0xFF}));  // not UTF-8
  EXPECT(lie(at(6) + 8, std::uint64_t{1} << 40));
  EXPECT(lie(at(7), std::uint8_t{0xC0}));
  for (std::size_t k = 0; k < history::kKinds.size(); ++k) {
    const std::size_t entry = sizeof(history::Header) + k * sizeof(history::Section);
    EXPECT(lie(entry + offsetof(history::Section, bytes), kHuge));
    EXPECT(lie(entry + offsetof(history::Section, offset), kHuge - 63));
    EXPECT(lie(entry + offsetof(history::Section, bytes), section_of(good, k).bytes + 1));
    EXPECT(lie(entry, section_of(good, (k + 1) % history::kKinds.size()).kind));
  }
}

void sections_of_newer_minor_versions_are_skipped_unless_required() {
  const Bytes good = sample();
  for (const bool required : {false, true}) {
    Bytes file = good;
    file.resize((file.size() + 63) / 64 * 64);
    history::Section extra{{'X', 'T', 'R', 'A'}, required ? 1U : 0U, file.size(), 3, 0, 0};
    file.resize(file.size() + 3, std::byte{7});
    const std::size_t count = history::kKinds.size();
    std::memcpy(file.data() + sizeof(history::Header) + count * sizeof(extra), &extra,
                sizeof(extra));
    set(file, offsetof(history::Header, sections), static_cast<std::uint32_t>(count + 1));
    history::seal(file);
    EXPECT(fault_of(file) == (required ? std::optional(HistoryFault::kNewer) : std::nullopt));
  }
}

void every_truncation_is_told() {
  const Bytes good = sample();
  const Folder folder;
  for (std::size_t size = 0; size < good.size(); ++size) {
    const Bytes bad(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    const auto fault = fault_of(bad);
    EXPECT(fault == (size < 8 ? HistoryFault::kNotAHistory : HistoryFault::kTruncated));
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bad.data()), bad.size());
  }
  write_file(folder.file("h"), Bytes(good.begin(), good.begin() + 300));
  try {
    History::open(folder.file("h"));
    EXPECT(false);
  } catch (const HistoryError& error) {
    EXPECT(error.fault() == HistoryFault::kTruncated);
  }
}

void every_flipped_bit_is_told() {
  Bytes file = sample();
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    file[bit / 8] ^= mask;
    EXPECT(fault_of(file).has_value());
    file[bit / 8] ^= mask;
  }
}

void random_mutations_never_read_outside() {
  const Bytes good = sample();
  std::mt19937_64 random(20240711);
  const auto below = [&](std::size_t limit) { return static_cast<std::size_t>(random() % limit); };
  constexpr std::array<std::uint64_t, 8> kEdges{
      0, 1, 63, 4096, 0x7FFFFFFF, 0xFFFFFFFF, std::uint64_t{1} << 63, ~std::uint64_t{0}};
  // Where the fields are: a uniform choice over 4 KiB of padding would rarely hit one.
  const auto place = [&](const Bytes& file) {
    const std::size_t which = below(4);
    const std::size_t at = which == 0   ? below(128)
                           : which == 1 ? 128 + below(8 * 32)
                                        : history::kTokensOffset + below(file.size() - 4096);
    return std::min(at, file.size() - 1);
  };
  std::size_t whole = 0;
  for (int round = 0; round < 30'000; ++round) {
    Bytes file = good;
    const std::size_t changes = 1 + below(3);
    for (std::size_t c = 0; c < changes; ++c) {
      const std::size_t at = place(file);
      switch (below(4)) {
        case 0:
          file[at] ^= static_cast<std::byte>(1U << below(8));
          break;
        case 1:
          file[at] = static_cast<std::byte>(random());
          break;
        case 2: {
          const std::uint64_t edge = kEdges[below(kEdges.size())] + below(3) - 1;
          std::memcpy(file.data() + at, &edge, std::min<std::size_t>(8, file.size() - at));
          break;
        }
        default:
          file.resize(std::max<std::size_t>(4097, file.size() - below(64)));
          break;
      }
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(file.data()), file.size());
    history::seal(file);
    whole += history::read_through(file, HistoryCheck::kAll) ? 1 : 0;
  }
  EXPECT(whole > 250);  // else the checksums have kept every mutation from the checks behind them
}

void checksums_are_crc32c() {
  const std::string digits = "123456789";
  EXPECT(crc32c(std::as_bytes(std::span(digits))) == 0xE3069283);
  EXPECT(crc32c({}) == 0);
  std::mt19937_64 random(7);
  Bytes bytes(1000);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (std::size_t from = 0; from < 9; ++from) {
    for (const std::size_t size : {0U, 1U, 7U, 8U, 9U, 64U, 991U}) {
      const auto part = std::span<const std::byte>(bytes).subspan(from, size);
      EXPECT(crc32c(part) == history::crc32c_by_table(part));
      EXPECT(crc32c(part.subspan(size / 3), crc32c(part.first(size / 3))) == crc32c(part));
    }
  }
}

void utf8_is_told_from_what_is_not() {
  for (const char* good : {"", "plain", "\xC3\xBC", "\xE2\x82\xAC", "\xF0\x9F\x8C\xB3",
                           "\xED\x9F\xBF", "\xEF\xBF\xBD", "\xF4\x8F\xBF\xBF"}) {
    EXPECT(history::is_utf8(good));
  }
  for (const char* bad : {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF",
                          "\xE2\x82", "\xE2\x28\xAC", "\xF0\x9F\x8C"}) {
    EXPECT(!history::is_utf8(bad));
  }
}

}  // namespace

int main() {
  what_is_written_is_read_back();
  the_same_history_is_the_same_bytes();
  an_empty_history_is_a_history();
  long_sequences_cross_the_writers_buffer();
  the_name_appears_only_when_all_is_written();
  the_writer_refuses_what_the_reader_would();
  faults_have_names();
  lies_with_right_checksums_are_found();
  sections_of_newer_minor_versions_are_skipped_unless_required();
  every_truncation_is_told();
  every_flipped_bit_is_told();
  random_mutations_never_read_outside();
  checksums_are_crc32c();
  utf8_is_told_from_what_is_not();
  std::puts("history: all tests passed");
}
