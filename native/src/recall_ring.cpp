#include "recall_ring.h"

#include <algorithm>
#include <bit>

namespace draftwood::recall {
namespace {

std::uint32_t stir(std::uint32_t hash, Token token) noexcept {
  std::uint32_t x = (hash ^ static_cast<std::uint32_t>(token)) * 0x9E3779B1U;
  x ^= x >> 15;
  x *= 0x85EBCA77U;
  return x ^ (x >> 13);
}

}  // namespace

Hashes hash_context(std::span<const Token> context, std::uint32_t salt) noexcept {
  Hashes hashes{};
  const std::size_t n = context.size();
  std::uint32_t hash = salt;
  std::size_t order = 0;
  for (std::uint32_t i = 1; i <= kLongest && i <= n; ++i) {
    hash = stir(hash, context[n - i]);
    if (i == kOrder[order]) hashes[order++] = hash * 0xC2B2AE3DU;
  }
  return hashes;
}

std::array<std::uint32_t, kOrders> Ring::head_bits(std::uint32_t capacity) noexcept {
  const auto all = std::max(4U, static_cast<std::uint32_t>(std::bit_width(capacity)) - 1U);
  return {std::min(all, 18U), std::min(all, 24U), all};
}

}  // namespace draftwood::recall
