// The text behind a suffix tree: sequences that grow side by side, in linked pages.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "arena.h"
#include "draftwood/draft.h"

namespace draftwood {

/// Where a token lies. Positions of one sequence are consecutive within a page only: step with
/// TokenStore::after() and before().
using Position = std::uint32_t;

inline constexpr std::uint32_t kNone = 0xFFFFFFFFU;
inline constexpr Token kEnd = -1;  ///< stands after the last token of a sequence

class TokenStore {
 public:
  static constexpr unsigned kPageBits = 6;
  static constexpr std::uint32_t kPage = 1U << kPageBits;

  /// One sequence's tokens. `owner` is the caller's name for it.
  struct Text {
    std::vector<std::uint32_t> pages;
    std::uint32_t size = 0;
    std::uint32_t owner = kNone;
  };

  Position push(Text& text, Token token) {
    const std::uint32_t offset = text.size & (kPage - 1);
    if (offset == 0) add_page(text);
    const Position at = (text.pages.back() << kPageBits) | offset;
    tokens_[at] = token;
    ++text.size;
    return at;
  }

  /// Forgets a sequence's tokens. Its pages are used again; chunks without any are given back.
  void release(Text& text) {
    for (const std::uint32_t page : text.pages) {
      const std::uint32_t chunk = page >> kChunkBits;
      free_.give(chunk, page, pages_[page].next);
      --used_;
      if (free_[chunk].used > 0 || chunk == 0 || chunk + 1 >= free_.chunks()) continue;
      tokens_.drop(chunk);
      pages_.drop(chunk);
      // Chunks other than the last have only pages that were used: all of them are on offer.
      free_[chunk].free = chunk << kChunkBits;
      free_[chunk].dropped = true;
    }
    text = Text{};
  }

  Token operator[](Position at) const { return tokens_[at]; }

  [[nodiscard]] static Position at(const Text& text, std::uint32_t index) {
    return (text.pages[index >> kPageBits] << kPageBits) | (index & (kPage - 1));
  }

  /// The position of the next token, or kNone after the last.
  [[nodiscard]] Position after(Position at) const {
    if ((at & (kPage - 1)) == kPage - 1) {
      const std::uint32_t page = pages_[at >> kPageBits].next;
      return page == kNone ? kNone : page << kPageBits;
    }
    return tokens_[at + 1] == kEnd ? kNone : at + 1;
  }

  /// `steps` tokens later in the same sequence; kNone just after its last token.
  [[nodiscard]] Position forward(Position at, std::uint32_t steps) const {
    std::uint32_t offset = (at & (kPage - 1)) + steps;
    std::uint32_t page = at >> kPageBits;
    for (; offset >= kPage; offset -= kPage) {
      page = pages_[page].next;
      if (page == kNone) return kNone;
    }
    at = (page << kPageBits) | offset;
    return tokens_[at] == kEnd ? kNone : at;
  }

  /// `steps` tokens earlier in the same sequence, which must be that long.
  [[nodiscard]] Position before(Position at, std::uint32_t steps) const {
    while ((at & (kPage - 1)) < steps) {
      steps -= (at & (kPage - 1)) + 1;
      at = (pages_[at >> kPageBits].previous << kPageBits) | (kPage - 1);
    }
    return at - steps;
  }

  /// Whether `string` stands in the sequence so that its token number `offset` is at `at`. As many
  /// tokens must stand before that.
  [[nodiscard]] bool reads(Position at, std::uint32_t offset, std::span<const Token> string) const {
    if (string.back() == kEnd) return false;
    at = before(at, offset);
    const Token* next = string.data();
    for (std::size_t left = string.size();;) {
      const std::size_t here = std::min<std::size_t>(left, kPage - (at & (kPage - 1)));
      if (!std::equal(next, next + here, &tokens_[at])) return false;
      left -= here;
      if (left == 0) return true;
      next += here;
      const std::uint32_t page = pages_[at >> kPageBits].next;
      if (page == kNone) return false;
      at = page << kPageBits;
    }
  }

  /// Who owns the sequence that `at` lies in.
  [[nodiscard]] std::uint32_t owner(Position at) const { return pages_[at >> kPageBits].owner; }

  [[nodiscard]] bool full() {
    return tokens_.size() >= (1U << 31U) - kPage && free_.roomy() == kNone;
  }
  /// Whether so many tokens of one sequence surely find room.
  [[nodiscard]] bool takes(std::size_t tokens) const {
    return tokens_.size() + tokens < (1U << 31U) - 2 * kPage;
  }

  [[nodiscard]] std::size_t nbytes() const {
    return tokens_.nbytes() + pages_.nbytes() + free_.nbytes();
  }

  /// Bytes of it that nothing uses.
  [[nodiscard]] std::size_t idle() const {
    return tokens_.room() * sizeof(Token) + pages_.room() * sizeof(Page) -
           used_ * (kPage * sizeof(Token) + sizeof(Page));
  }

 private:
  struct Page {
    std::uint32_t next, previous, owner;
  };

  void add_page(Text& text) {
    const std::uint32_t chunk = free_.roomy();
    std::uint32_t page;
    if (chunk == kNone) {
      page = pages_.grow(1);
      tokens_.grow(kPage);
    } else {
      if (free_[chunk].dropped) restore(chunk);
      page = free_[chunk].free;
      free_[chunk].free = pages_[page].next;
    }
    free_.use(page >> kChunkBits);
    ++used_;
    const std::uint32_t last = text.pages.empty() ? kNone : text.pages.back();
    pages_[page] = Page{kNone, last, text.owner};
    if (last != kNone) pages_[last].next = page;
    for (std::uint32_t i = 0; i < kPage; ++i) tokens_[(page << kPageBits) | i] = kEnd;
    text.pages.push_back(page);
  }

  void restore(std::uint32_t chunk) {
    tokens_.restore(chunk);
    pages_.restore(chunk);
    free_[chunk].dropped = false;
    free_[chunk].free = kNone;
    for (std::uint32_t i = 1U << kChunkBits; i-- > 0;) {
      const std::uint32_t page = (chunk << kChunkBits) | i;
      free_.put(chunk, page, pages_[page].next);
    }
  }

  static constexpr unsigned kChunkBits = 8;  ///< pages that come and go together
  Arena<Token, kChunkBits + kPageBits> tokens_;
  Arena<Page, kChunkBits> pages_;
  FreeItems free_;
  std::size_t used_ = 0;  ///< pages
};

}  // namespace draftwood
