// Any bytes at all as a history file: an error with a name, or a history that can be read through.
//
// With clang: -fsanitize=fuzzer,address,undefined and this file is a libFuzzer target. With any
// compiler: native/tests/history_test.cpp drives the same entry with its own mutations.

#include "history_fuzz.h"

#include <cstring>
#include <vector>

#include "../src/history_layout.h"
#include "draftwood/history.h"

namespace draftwood::history {

void seal(std::span<std::byte> file) {
  if (file.size() < sizeof(Header)) return;
  Header header{};
  std::memcpy(&header, file.data(), sizeof(header));
  header.bytes = file.size();
  const std::uint64_t fit = (file.size() - sizeof(Header)) / sizeof(Section);
  if (header.sections <= fit) {
    const auto table = file.subspan(sizeof(Header), header.sections * sizeof(Section));
    for (std::size_t s = 0; s < header.sections; ++s) {
      Section section{};
      std::memcpy(&section, table.data() + s * sizeof(Section), sizeof(section));
      if (section.offset > file.size() || section.bytes > file.size() - section.offset) continue;
      section.checksum = crc32c(file.subspan(section.offset, section.bytes));
      std::memcpy(table.data() + s * sizeof(Section), &section, sizeof(section));
    }
    header.table_checksum = crc32c(table);
  }
  header.header_checksum = checksum_of(header);
  std::memcpy(file.data(), &header, sizeof(header));
}

bool read_through(std::span<const std::byte> file, HistoryCheck check) {
  HistoryView history;
  try {
    history = HistoryView::parse(file, check);
  } catch (const HistoryError&) {
    return false;
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < history.size(); ++i) {
    for (const Token token : history.sequence(i)) sum += static_cast<std::uint32_t>(token);
    for (const char c : history.metadata(i)) sum += static_cast<unsigned char>(c);
    for (const char c : history.namespace_name(history.namespace_ids()[i])) {
      sum += static_cast<unsigned char>(c);
    }
    sum += static_cast<std::uint64_t>(history.times()[i]);
  }
  const volatile std::uint64_t used = sum;  // or the reads above may be left out
  (void)used;
  return true;
}

}  // namespace draftwood::history

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using draftwood::HistoryCheck;
  // Exactly `size` bytes on the heap, so that AddressSanitizer sees the first one beyond.
  const std::unique_ptr<std::byte[]> bytes(new std::byte[size]);
  if (size != 0) std::memcpy(bytes.get(), data, size);
  const std::span<std::byte> file(bytes.get(), size);
  draftwood::history::read_through(file, HistoryCheck::kAll);
  draftwood::history::read_through(file, HistoryCheck::kLayout);
  draftwood::history::seal(file);  // right checksums let the mutation reach what stands behind them
  draftwood::history::read_through(file, HistoryCheck::kAll);
  draftwood::history::read_through(file, HistoryCheck::kLayout);
  return 0;
}
