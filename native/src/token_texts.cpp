#include "draftwood/token_texts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <utility>

namespace draftwood {
namespace {

constexpr std::string_view kSpaced = "\xC4\xA0";     ///< U+0120: a space of byte-level names
constexpr std::string_view kBlank = "\xE2\x96\x81";  ///< U+2581: a space of other names

/// The byte that a character of a byte-level name stands for, by its code point; -1: none. The
/// printable ones of Latin-1 are themselves, the others follow from U+0100 on.
constexpr auto kByteOf = [] {
  std::array<std::int16_t, 324> table{};
  table.fill(-1);
  std::size_t next = 256;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    table[printable ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return table;
}();

bool is_special(std::string_view name) {
  if (name.size() < 3 || name.front() != '<' || name.back() != '>') return false;
  return !name.starts_with("<0x") && name.find(' ') == std::string_view::npos;
}

/// The bytes of a byte-level name; empty where a character stands for none.
std::string byte_level(std::string_view name) {
  std::string bytes;
  for (std::size_t i = 0; i < name.size();) {
    const auto lead = static_cast<unsigned char>(name[i]);
    std::size_t point = lead;
    std::size_t length = 1;
    if (lead >= 0xC0 && lead < 0xE0 && i + 1 < name.size()) {
      point = (lead & 0x1FU) << 6 | (static_cast<unsigned char>(name[i + 1]) & 0x3FU);
      length = 2;
    } else if (lead >= 0x80) {
      return {};
    }
    if (point >= kByteOf.size() || kByteOf[point] < 0) return {};
    bytes.push_back(static_cast<char>(kByteOf[point]));
    i += length;
  }
  return bytes;
}

/// The bytes of a name in which U+2581 is a space and <0xNN> a byte.
std::string spelled(std::string_view name) {
  if (name.size() == 6 && name.starts_with("<0x") && name.back() == '>') {
    int byte = 0;
    for (const char digit : name.substr(3, 2)) {
      const bool decimal = digit >= '0' && digit <= '9';
      if (!decimal && !(digit >= 'A' && digit <= 'F')) return {};
      byte = byte * 16 + (decimal ? digit - '0' : digit - 'A' + 10);
    }
    return {static_cast<char>(byte)};
  }
  std::string bytes;
  for (std::size_t i = 0; i < name.size();) {
    const bool blank = name.substr(i).starts_with(kBlank);
    bytes.push_back(blank ? ' ' : name[i]);
    i += blank ? kBlank.size() : 1;
  }
  return bytes;
}

}  // namespace

TokenTexts::TokenTexts(std::string_view names, std::span<const Token> ids) {
  std::vector<std::pair<Token, std::string_view>> known;
  for (std::size_t begin = 0; begin < names.size();) {
    const std::size_t end = std::min(names.find('\0', begin), names.size());
    if (known.size() == ids.size()) break;
    known.emplace_back(ids[known.size()], names.substr(begin, end - begin));
    begin = end + 1;
  }
  const bool negative = std::ranges::any_of(ids, [](Token id) { return id < 0; });
  if (known.size() != ids.size() || negative) {
    throw std::invalid_argument("a vocabulary has a name and an id of 0 or greater a token");
  }
  std::ranges::sort(known, {}, &std::pair<Token, std::string_view>::first);
  const bool level =
      std::ranges::any_of(known, [](const auto& each) { return each.second.starts_with(kSpaced); });
  ends_.assign(1, 0);
  for (const auto& [id, name] : known) {
    const auto at = static_cast<std::size_t>(id);
    if (at + 1 < ends_.size()) continue;  // an id that stands there twice
    ends_.resize(at + 1, static_cast<std::uint32_t>(bytes_.size()));
    if (!is_special(name)) bytes_ += level ? byte_level(name) : spelled(name);
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
  table_.assign(std::bit_ceil(2 * ends_.size()), -1);
  for (std::size_t id = 0; id + 1 < ends_.size(); ++id) {
    const std::string_view text = of(static_cast<Token>(id));
    if (text.empty() || token(text) >= 0) continue;
    std::size_t at = home(text);
    while (table_[at] >= 0) at = (at + 1) % table_.size();
    table_[at] = static_cast<Token>(id);
  }
}

std::string_view TokenTexts::of(Token token) const noexcept {
  const auto at = static_cast<std::size_t>(token);
  if (token < 0 || at + 1 >= ends_.size()) return {};
  return std::string_view(bytes_).substr(ends_[at], ends_[at + 1] - ends_[at]);
}

Token TokenTexts::token(std::string_view text) const noexcept {
  for (std::size_t at = home(text); table_[at] >= 0; at = (at + 1) % table_.size()) {
    if (of(table_[at]) == text) return table_[at];
  }
  return -1;
}

/// FNV-1a.
std::size_t TokenTexts::home(std::string_view text) const noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char byte : text) {
    hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001B3U;
  }
  return static_cast<std::size_t>(hash ^ hash >> 29) & (table_.size() - 1);
}

std::size_t TokenTexts::nbytes() const noexcept {
  return sizeof(*this) + bytes_.capacity() + ends_.capacity() * sizeof(std::uint32_t) +
         table_.capacity() * sizeof(Token);
}

}  // namespace draftwood
