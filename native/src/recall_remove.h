// Removal: tokens are blanked and their records leave all chains, a slice at a time.

#pragma once

#include <cstdint>
#include <optional>

#include "recall_impl.h"

namespace draftwood::recall {

/// What is to be removed: a sequence, or (sequence 0) a namespace.
struct Victim {
  Recall::Sequence sequence;
  NamespaceKey name;
};

/// Removes one victim. Each `step` takes the writer's lock for kSlice records or heads, and others
/// may write between two steps. Only one removal of a history may be under way.
///
/// Four passes over what is held, oldest first:
///
///   blank     tokens of the victim become blanks; their records still stand in their chains
///   relink    a link that leads to a blanked record leads to where that one's link led, and one to
///             a slot that was overwritten since, and belongs into another chain, ends its own
///   heads     the same for heads; what was written meanwhile is then linked anew as well
///   wipe      the links of blanked records are overwritten
///
/// What is left is what would be there had the victim never been written, but for its blank slots
/// and its marks.
class Removal {
 public:
  static constexpr std::uint32_t kSlice = 4096;

  Removal(Recall::Impl& history, const Victim& victim) noexcept
      : history_(history), victim_(victim) {}

  /// Does the next share of the work; false where nothing is left to do.
  bool step();
  /// Tokens that were blanked.
  [[nodiscard]] std::size_t removed() const noexcept { return removed_; }
  /// The namespace of a sequence of which a token was blanked.
  [[nodiscard]] std::optional<NamespaceKey> owner() const noexcept { return owner_; }

 private:
  static constexpr std::int64_t kNone = -1;
  enum class Pass { kBlank, kRelink, kHeads, kRelinkNew, kWipe, kDone };
  enum class Inside { kNameless, kIt, kOther };

  /// The end of the slice that begins at `at_`, which first moves on to what is still held.
  std::uint64_t slice() noexcept;
  void start(Pass pass, std::uint64_t at) noexcept;
  void blank(std::uint64_t upto) noexcept;
  void relink(std::uint64_t upto) const noexcept;
  void heads() noexcept;
  void wipe(std::uint64_t upto) const noexcept;
  [[nodiscard]] std::uint32_t age(std::uint32_t slot) const noexcept;
  [[nodiscard]] bool left(std::uint32_t slot) const noexcept;
  [[nodiscard]] std::uint32_t repaired(std::size_t order, std::uint32_t link,
                                       std::uint32_t behind) const noexcept;
  [[nodiscard]] std::int64_t bucket_of(std::size_t order, std::uint32_t slot) const noexcept;
  [[nodiscard]] bool alike(std::size_t order, std::uint32_t one,
                           std::uint32_t other) const noexcept;

  Recall::Impl& history_;
  Victim victim_;
  Pass pass_ = Pass::kBlank;
  Inside inside_ = Inside::kNameless;
  std::uint64_t at_ = 0;
  std::uint64_t heads_from_ = 0;  ///< written when the pass over the heads began
  std::size_t order_ = 0;         ///< of the heads
  std::uint32_t bucket_ = 0;
  bool overwritten_ = false;  ///< slots were, and what named them may still do so
  std::size_t removed_ = 0;
  std::optional<NamespaceKey> owner_;
};

}  // namespace draftwood::recall
