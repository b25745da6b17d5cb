// What the fuzz target of Recall files is made of, for the test that drives it too.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace draftwood::recall {

/// Whether `file` opens to be read; if it does, it is drafted from.
bool draft_from(std::span<const std::byte> file);

/// Whether `file` opens to be written; if it does, it is drafted from, added to and removed from.
bool write_to(std::span<const std::byte> file);

}  // namespace draftwood::recall

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
