// The sequences that an engine decodes, and one step of drafting for all of them (Sessions).
//
// An engine passes the new tokens and gets a draft for each sequence. One call moves every
// sequence past its tokens, drafts for all, and cuts the drafts to what pays together. docs/engines.md
// counts what a step touches.
//
// Threads: used by one thread at a time.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "draftwood/recall.h"

namespace draftwood {

/// Why a row of a step got no draft.
enum class StepFault : std::uint8_t {
  kNone,
  kUnknown,  ///< no such sequence
  kTwice,    ///< the sequence stands in the step already
  kTokens,   ///< not token ids, or outside the vocabulary
  kShort,    ///< a whole row with fewer tokens than the sequence has
  kDraft,    ///< the drafter proposed a token outside the vocabulary
};

/// A row as the engine gave it; `valid`: it could be read as int32.
struct StepRow {
  std::span<const Token> tokens;
  bool valid = true;
};

/// The limits of every draft of a step.
struct StepLimits {
  std::uint32_t nodes;
  std::uint32_t depth;
  float floor = 0.0F;  ///< no node less likely to be accepted
  bool chain = false;  ///< chains only
  std::uint32_t threads = 1;
};

/// The value of nodes and the cost of passes; budget/cut.py has the same in Python.
struct ValueCut {
  std::span<const double> rises;      ///< t(0), t(1), .. in tokens
  std::span<const double> discounts;  ///< of a token at depth 1, 2, ..; none: 1
};

/// The drafts of a step, concatenated, and the outcome of each row.
struct StepDrafts {
  std::vector<Token> tokens;
  std::vector<std::int32_t> parents;  ///< within the row's draft
  std::vector<float> confidence;
  std::vector<std::uint8_t> sources;
  std::vector<std::int32_t> offsets;  ///< [rows + 1]
  std::vector<Token> last;            ///< [rows]: the last token of the text; 0: none
  std::vector<std::int32_t> came;     ///< [rows]: tokens that the sequence moved past
  std::vector<StepFault> faults;      ///< [rows]
  bool faulty = false;                ///< whether any is not kNone
};

/// Chooses the nodes that are worth verifying: of the first n by value, over all drafts,
/// the n that gains most. `keep`: an entry a node, in the order of the drafts; 1: chosen.
void cut_by_value(std::span<const RecallDraft* const> drafts, const ValueCut& cut,
                  std::vector<std::uint8_t>& keep);

class Sequences {
 public:
  /// Names an open sequence; given out again after it was closed.
  using Slot = std::int32_t;

  Sequences(Token vocab_size, std::size_t context_limit);

  /// A sequence that stands after `text`, which `request` (null: no drafts from Recall) has
  /// observed. The tokens are the caller's to check.
  Slot open(std::span<const Token> text, std::shared_ptr<RecallRequest> request);
  void close(Slot slot);
  /// Stops drafting for the sequence; its text still grows.
  void mute(Slot slot);
  [[nodiscard]] std::span<const Token> text(Slot slot) const;  ///< empty for a slot not open

  /// Moves the sequences past `rows` and drafts for them. `whole`: rows hold the texts from their
  /// beginning. `rooms`: tokens that each may still generate; empty: as the context limit allows.
  /// `cut`: null: nothing is cut. Draft i has no path longer than rooms[i] - 1.
  void step(std::span<const Slot> slots, std::span<const StepRow> rows, bool whole,
            std::span<const std::int64_t> rooms, const StepLimits& limits, const ValueCut* cut,
            StepDrafts& drafts);

  /// Which sequence each row continues: one whose text is the row's beginning, and that at most
  /// `leap` tokens were added to; -1: none. No sequence for two rows. A row where the same sequence
  /// stood before is tried first, the longest text wins. `missed`: is told the slots that no row has
  /// continued for more than `patience` calls. What a sequence has generated is shared as soon as
  /// it was missed twice, as it may have ended.
  std::vector<Slot> recognize(std::span<const StepRow> rows, std::size_t leap,
                              std::uint64_t patience, std::vector<Slot>& missed);

  /// Adds drafts that were made elsewhere to the counts.
  void hand_out(std::uint64_t drafted, std::uint64_t accepted) noexcept {
    drafted_ += drafted;
    accepted_ += accepted;
  }
  [[nodiscard]] std::uint64_t drafted() const noexcept { return drafted_; }    ///< tokens so far
  [[nodiscard]] std::uint64_t accepted() const noexcept { return accepted_; }  ///< of those
  /// Tokens of the longest text of the last step, and of all its texts.
  [[nodiscard]] std::size_t longest() const noexcept { return longest_; }
  [[nodiscard]] std::size_t total() const noexcept { return total_; }
  [[nodiscard]] std::size_t nbytes() const noexcept;  ///< of the texts and the last drafts

 private:
  struct Sequence {
    bool open = false;
    std::shared_ptr<RecallRequest> request;
    std::vector<Token> text;
    std::vector<Token> tokens;  ///< of the draft handed out
    std::vector<std::int32_t> parents;
    std::uint64_t in_step = 0;  ///< number of the last step
    std::uint64_t seen = 0;     ///< number of the last call of `recognize` that found it
    std::size_t compared = 0;   ///< where the next look into a long text begins
  };

  [[nodiscard]] Sequence* find(Slot slot) noexcept;
  void settle(Sequence& sequence, std::span<const Token> tokens);
  static bool begins(std::span<const Token> row, const Sequence& sequence,
                     std::size_t leap) noexcept;
  static bool still_begins(std::span<const Token> row, Sequence& sequence,
                           std::size_t leap) noexcept;

  std::uint32_t vocab_size_;
  std::size_t context_limit_;
  std::vector<Sequence> sequences_;
  std::vector<Slot> free_;
  std::uint64_t steps_ = 0;
  std::uint64_t calls_ = 0;
  std::uint64_t drafted_ = 0;
  std::uint64_t accepted_ = 0;
  std::size_t longest_ = 0;
  std::size_t total_ = 0;
  std::vector<Slot> stood_;  ///< by row, in the last call of `recognize`

  // Buffers of a step.
  std::vector<RecallRequest*> moving_, drafting_;
  std::vector<std::span<const Token>> moved_;
  std::vector<RecallBudget> budgets_;
  std::vector<std::uint32_t> row_of_;
  std::vector<const RecallDraft*> drafts_;
  std::vector<std::uint8_t> keep_;
};

}  // namespace draftwood
