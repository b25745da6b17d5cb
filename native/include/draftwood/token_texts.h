// The bytes that token ids stand for, and which token a text is.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "draftwood/draft.h"

namespace draftwood {

/// Made once from a vocabulary; any number of threads read it.
class TokenTexts {
 public:
  /// `names`: tokens as the vocabulary writes them, each ended by a zero byte; `ids`: theirs, 0 or
  /// greater. Names of byte-level vocabularies (one is known by a token that begins with "Ġ", U+0120)
  /// are characters that stand for bytes; in others U+2581 is a space and <0xNN> a byte. Special
  /// tokens, such as <|end|> and </s>, have no bytes. Throws std::invalid_argument where there are
  /// not as many of both.
  TokenTexts(std::string_view names, std::span<const Token> ids);

  /// Empty for a special token, and for an id that the vocabulary does not have.
  [[nodiscard]] std::string_view of(Token token) const noexcept;
  /// The token of a text, of several the lowest id; -1: there is none.
  [[nodiscard]] Token token(std::string_view text) const noexcept;
  [[nodiscard]] std::size_t nbytes() const noexcept;

 private:
  [[nodiscard]] std::size_t home(std::string_view text) const noexcept;

  std::string bytes_;
  std::vector<std::uint32_t> ends_;  ///< [ids + 1]
  std::vector<Token> table_;         ///< ids by hash, -1: none
};

}  // namespace draftwood
