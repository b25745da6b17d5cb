// Suffix tree over token sequences that grow: the index behind SuffixDecoding (arXiv 2411.04975).
//
// Holds every suffix of every sequence, cut at `depth` tokens, and for each string how many suffixes
// begin with it. Appending one token costs O(length of the longest suffix seen before), at most
// O(depth); of many at once each costs no more than the strings on its way at which others part.
// Drafting matches all suffixes of a context in one pass along suffix links.
//
// Threads: any number of threads may call the const members while one calls the others; the tree
// locks itself, and writers among themselves take turns.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "draftwood/draft.h"

namespace draftwood {

/// kLinear: the most frequent continuation only. kTree: the most probable nodes, wherever they are.
enum class Shape : std::uint8_t { kLinear, kTree };

/// What a child's count is divided by. kCode: its parent's count, which includes suffixes that end at
/// the parent, as the released code does. kPaper: the sum over the child and its siblings.
enum class Counts : std::uint8_t { kCode, kPaper };

/// How a context is continued. A suffix of p tokens may be followed by alpha * p + offset of them.
struct SuffixPolicy {
  float alpha = 1.0F;
  float offset = 0.0F;
  float floor = 0.1F;  ///< no node less probable than this
  Shape shape = Shape::kLinear;
  Counts counts = Counts::kCode;
  bool witness = true;  ///< whether a draft is to name one
};

/// A draft from a suffix tree, and where it was found.
struct SuffixDraft : Draft {
  /// A sequence that says the match and the path to the draft's last node; -1: not asked for, or
  /// one that was removed since. Where several say it, most often the one that said it last.
  std::int64_t witness = -1;
  bool shared = false;  ///< of a stream: whether it is from the tree of all requests
};

/// Throws std::invalid_argument for a negative token.
void require_ids(std::span<const Token> tokens);

class SuffixTree {
 public:
  /// Names a sequence of this tree; never given out twice.
  using Sequence = std::int64_t;

  /// How long a sequence is.
  struct Extent {
    Sequence sequence;
    std::uint32_t tokens;
  };

  /// Longest suffix that a tree can hold.
  static constexpr std::int32_t kMaxDepth = 4096;

  /// `depth`: tokens of a suffix that are kept, 2 to kMaxDepth. Throws std::invalid_argument.
  explicit SuffixTree(std::int32_t depth);
  ~SuffixTree();
  SuffixTree(const SuffixTree&) = delete;
  SuffixTree& operator=(const SuffixTree&) = delete;

  /// Opens an empty sequence.
  Sequence begin();

  /// Appends to a sequence. Throws std::invalid_argument for a negative token (nothing is appended
  /// then), std::out_of_range for a sequence that is not in the tree, std::length_error when the
  /// tree is full (2^31 tokens).
  void extend(Sequence sequence, std::span<const Token> tokens);

  /// Frees what only a growing sequence needs. Extending it later is possible, and costs a search.
  void finish(Sequence sequence);

  /// Removes a sequence and the suffixes that only it has. Throws std::out_of_range.
  void remove(Sequence sequence);

  /// Removes a sequence in slices, so that no call takes long: about `work` of its
  /// suffixes, the first ones first. True when all of it is gone. After the first call it
  /// is no sequence any more for all but this and remove(); what is left of it may be drafted
  /// until it is out. Throws std::out_of_range.
  bool evict(Sequence sequence, std::size_t work);

  /// Does a slice of the work that frees the memory of removed sequences, looking at about
  /// `work` records; true where nothing is left to do. Begun once a quarter of the memory lies idle.
  bool compact(std::size_t work);

  /// The draft of the highest score over all suffixes of `context` that are in the tree, shorter than
  /// its depth; of equal scores the one after the longer suffix. Empty where nothing is known.
  /// At most `nodes` nodes, no path longer than `reach`, no score of `above` or less.
  ///
  /// Children are ordered by count. Among equals the order is that of the released code: a child
  /// that gains a count moves in front of those it leaves behind, and in front of those it
  /// joins only if it stood first before; one that loses a count stands first of those it joins.
  /// Equally probable nodes of a kTree draft come in the order of the released code's heap.
  [[nodiscard]] SuffixDraft speculate(std::span<const Token> context, const SuffixPolicy& policy,
                                      std::int32_t nodes, std::int32_t reach,
                                      float above = 0.0F) const;

  /// How many suffixes begin with `pattern`; the empty pattern begins them all.
  /// A pattern longer than `depth` begins none.
  [[nodiscard]] std::uint32_t count(std::span<const Token> pattern) const;

  /// All sequences with their lengths at one instant. As sequences only grow, text() gives what
  /// each said at that instant, later on and one at a time.
  [[nodiscard]] std::vector<Extent> extents() const;

  /// The first `most` tokens of a sequence. Throws std::out_of_range.
  [[nodiscard]] std::vector<Token> text(Sequence sequence, std::uint32_t most) const;

  /// Bytes requested from the allocator, exactly, this object included.
  [[nodiscard]] std::size_t nbytes() const;

  /// The unused bytes among them: the tree grows into them first; compact() gives them back.
  [[nodiscard]] std::size_t idle() const;

  [[nodiscard]] std::int32_t depth() const;
  [[nodiscard]] std::size_t tokens() const;  ///< in all sequences, and left of those that leave
  [[nodiscard]] std::size_t sequences() const;
  [[nodiscard]] std::size_t nodes() const;  ///< records; suffixes seen once need none

  /// Walks the whole tree; empty where its invariants hold, else the first that does not. For tests.
  [[nodiscard]] std::string check() const;

  struct Impl;  ///< native/src/suffix_impl.h

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace draftwood
