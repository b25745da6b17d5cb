// One request of SuffixDecoding (arXiv 2411.04975): its own tree and its place in the tree of all.
//
// Threads: a stream is used by one thread at a time, different streams of one shared tree by as many
// as there are.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "draftwood/suffix_tree.h"

namespace draftwood {

class ThreadPool;

class SuffixStream {
 public:
  /// Begins after `prompt`, which only the request's own tree learns; output goes to both. Throws
  /// std::invalid_argument for a negative token.
  /// `predictions`: likely answers, which only the own tree learns, after the prompt's last tokens.
  SuffixStream(std::shared_ptr<SuffixTree> shared, std::span<const Token> prompt,
               const SuffixPolicy& policy, Pause pause = nullptr,
               std::span<const std::span<const Token>> predictions = {});

  /// The draft of the higher score from the two trees; equal scores: the request's own. No node is
  /// less probable than `floor`, nor than the policy's.
  [[nodiscard]] SuffixDraft propose(std::int32_t nodes, std::int32_t reach,
                                    float floor = 0.0F) const;

  /// Moves past what was generated. Throws std::invalid_argument for a negative token (nothing
  /// moves then). What follows the removal of the sequence from the shared tree is not shared.
  void observe(std::span<const Token> tokens);

  /// Drops the own tree; the output stays in the shared one, unless there is none.
  void close();

  [[nodiscard]] SuffixTree::Sequence sequence() const { return sequence_; }  ///< in the shared tree
  [[nodiscard]] std::size_t generated() const { return generated_; }         ///< tokens
  [[nodiscard]] std::size_t nbytes() const;  ///< of the own tree and the stream itself

 private:
  friend void observe_all(std::span<SuffixStream* const> streams,
                          std::span<const std::span<const Token>> tokens, ThreadPool& pool);
  void observe_own(std::span<const Token> tokens);
  void observe_shared(std::span<const Token> tokens);

  std::shared_ptr<SuffixTree> shared_;
  std::unique_ptr<SuffixTree> own_;
  SuffixPolicy policy_;
  SuffixTree::Sequence own_sequence_;
  SuffixTree::Sequence sequence_;
  bool in_shared_ = true;  ///< until someone removes the sequence
  std::size_t kept_;       ///< no longer suffix is ever matched
  std::vector<Token> tail_;  ///< the end of the text: at least `kept_` tokens, where there are any
  std::size_t generated_ = 0;
};

/// Drafts for a batch of streams: draft i within nodes[i], reach[i] and floors[i].
[[nodiscard]] std::vector<SuffixDraft> propose_all(std::span<SuffixStream* const> streams,
                                                   std::span<const std::int32_t> nodes,
                                                   std::span<const std::int32_t> reach,
                                                   std::span<const float> floors, ThreadPool& pool);

/// Moves a batch of streams, each past its tokens. The streams must be different ones.
/// Throws std::invalid_argument for a negative token or a stream that stands twice (nothing moves
/// then).
void observe_all(std::span<SuffixStream* const> streams,
                 std::span<const std::span<const Token>> tokens, ThreadPool& pool);

}  // namespace draftwood
