// What the fuzz target of history files is made of, for the tests that drive it too.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "draftwood/history.h"

namespace draftwood::history {

/// Puts the right length and checksums into a file's header and table, wherever they can be found.
void seal(std::span<std::byte> file);

/// Whether `file` parses; if it does, every byte that the view gives is read.
bool read_through(std::span<const std::byte> file, HistoryCheck check);

}  // namespace draftwood::history

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
