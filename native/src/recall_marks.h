// The marks before each part of a sequence: its number, 30 bits each.

#pragma once

#include "draftwood/recall.h"

namespace draftwood::recall {

inline constexpr Token kBlank = -1;  ///< padding, or removed

[[nodiscard]] constexpr Token first_mark(Recall::Sequence sequence) noexcept {
  return static_cast<Token>(0x80000000U | static_cast<std::uint32_t>(sequence & 0x3FFFFFFF));
}
[[nodiscard]] constexpr Token second_mark(Recall::Sequence sequence) noexcept {
  return static_cast<Token>(0xC0000000U | static_cast<std::uint32_t>(sequence >> 30 & 0x3FFFFFFF));
}
[[nodiscard]] constexpr bool is_first_mark(Token token) noexcept {
  return (static_cast<std::uint32_t>(token) & 0xC0000000U) == 0x80000000U;
}

}  // namespace draftwood::recall
