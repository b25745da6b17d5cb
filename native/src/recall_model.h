// The estimate: how likely a token is to come next, learned while drafting.
//
// Every candidate token is judged by what happened before in its situation. For each level of match
// length, and for places of the request's own and of the shared history apart, it is counted how
// many of the places matched so far continue with the token and how many do not. Each pair of
// counts has a probability, learned from outcomes; a mixer adds them in the logistic domain with
// weights, also learned, that belong to the depth of evidence at hand and, a few of them, to the
// token and to the one before it (PAQ's logistic mixing; Mahoney 2005). Two stages of secondary
// estimation correct the sum: one before the choice of nodes, and one that learns from chosen nodes
// only, since what is chosen is what was overestimated.
//
// All arithmetic is in integers: the same history gives the same draft on every platform.

#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "draftwood/draft.h"
#include "fork.h"
#include "prediction_trust.h"
#include "recall_odds.h"
#include "recall_ring.h"
#include "recall_rows.h"

namespace draftwood::recall {

inline constexpr std::size_t kSources = 2;  ///< 0: the request's own places, 1: shared history
inline constexpr std::size_t kLevels = 6;
/// The least match length of each level.
inline constexpr std::array<std::uint32_t, kLevels> kLevelFrom = {1, 2, 3, 5, 9, 16};
inline constexpr std::size_t kInputs = kSources * kLevels;

/// Two further inputs, whatever matched: how often the token was right when it was a candidate
/// lately, anywhere and behind the same last token. They are kept by hash, so tokens may share a
/// cell.
inline constexpr std::size_t kEchoes = 2;
inline constexpr std::uint32_t kEchoBits = 12;

/// Besides, every token and every token before has a small set of weights of its own: for the sum
/// of each source, the echoes, and the input that stands alone. Some come less often than counts
/// say.
inline constexpr std::size_t kLeanings = 2;
inline constexpr std::size_t kLeaning = kSources + kEchoes + 1;
inline constexpr std::uint32_t kLeaningBits = 11;

/// Where the target said what is likely after the node's last two tokens, or after its last, that is
/// evidence, too: an input for each of the two rows that is known. A node with rows has weights and
/// corrections of its own.
inline constexpr std::size_t kHints = 2;  ///< 0: after the last token, 1: the last two
inline constexpr std::size_t kSeenRows = 1U << kHints;  ///< which of the rows are known, as bits

/// What the target said at a node; `count` 0: that row is not known.
using Hints = std::array<Likely, kHints>;

/// The level of every match length up to kMatchCap; entry 0 is not used.
inline constexpr auto kLevelOf = [] {
  std::array<std::uint8_t, kMatchCap + 1> levels{};
  for (std::uint32_t length = 1; length <= kMatchCap; ++length) {
    std::uint8_t level = 0;
    while (level + 1U < kLevels && kLevelFrom[level + 1U] <= length) ++level;
    levels[length] = level;
  }
  return levels;
}();

/// For each source how many places match at least so far: a byte a level, the lowest level in the
/// lowest byte.
using Counts = std::array<std::uint64_t, kSources>;
static_assert(kLevels <= sizeof(std::uint64_t));

/// What a place of each level adds to the counts of its source.
inline constexpr auto kPlace = [] {
  std::array<std::uint64_t, kLevels> counts{};
  for (std::size_t level = 0; level < kLevels; ++level) {
    counts[level] = (level == 0 ? 0 : counts[level - 1]) | std::uint64_t{1} << (8 * level);
  }
  return counts;
}();

/// Counts of one candidate token.
struct Tally {
  Token token;
  std::uint8_t longest;  ///< longest match
  bool own;              ///< whether that match, or one as long, is the request's own
  Counts count;
  std::uint32_t first, last;  ///< of its places, which are linked, plus 1
};

/// What the counts of a candidate look like: all that the cells and the choice of weights need.
struct Sight {
  Counts with;     ///< places that go on with it
  Counts without;  ///< places that do not
  /// Bits 0 and 1: it came next at the newest of the longest matches of that source. Bit 2: it has
  /// rivals. Bits 3 and 4: which rows are known.
  std::uint64_t newest;

  friend bool operator==(const Sight& a, const Sight& b) noexcept {
    return ((a.with[0] ^ b.with[0]) | (a.with[1] ^ b.with[1]) | (a.without[0] ^ b.without[0]) |
            (a.without[1] ^ b.without[1]) | (a.newest ^ b.newest)) == 0;
  }
};

/// What was learned about a sight.
struct Reading {
  Sight sight;
  std::int64_t dot;  ///< weighted sum of the inputs and of the weight that stands alone
  std::array<std::int16_t, kSources> sum;  ///< what each source adds to it, in log-odds
  std::uint16_t weights;                   ///< which set
  std::uint16_t level;   ///< of the candidate's longest match; kLevels: it has none
  std::uint16_t active;  ///< bit i: input i, of kInputs, was there; the next two arrays hold these
  std::array<std::uint16_t, kInputs> cell;
  std::array<std::int16_t, kInputs> input;
};

/// One candidate token at one node: what the estimate read, so that the outcome can be learned.
struct Trial {
  Token token;
  std::int32_t parent;                      ///< the node below which it may come
  std::uint32_t places;                     ///< the first place that goes on with it, plus 1, or 0
  std::uint32_t reading;                    ///< what its counts say
  std::array<std::uint16_t, kEchoes> echo;  ///< cells, and what they gave
  std::array<std::int16_t, kEchoes> echoed;
  std::array<std::uint16_t, kLeanings> leaning;  ///< which small sets
  std::array<std::uint16_t, kHints> hint;  ///< of the rows that are known: cells, what they gave
  std::array<std::int16_t, kHints> hinted;
  std::uint16_t mixed;       ///< probability before the secondary stages
  std::uint16_t estimate;    ///< probability after the first
  std::uint16_t refined;     ///< cell of the first secondary stage
  std::uint16_t settled;     ///< cell of the second
  std::uint16_t confidence;  ///< probability after the second
  bool own;                  ///< whether the longest match is in the request's own text
};

/// What was learned so far. Any number of threads judge while others learn, in turns.
class Model {
 public:
  /// At most 2^row_bits rows of the target are kept.
  explicit Model(std::uint32_t row_bits = kRowBits);
  static constexpr std::uint32_t kRowBits = 17;

  /// Fills in what is known of `sight`.
  void read(const Sight& sight, Reading& reading) const noexcept;

  /// Where a node's candidates are judged.
  struct Spot {
    std::uint32_t depth;  ///< tokens drafted above
    std::uint32_t path;   ///< the node's probability, 32 bits
    Token last;           ///< the token before
    const Hints* hints;   ///< what the target said there; null: nothing
  };

  /// Fills in estimate and confidence of all candidates of a node, whose readings are known.
  void judge(std::span<Trial> trials, std::span<const Reading> readings,
             const Spot& spot) const noexcept;

  /// Learns from trials of one node, whose true next token was `truth`.
  void learn(std::span<const Trial> trials, std::span<const Reading> readings, Token truth);

  /// Learns whether a drafted node was right, given that its parent was.
  void learn_choice(const Trial& trial, bool right);

  /// What the target found likely; in memory only. Learners hold the mutex.
  KeptRows rows;

  /// What predictions were worth; in memory only. Learners hold the mutex.
  Trust trust;

  /// Learners hold this.
  ForkSafe<std::mutex>& mutex() noexcept { return mutex_; }

  static constexpr std::size_t kCells = kInputs * 8 * 8 * 2;
  static constexpr std::size_t kSets = (kLevels + 1) * (kLevels + 1) * 4;
  static constexpr std::size_t kWeights = kInputs + kEchoes + 1;
  static constexpr std::size_t kBins = 33;
  static constexpr std::size_t kRefined = 8 * kLevels;
  static constexpr std::size_t kSettled = 4 * 6;
  /// What was learned where rows are known, besides: in memory only.
  static constexpr std::size_t kHintCells = kHints * (16 + 1) * 2 * 2 * 3;
  static constexpr std::size_t kHintedSets = (kSeenRows - 1) * kSets;
  static constexpr std::size_t kHintedRefined = 8 * (kLevels + 1);
  static constexpr std::size_t kHintedSettled = 2 * kSettled;
  static constexpr std::size_t kWords = kCells + kSets * kWeights + (kRefined + kSettled) * kBins +
                                        (kEchoes << kEchoBits) +
                                        (kLeanings << kLeaningBits) * kLeaning;
  /// All that was learned, as words; for files.
  [[nodiscard]] std::vector<std::uint32_t> words() const;
  void restore(const std::uint32_t* words) noexcept;
  /// Puts all words that belong to tokens, and not only to counts, back to where they began.
  void forget() noexcept;

 private:
  void begin_hints() noexcept;
  std::int64_t hear(const Hints& hints, const Reading& reading, Trial& trial) const noexcept;

  using Cell =
      std::atomic<std::uint32_t>;  ///< probability in the upper 22 bits, outcomes seen below
  std::array<Cell, kCells> cells_;
  std::array<std::atomic<std::int32_t>, (kSets + kHintedSets) * kWeights> weights_;
  std::array<Cell, (kRefined + kHintedRefined) * kBins> refined_;
  std::array<Cell, (kSettled + kHintedSettled) * kBins> settled_;
  std::array<Cell, kHintCells> hint_cells_;
  std::array<std::atomic<std::int32_t>, kHintedSets * kHints> hint_weights_;
  std::array<Cell, kEchoes << kEchoBits> echoes_;
  std::array<std::atomic<std::int32_t>, (kLeanings << kLeaningBits) * kLeaning> leanings_{};
  ForkSafe<std::mutex> mutex_;
};

}  // namespace draftwood::recall
