// The draft in the making: places that match, what follows them, and the best nodes first.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "recall_model.h"
#include "recall_places.h"

namespace draftwood::recall {

/// A drafted node, and which trials judge what comes after it.
struct Node {
  Token token;
  std::int32_t parent;
  std::uint32_t trial;
  std::uint32_t path;  ///< probability, 32 bits
  std::uint32_t depth;
  std::uint32_t first_trial, last_trial;  ///< equal where it was not expanded
};

/// What a stream remembers of its last draft until it learns how that went.
struct Outcome {
  std::vector<Node> nodes;
  std::vector<Trial> trials;
  std::vector<Reading> readings;  ///< that trials name
  std::uint32_t root_trials = 0;  ///< the first trials, at the context
};

struct Limits {
  std::uint32_t nodes;
  std::uint32_t reach;
  std::uint32_t floor;  ///< path probability, 32 bits
  bool chain;
};

/// Draws one draft at a time; kept by a thread for its buffers.
///
/// First `begin`, `enter` and `step` until it says false, then `grow`: a thread with several
/// drafts to draw takes these steps in turn, so that one's cache misses pass while others work.
class Sketch {
 public:
  using Views = std::array<View, kSources>;

  /// Stands before the chains of `context`; both stay where they are until `grow` returns.
  void begin(const Views& views, std::span<const Token> context) noexcept;
  void enter() noexcept;
  bool step() noexcept;

  /// Fills `outcome` with the best nodes behind the context.
  void grow(const Model& model, const Limits& limits, Outcome& outcome);

  /// Records that the walks looked at.
  [[nodiscard]] std::uint32_t looked() const noexcept {
    return walks_[0].looked() + walks_[1].looked();
  }

  /// Longest match at the context.
  [[nodiscard]] std::uint32_t match() const noexcept { return match_; }

  /// The first of the request's own slots that `trial` was read in: of the longest order's chain
  /// that led to one, the newest.
  [[nodiscard]] std::uint32_t first_own(const Trial& trial) const noexcept {
    std::uint32_t place = trial.places;
    while (places_[place - 1].source != 0) place = places_[place - 1].next;
    return places_[place - 1].slot;
  }

 private:
  void follow(std::uint32_t place);
  void tally(std::uint32_t first);
  std::uint32_t reading_of(const Model& model, const Sight& sight, std::vector<Reading>& readings);
  void judge(const Model& model, const Limits& limits, std::int32_t parent, std::uint32_t first,
             Outcome& outcome);
  bool hear(const Model& model, const Outcome& outcome, std::int32_t parent,
            const Model::Spot& spot, std::uint32_t floor);
  void offer(std::uint64_t choice, std::size_t room);

  Views views_;
  std::array<Walk, kSources> walks_;
  Token last_, before_;
  std::uint32_t match_ = 0;
  std::vector<Place> places_;
  std::vector<Tally> tallies_;
  Hints hints_;
  Counts total_;
  std::array<Token, kSources> newest_;      ///< what came next at the newest of the longest matches
  std::array<std::uint8_t, 128> tally_at_;  ///< tallies by hash of their token, plus 1
  std::array<std::uint32_t, 32> memo_;      ///< readings by hash of what was seen, plus 1
  /// What may be drafted next, the best last: path probability, then the complement of the trial.
  std::vector<std::uint64_t> choices_;
  std::size_t offered_ = 0;  ///< how many of them there are; the rest is memory for more
  std::size_t dropped_ = 0;  ///< of the first choices, because better ones fill the draft
};

}  // namespace draftwood::recall
