// CRC-32C and UTF-8: the two checks that read every byte.

#include <array>
#include <cstring>

#include "history_layout.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#define DRAFTWOOD_CRC32C_X86 1
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define DRAFTWOOD_CRC32C_ARM 1
#endif

namespace draftwood {
namespace {

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  constexpr std::uint32_t kReflectedPolynomial = 0x82F63B78;
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReflectedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (std::size_t t = 1; t < tables.size(); ++t) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[t - 1][byte];
      tables[t][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint64_t word_at(const std::byte* at) {
  std::uint64_t word = 0;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

std::uint32_t step(std::uint32_t crc, std::byte byte) {
  return (crc >> 8) ^ kTables[0][(crc ^ std::to_integer<std::uint32_t>(byte)) & 0xFF];
}

/// Eight bytes at a time by table ("slicing by 8"), for processors without the instruction.
std::uint32_t by_table(std::uint32_t crc, std::span<const std::byte> bytes) {
  while (bytes.size() >= 8) {
    const std::uint64_t word = word_at(bytes.data()) ^ crc;
    crc = 0;
    for (std::size_t t = 0; t < 8; ++t) crc ^= kTables[7 - t][(word >> (8 * t)) & 0xFF];
    bytes = bytes.subspan(8);
  }
  for (const std::byte byte : bytes) crc = step(crc, byte);
  return crc;
}

#if defined(DRAFTWOOD_CRC32C_X86)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::uint32_t crc,
                                                               std::span<const std::byte> bytes) {
  std::uint64_t wide = crc;
  while (bytes.size() >= 8) {
    wide = _mm_crc32_u64(wide, word_at(bytes.data()));
    bytes = bytes.subspan(8);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (const std::byte byte : bytes) crc = step(crc, byte);
  return crc;
}

bool has_instruction() {
  return __builtin_cpu_supports("sse4.2") != 0;
}
#elif defined(DRAFTWOOD_CRC32C_ARM)
std::uint32_t by_instruction(std::uint32_t crc, std::span<const std::byte> bytes) {
  while (bytes.size() >= 8) {
    crc = __crc32cd(crc, word_at(bytes.data()));
    bytes = bytes.subspan(8);
  }
  for (const std::byte byte : bytes) crc = step(crc, byte);
  return crc;
}

bool has_instruction() {
  return true;
}
#else
std::uint32_t by_instruction(std::uint32_t crc, std::span<const std::byte> bytes) {
  return by_table(crc, bytes);
}

bool has_instruction() {
  return false;
}
#endif

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before) {
  static const bool instruction = has_instruction();
  return ~(instruction ? by_instruction(~before, bytes) : by_table(~before, bytes));
}

namespace history {

std::uint32_t crc32c_by_table(std::span<const std::byte> bytes, std::uint32_t before) {
  return ~by_table(~before, bytes);
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) -> unsigned {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
    };
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xC2 ? 0
                               : lead < 0xE0 ? 2
                               : lead < 0xF0 ? 3
                               : lead < 0xF5 ? 4
                                             : 0;
    if (length == 0) return false;
    // Only the second byte's range depends on the lead: overlong forms, surrogates, the upper end.
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (length > 1 && (byte(i + 1) < low || byte(i + 1) > high)) return false;
    for (std::size_t k = 2; k < length; ++k) {
      if (byte(i + k) < 0x80 || byte(i + k) > 0xBF) return false;
    }
    i += length;
  }
  return true;
}

}  // namespace history
}  // namespace draftwood
