// The bytes of a history file, as docs/history-format.md gives them; shared by reader and writer.

#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "draftwood/history.h"

namespace draftwood::history {

static_assert(std::endian::native == std::endian::little,
              "history files are little-endian and used in place; this host is not");

inline constexpr std::array<std::uint8_t, 8> kMagic{0x89, 'D', 'W', 'H', '\r', '\n', 0x1A, '\n'};
inline constexpr std::uint16_t kMajor = 1;
inline constexpr std::uint16_t kMinor = 0;

inline constexpr std::uint64_t kTokensOffset = 4096;  ///< header and table come before, zero-padded
inline constexpr std::uint64_t kAlignment = 64;
inline constexpr std::uint32_t kRequired = 1;  ///< flag: who does not know it must not go on

/// First bytes of a file.
struct Header {
  std::array<std::uint8_t, 8> magic;
  std::uint16_t major;
  std::uint16_t minor;
  std::uint32_t sections;
  std::uint64_t bytes;
  std::uint64_t sequences;
  std::uint64_t tokens;
  std::uint64_t namespaces;
  std::uint32_t token_limit;
  std::uint32_t reserved_a;
  Fingerprint fingerprint;
  std::array<std::uint8_t, 32> reserved_b;
  std::uint32_t table_checksum;
  std::uint32_t header_checksum;  ///< of the 124 bytes before it
};
static_assert(sizeof(Header) == 128);

/// One entry of the table after the header.
struct Section {
  std::array<char, 4> kind;
  std::uint32_t flags;
  std::uint64_t offset;
  std::uint64_t bytes;
  std::uint32_t checksum;
  std::uint32_t reserved;
};
static_assert(sizeof(Section) == 32);

inline constexpr std::uint64_t kMaxSections = (kTokensOffset - sizeof(Header)) / sizeof(Section);

/// The sections of version 1.0 in file order; all are required.
inline constexpr std::array<std::array<char, 4>, 8> kKinds{{{'T', 'O', 'K', 'N'},
                                                            {'O', 'F', 'F', 'S'},
                                                            {'T', 'I', 'M', 'E'},
                                                            {'N', 'S', 'I', 'D'},
                                                            {'N', 'S', 'O', 'F'},
                                                            {'N', 'S', 'T', 'R'},
                                                            {'M', 'D', 'O', 'F'},
                                                            {'M', 'E', 'T', 'A'}}};

/// The bytes of a value or of the elements of a span.
template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span<const T, 1>(&value, 1));
}

inline std::uint32_t checksum_of(const Header& header) {
  return crc32c(bytes_of(header).first(offsetof(Header, header_checksum)));
}

/// What a header says to those who ask.
inline HistoryInfo info_of(const Header& header) {
  HistoryInfo info;
  info.major = header.major;
  info.minor = header.minor;
  info.bytes = header.bytes;
  info.sequences = header.sequences;
  info.tokens = header.tokens;
  info.namespaces = header.namespaces;
  info.token_limit = header.token_limit;
  info.fingerprint = header.fingerprint;
  return info;
}

/// What crc32c() gives on a processor without the instruction.
std::uint32_t crc32c_by_table(std::span<const std::byte> bytes, std::uint32_t before = 0);

/// Whether `text` is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

}  // namespace draftwood::history
