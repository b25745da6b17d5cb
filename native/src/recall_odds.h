// Probabilities in 16 bits, log-odds in units of 1/256 within +-2047, and cells that learn.

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace draftwood::recall {

/// Probabilities have 16 bits, paths 32.
inline constexpr std::uint32_t kOne = 65536;

inline constexpr auto kRelaxed = std::memory_order_relaxed;

/// 65536 / (1 + e^-x) for x = -8, -7.5, ..., 8.
inline constexpr std::array<std::int32_t, 33> kCurve = {
    22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
    4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
    62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

inline constexpr std::uint32_t kLeast = 16;
inline constexpr std::uint32_t kMost = kOne - 16;

constexpr std::uint32_t curve(std::int32_t x) noexcept {
  const std::int32_t at = x + 2048;
  const auto low = static_cast<std::size_t>(at >> 7);
  const std::int32_t part = at & 127;
  return static_cast<std::uint32_t>((kCurve[low] * (128 - part) + kCurve[low + 1] * part) >> 7);
}

/// `curve` within bounds, for log-odds + 2048.
inline constexpr auto kMixed = [] {
  std::array<std::uint16_t, 4096> table{};
  for (std::int32_t x = -2047; x <= 2047; ++x) {
    table[static_cast<std::size_t>(x + 2048)] =
        static_cast<std::uint16_t>(std::clamp(curve(x), kLeast, kMost));
  }
  return table;
}();

/// The inverse of `curve`, by the upper 12 bits of the probability.
inline constexpr auto kLogOdds = [] {
  std::array<std::int16_t, 4096> table{};
  std::size_t filled = 0;
  for (std::int32_t x = -2047; x <= 2047; ++x) {
    const std::size_t upto = curve(x) >> 4;
    while (filled <= upto) table[filled++] = static_cast<std::int16_t>(x);
  }
  while (filled < table.size()) table[filled++] = 2047;
  return table;
}();

inline constexpr std::uint32_t kCellBits = 10;
inline constexpr std::uint32_t kSeen = (1U << kCellBits) - 1;

/// The step of a cell that has seen n outcomes: 65536 / (n + Prior), n no more than Limit; and what
/// it has seen then.
struct Step {
  std::uint16_t share;
  std::uint16_t seen;
};
template <std::uint32_t Prior, std::uint32_t Limit>
inline constexpr auto kStep = [] {
  static_assert(Prior > 1 && Limit <= kSeen);
  std::array<Step, kSeen + 1> table{};
  for (std::uint32_t n = 0; n <= kSeen; ++n) {
    table[n] = {static_cast<std::uint16_t>(65536 / (std::min(n, Limit) + Prior)),
                static_cast<std::uint16_t>(std::min(n + 1, Limit))};
  }
  return table;
}();

constexpr std::uint32_t cell_of(std::uint32_t probability) noexcept {
  return probability << 16;
}

/// Moves a cell towards the outcome by 1 / (outcomes seen + Prior), at least 1 / (Limit + Prior).
template <std::uint32_t Prior, std::uint32_t Limit>
void move(std::atomic<std::uint32_t>& cell, bool right) noexcept {
  const std::uint32_t old = cell.load(kRelaxed);
  const Step step = kStep<Prior, Limit>[old & kSeen];
  const auto at = static_cast<std::int64_t>(old >> kCellBits);
  const std::int64_t to = right ? (1 << 22) - 1 : 0;
  const std::int64_t next = at + (((to - at) * step.share) >> 16);
  cell.store(static_cast<std::uint32_t>(next) << kCellBits | step.seen, kRelaxed);
}

}  // namespace draftwood::recall
