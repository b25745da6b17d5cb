#include "recall_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

namespace draftwood::recall {
namespace {

constexpr std::uint64_t kMostRows = 255;

std::uint64_t key_of(Token before, Token last) noexcept {
  return std::uint64_t{static_cast<std::uint32_t>(before)} << 32 | static_cast<std::uint32_t>(last);
}

Likely read(const KeptRow& row) noexcept {
  Likely found;
  for (std::size_t i = 0; i < kLikely / 2; ++i) {
    const std::uint64_t pair = peek(row.pairs[i]);
    // A row that is being written may hold any words, but tokens only.
    found.token[2 * i] = static_cast<Token>(pair & 0x7FFFFFFF);
    found.token[2 * i + 1] = static_cast<Token>(pair >> 32 & 0x7FFFFFFF);
  }
  for (std::size_t i = 0; i < kLikely; ++i) {
    found.share[i] = static_cast<std::uint16_t>(peek(row.quads[i / 4]) >> (16 * (i % 4)));
  }
  while (found.count < kLikely && found.share[found.count] != 0) ++found.count;
  found.again = peek(row.rows) > 1;
  return found;
}

void write(KeptRow& kept, std::uint64_t key, const Likely& row, std::uint64_t rows) noexcept {
  poke(kept.key, key);
  for (std::size_t i = 0; i < kLikely / 2; ++i) {
    const auto low = static_cast<std::uint32_t>(2 * i < row.count ? row.token[2 * i] : 0);
    const auto high = static_cast<std::uint32_t>(2 * i + 1 < row.count ? row.token[2 * i + 1] : 0);
    poke(kept.pairs[i], std::uint64_t{high} << 32 | low);
  }
  for (std::size_t i = 0; i < kLikely / 4; ++i) {
    std::uint64_t quad = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const std::size_t at = 4 * i + k;
      quad |= std::uint64_t{at < row.count ? row.share[at] : std::uint16_t{0}} << (16 * k);
    }
    poke(kept.quads[i], quad);
  }
  poke(kept.rows, rows);
}

/// Half of each: the likeliest tokens of both.
Likely averaged(const Likely& old, const Likely& row) noexcept {
  struct Each {
    Token token;
    std::uint32_t share;
  };
  std::array<Each, 2 * kLikely> all;
  std::size_t n = 0;
  for (std::size_t i = 0; i < row.count; ++i) all[n++] = {row.token[i], row.share[i]};
  for (std::size_t i = 0; i < old.count; ++i) {
    const std::size_t at = row.find(old.token[i]);
    if (at < row.count) {
      all[at].share += old.share[i];
    } else {
      all[n++] = {old.token[i], old.share[i]};
    }
  }
  // Few, and nearly in order: equals stay as they are.
  for (std::size_t i = 1; i < n; ++i) {
    const Each each = all[i];
    std::size_t at = i;
    for (; at > 0 && all[at - 1].share < each.share; --at) all[at] = all[at - 1];
    all[at] = each;
  }
  Likely made;
  for (std::size_t i = 0; i < std::min(n, kLikely) && all[i].share > 1; ++i) {
    made.token[i] = all[i].token;
    made.share[i] = static_cast<std::uint16_t>(all[i].share / 2);
    made.count = static_cast<std::uint32_t>(i + 1);
  }
  return made;
}

}  // namespace

Likely likely_of(std::span<const Token> tokens, std::span<const float> logprobs) {
  Likely made;
  for (std::size_t i = 0; i < std::min(tokens.size(), kLikely); ++i) {
    const double share = std::exp(static_cast<double>(logprobs[i])) * 65536.0;
    if (!(share >= 1.0)) break;  // nor what is no number
    made.token[i] = tokens[i];
    made.share[i] = static_cast<std::uint16_t>(std::min(share, 65535.0));
    made.count = static_cast<std::uint32_t>(i + 1);
  }
  return made;
}

KeptRows::~KeptRows() {
  std::free(memory_);
}

std::size_t KeptRows::slot(std::uint64_t key) const noexcept {
  std::uint64_t word = (key + 1) * 0x9E3779B97F4A7C15U;
  word ^= word >> 32;
  return static_cast<std::size_t>((word * 0xBF58476D1CE4E5B9U) >> (64 - bits_));
}

void KeptRows::add(Token before, Token last, const Likely& row) {
  if (row.count == 0 || refused_) return;
  KeptRow* rows = rows_.load(std::memory_order_relaxed);
  if (rows == nullptr) {
    // Fresh zeroed pages, which take no memory until they are written.
    std::size_t space = (sizeof(KeptRow) << bits_) + alignof(KeptRow);
    memory_ = std::calloc(space, 1);
    if (memory_ == nullptr) throw std::bad_alloc();
    void* at = memory_;
    rows = static_cast<KeptRow*>(std::align(alignof(KeptRow), sizeof(KeptRow) << bits_, at, space));
    rows_.store(rows, std::memory_order_release);
  }
  const std::uint64_t key = key_of(before, last);
  KeptRow& kept = rows[slot(key)];
  if (kept.key != key || kept.rows == 0) {
    write(kept, key, row, 1);
  } else {
    write(kept, key, averaged(read(kept), row), std::min(kept.rows + 1, kMostRows));
  }
}

void KeptRows::foresee(Token before, Token last) const noexcept {
  prefetch(rows_.load(std::memory_order_acquire) + slot(key_of(before, last)));
}

Likely KeptRows::find(Token before, Token last) const noexcept {
  const std::uint64_t key = key_of(before, last);
  const KeptRow& kept = rows_.load(std::memory_order_acquire)[slot(key)];
  return peek(kept.key) == key && peek(kept.rows) != 0 ? read(kept) : Likely{};
}

void KeptRows::forget() noexcept {
  KeptRow* rows = rows_.load(std::memory_order_relaxed);
  if (rows == nullptr) return;
  for (std::size_t i = 0; i < std::size_t{1} << bits_; ++i) {
    if (rows[i].rows != 0) write(rows[i], 0, {}, 0);
  }
}

}  // namespace draftwood::recall
