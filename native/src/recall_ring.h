// The ring: tokens, and for three orders the chains of places where the same tokens went before.
//
//   slot      0     1     2     3     4     5   ...   heads, for each order k in (1, 2, 4):
//   token     a     b     c     a     b     ?         hash of the last k tokens -> newest slot
//   link[0]   -     0     0     0     2     3         slot before with the same token before it, + 1
//   link[1]   -     -     0     0     0     3         ... the same two tokens, and so on
//
// A slot's links tell where the tokens *before* it stood earlier, so what a chain names is what
// came next. One record holds a token and its links: a step along a chain touches one cache line,
// and finds there the next link, the token that followed and most of what went before.
//
// Slots are stored plus 1; 0 is the end, so fresh zeroed memory is an empty ring.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "draftwood/draft.h"
#include "recall_memory.h"

namespace draftwood::recall {

inline constexpr std::size_t kOrders = 3;
inline constexpr std::array<std::uint32_t, kOrders> kOrder = {1, 2, 4};
inline constexpr std::uint32_t kLongest = 4;
inline constexpr std::uint32_t kMatchCap = 16;  ///< tokens of context that are compared at most

/// In a link: no chain names the record, though a head that is older than it may still lead there.
inline constexpr std::uint32_t kUnnamed = 0xFFFFFFFF;

using Hashes = std::array<std::uint32_t, kOrders>;

struct Record {
  Token token;  ///< negative: ends every match
  std::array<std::uint32_t, kOrders> link;
};
static_assert(sizeof(Record) == 16);

/// Hashes of the last 1, 2 and 4 tokens of `context` under `salt`; entries past its length are 0.
[[nodiscard]] Hashes hash_context(std::span<const Token> context, std::uint32_t salt) noexcept;

/// The arrays of a ring, wherever they lie. Copyable; owns nothing.
struct Ring {
  Record* records = nullptr;                    ///< [capacity]
  std::array<std::uint32_t*, kOrders> heads{};  ///< [2^bits]
  std::array<std::uint32_t, kOrders> bits{};
  std::uint32_t capacity = 0;

  /// Bits of the head tables of a ring of `capacity` slots.
  [[nodiscard]] static std::array<std::uint32_t, kOrders> head_bits(
      std::uint32_t capacity) noexcept;

  [[nodiscard]] std::uint32_t bucket(std::size_t order, const Hashes& hashes) const noexcept {
    return hashes[order] >> (32 - bits[order]);
  }
  [[nodiscard]] std::uint32_t before(std::uint32_t slot) const noexcept {
    return slot == 0 ? capacity - 1 : slot - 1;
  }
  [[nodiscard]] std::uint32_t after(std::uint32_t slot) const noexcept {
    return slot + 1 == capacity ? 0 : slot + 1;
  }
  /// How long ago `slot` was written, 1 for the newest, where `tail` is written next.
  [[nodiscard]] std::uint32_t age(std::uint32_t slot, std::uint32_t tail) const noexcept {
    return slot < tail ? tail - slot : tail + capacity - slot;
  }

  /// Puts a token into `slot` and links it behind what went before: `known` tokens of context.
  void put(std::uint32_t slot, Token token, const Hashes& hashes,
           std::uint32_t known) const noexcept {
    Record& record = records[slot];
    for (std::size_t k = 0; k < kOrders; ++k) {
      if (known < kOrder[k]) {
        poke(record.link[k], 0U);
        continue;
      }
      std::uint32_t& head = heads[k][bucket(k, hashes)];
      poke(record.link[k], peek(head));
      poke(head, slot + 1);
    }
    poke(record.token, token);
  }
  /// Puts a token that no chain names: context only, or a mark.
  void mark(std::uint32_t slot, Token token) const noexcept {
    poke(records[slot].token, token);
    for (std::uint32_t& link : records[slot].link) poke(link, kUnnamed);
  }
};

}  // namespace draftwood::recall
