// How likely what a prediction says was right: by kind of expectation, and beside what Recall says.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace draftwood::recall {

/// Why a token is expected. Up to kStart: the text has followed the prediction for 0, 1, 2, 3, 5,
/// 9, 17, 33, 65 tokens.
enum Kind : std::uint32_t {
  kStart = 9,     ///< a prediction's first token, nothing generated yet
  kSame = 10,     ///< as many tokens on as came since the text left: after 1, and more
  kStay = 12,     ///< where the text left: after 1, 2, 5
  kRenamed = 15,  ///< new words for old: untried, right, wrong; then where what follows is the same
  kInside = 21,   ///< within new words
  kKept = 22,     ///< the old words all the same
  kNear = 23,     ///< after a place that matches: 1, 2, more tokens; the best place, and others
  kSeam = 29,     ///< the same text as the prediction's so far, in other tokens
  kSpaced = 30,   ///< a prediction's first token with a space before it, or without its own
  kKinds = 31,
};

/// Probabilities learned from outcomes, one set for a namespace. Threads may read while one learns.
class Trust {
 public:
  /// What Recall says of the same token.
  enum Said : std::int32_t { kUnknown = -2, kOthersOnly = -1 };

  Trust();

  struct Reading {
    std::uint32_t probability;  ///< 16 bits
    std::uint32_t cell;         ///< learns from the outcome
  };
  /// `trouble`: 0 to 3. `said`: Recall's confidence (16 bits), or a Said.
  [[nodiscard]] Reading read(std::uint32_t kind, std::uint32_t trouble,
                             std::int32_t said) const noexcept;
  void learn(std::uint32_t cell, bool right) noexcept;

 private:
  static constexpr std::uint32_t kTroubles = 4;
  static constexpr std::uint32_t kColumns = 11;  ///< unknown, others only, a curve of 9 bins
  std::array<std::atomic<std::uint32_t>, std::size_t{kKinds} * kTroubles * kColumns> cells_;
};

}  // namespace draftwood::recall
