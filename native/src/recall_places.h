// Where the context was seen before: the walk along a ring's chains, and the places it finds.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "recall_impl.h"

namespace draftwood::recall {

/// A place in history: what stands in `slot` came next after `length` tokens like the context's
/// last.
struct Place {
  std::uint32_t slot;
  Token token;
  std::uint32_t next;   ///< the next place of the same node that goes on with the token, plus 1
  std::uint8_t length;  ///< at most kMatchCap
  std::uint8_t source;
};

/// A ring as one draft sees it.
struct View {
  const Ring* ring;
  std::uint32_t tail;   ///< the slot that is written next
  std::uint32_t reach;  ///< ages up to this one may be read
  std::uint8_t source;
  const std::uint64_t* owners;  ///< null: all of it is the reader's
  NamespaceKey name;
  /// Ages of slots to leave out: the request's own part of shared history.
  std::span<const Recall::Span> hidden;
  std::uint64_t written;
  std::uint32_t salt = 0;  ///< where the hashes of the reader's contexts begin

  [[nodiscard]] bool hides(std::uint32_t age) const noexcept {
    const std::uint64_t at = written - age;
    const auto after = std::ranges::upper_bound(hidden, at, {}, &Recall::Span::first);
    return after != hidden.begin() && at < std::prev(after)->last;
  }
};

/// Steps along the chain of each order, at most. Short contexts have the most continuations. What
/// stands in the chain by chance, behind other tokens or in another namespace, is none: whoever
/// writes it must not take the steps of others.
inline constexpr std::array<std::uint32_t, kOrders> kSteps = {24, 12, 8};
inline constexpr std::uint32_t kMostSteps = kSteps[0];
/// Records of a chain that are looked at, at most, for each step.
inline constexpr std::uint32_t kLooks = 4;

/// One ring's chains, followed from the newest place back. Every step asks for the memory of the
/// next and does not wait for it: whoever has several walks takes them a step at a time in turn.
class Walk {
 public:
  /// Stands before the chains of `context`, which stays where it is until `collect`.
  void begin(const View& view, std::span<const Token> context) noexcept;

  /// Reads the heads of the chains.
  void enter() noexcept;

  /// Looks at the next record of every chain that goes on; false where none does.
  bool step() noexcept;

  /// Adds the places, those of long orders first and each newest first; returns the longest match.
  std::uint32_t collect(std::vector<Place>& places) const;

  /// Records that were looked at: all of what a walk's time depends on.
  [[nodiscard]] std::uint32_t looked() const noexcept;

 private:
  struct Chain {
    std::uint32_t at;      ///< where it goes on, plus 1; 0: it was walked to its end
    std::uint32_t age;     ///< of the last record that was looked at
    std::uint32_t count;   ///< places found
    std::uint32_t looked;  ///< records that were looked at
    bool open;
    bool pending;  ///< `found[count]` was looked at last, and may be a place
    std::array<std::uint32_t, kMostSteps> found;  ///< slots
  };
  template <std::size_t K>
  bool step() noexcept;
  [[nodiscard]] bool is_place(std::uint32_t slot, std::uint32_t age,
                              std::uint32_t order) const noexcept;
  [[nodiscard]] std::uint32_t match(std::uint32_t slot, std::uint32_t limit) const noexcept;

  View view_;
  std::span<const Token> context_;
  std::array<Chain, kOrders> chains_;
};

}  // namespace draftwood::recall
