// Predictions: where a text stands in its likely answers, and a draft of what it goes on with.
//
//     prediction   d e f   o l d   ( x )  :            text   d e f   n e w   (   ?
//                                  |                                            |
//                  followed as far as "def", left at "old", taken up here ------+   "x" comes next
//
// While the text follows a prediction, one token is expected. Where it leaves, the place is kept,
// and several are: those after places near by that match what came since, the token after the one
// that was replaced, and the one that was left. What was replaced by what is kept as a pair, and
// where the old words come again the new ones are expected beside them. Recall's own matches find
// what was moved far away; a draft of theirs that came true is followed from there. Where texts of
// tokens are known, a text that is the prediction's in other tokens is followed, too.
//
// testing/twins/prediction.py says the same in slow Python.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "draftwood/draft.h"
#include "draftwood/token_texts.h"
#include "prediction_trust.h"

namespace draftwood::recall {

/// A node of a draft.
struct Drafted {
  Token token;
  std::int32_t parent;
  std::uint32_t confidence;  ///< 16 bits
  std::uint8_t source;
  std::int32_t at = -1;    ///< its slot in a prediction
  std::uint32_t path = 0;  ///< probability, 32 bits
};

/// What a draft may hold.
struct MergeLimits {
  std::uint32_t nodes;
  std::uint32_t reach;
  std::uint32_t floor;  ///< path probability, 32 bits
  bool chain;
};

class Follower {
 public:
  /// Slots as they stand in the request's ring before its prompt; what is negative is no part of a
  /// prediction. `texts`: what tokens stand for; null: not known, and tokens are compared only.
  Follower(std::vector<Token> likely, std::shared_ptr<const TokenTexts> texts);

  /// The best nodes of Recall's draft and of what is expected, as one draft.
  const std::vector<Drafted>& merge(std::span<const Drafted> recalled, const MergeLimits& limits,
                                    std::uint8_t source, const Trust& trust);

  /// Moves past `tokens`. `trust`: learns how the draft went; null: nothing does.
  void observe(std::span<const Token> tokens, Trust* trust);

  [[nodiscard]] std::size_t nbytes() const noexcept;

 private:
  /// Words that were replaced.
  struct Pair {
    std::vector<Token> old, fresh;
    Token after;              ///< the prediction's token after the old words
    std::uint32_t state = 0;  ///< untried, right, wrong
  };
  struct Place {
    std::int32_t at;           ///< the slot of what is expected next
    std::uint32_t run;         ///< tokens followed so far
    std::int32_t pair = -1;    ///< the text stands in its new words
    std::uint32_t offset = 0;  ///< how many of them it has
  };
  struct Expected {
    Token token;
    std::uint32_t kind;
    Place then;
  };
  struct Near {
    std::int32_t at;
    std::uint32_t length;
    std::int32_t distance;
  };
  /// Where the prediction goes on with the text, if that is the same in other tokens.
  struct Seam {
    std::int32_t at = -1;    ///< -1: the text is another
    std::size_t offset = 0;  ///< bytes of the token there that the text has
    bool told = false;       ///< whether the text is more than white space
  };
  /// What was expected below a node, until it is known what came.
  struct Offer {
    std::int32_t parent;
    Token token;
    std::uint32_t cell;
  };
  struct Choice {
    std::uint64_t rank;  ///< path, then what was offered first
    Drafted node;
    std::int32_t place;  ///< in places_, or -1
    std::int32_t child;  ///< of Recall's draft, or -1
  };

  [[nodiscard]] Token token(std::int64_t at) const noexcept;
  [[nodiscard]] bool stands(const Pair& pair, std::int32_t at) const noexcept;
  [[nodiscard]] std::int32_t pair_at(std::int32_t at) const noexcept;
  [[nodiscard]] Place inside(const Place& place) const noexcept;
  void expect(const Place& place);
  void expect_roots();
  void guess(std::int64_t at, std::uint32_t kind);
  [[nodiscard]] Seam seam(std::int32_t anchor) const;
  void expect_start(std::int32_t anchor);
  void expect_seam(std::int32_t anchor);
  void find_near();
  void move(Token token);
  void leave(const Place& place, Token token);
  void take_up();
  void expand(std::int32_t parent, std::uint32_t path, std::int32_t child,
              std::span<const Drafted> recalled, const MergeLimits& limits, std::uint8_t source,
              const Trust& trust);

  std::vector<Token> likely_;
  std::shared_ptr<const TokenTexts> texts_;
  std::vector<std::int32_t> anchors_;  ///< where the text left, or may begin
  bool following_ = false;
  Place place_{};
  std::vector<Token> recent_;  ///< the last tokens since the text left
  std::uint32_t since_ = 0;
  std::uint32_t trouble_ = 0;  ///< how often it left, and how long it was away, since it followed
  std::vector<Pair> pairs_;    ///< the newest first
  std::vector<Near> near_;

  std::vector<Drafted> made_;
  std::vector<Offer> offers_;
  // Buffers of a draft.
  std::vector<Expected> expected_;
  std::vector<Place> places_;
  std::vector<Choice> choices_;
  std::vector<std::uint32_t> depths_;
  std::vector<std::int32_t> first_, next_;  ///< Recall's nodes by parent
  std::uint32_t order_ = 0;
};

}  // namespace draftwood::recall
