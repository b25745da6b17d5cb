// The draft in the making: places that match, what follows them, and the best nodes first.

#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "recall_impl.h"

namespace draftwood::recall {

/// A place in history: what stands in `slot` came next after `length` tokens like the context's
/// last.
struct Place {
  std::uint32_t slot;
  Token token;
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

  [[nodiscard]] bool hides(std::uint32_t age) const noexcept {
    const std::uint64_t at = written - age;
    for (const Recall::Span& span : hidden) {
      if (at >= span.first && at < span.last) return true;
    }
    return false;
  }
};

/// A drafted node, and which trials judge what comes after it.
struct Node {
  Token token;
  std::int32_t parent;
  std::uint32_t trial;
  std::uint32_t path;  ///< probability, 32 bits
  std::uint32_t depth;
  std::uint32_t first_trial, last_trial;  ///< equal where it was not expanded
  std::uint32_t first_place, last_place;
};

/// What a stream remembers of its last draft until it learns how that went.
struct Outcome {
  std::vector<Node> nodes;
  std::vector<Trial> trials;
  std::uint32_t root_trials = 0;  ///< the first trials, at the context
};

struct Limits {
  std::uint32_t nodes;
  std::uint32_t reach;
  std::uint32_t floor;  ///< path probability, 32 bits
  bool chain;
};

/// Draws one draft at a time; kept by a thread for its buffers.
class Sketch {
 public:
  /// Fills `outcome` with the best nodes behind `context`.
  void draw(std::span<const View> views, std::span<const Token> context, const Model& model,
            const Limits& limits, Outcome& outcome);

  /// Longest match at the context.
  [[nodiscard]] std::uint32_t match() const noexcept { return match_; }

 private:
  struct Choice {
    std::uint32_t path;
    std::int32_t parent;
    std::uint32_t trial;
  };

  void gather(const View& view, std::span<const Token> context);
  void follow(std::span<const View> views, const Node& node, std::uint32_t first,
              std::uint32_t last);
  void weigh(std::uint32_t first, std::uint32_t last);

  std::vector<Place> places_;
  Evidence evidence_;
  std::vector<Choice> heap_;
  std::uint32_t match_ = 0;
};

}  // namespace draftwood::recall
