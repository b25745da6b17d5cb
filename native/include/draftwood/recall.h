// Recall: history as a ring of tokens and chains of places, and drafts from it.
//
// `Recall` is the history that requests share: a fixed number of tokens, the oldest overwritten by
// the newest, in memory or in a mapped file that one process writes and any number read.
// `RecallRequest` is one request: a small ring of its own over prompt and output, its place in the
// text, and its drafts. docs/recall.md derives the structure and counts what a step touches.
//
// Threads: any number of streams may be used at once, each by one thread at a time, while others
// add to and remove from the shared history.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "draftwood/draft.h"
#include "draftwood/token_texts.h"

namespace draftwood {

/// Names a namespace: a digest of its name. What is said in one is never drafted in another.
using NamespaceKey = std::uint64_t;

/// SHA-256 of a tokenizer's vocabulary; all zero: not known.
using TokenizerPrint = std::array<std::uint8_t, 32>;

/// One way in which a Recall file can be wrong.
enum class RecallFault {
  kNotARecall,
  kNewer,
  kTruncated,
  kMalformed,
  kFingerprint,
  kBusy,      ///< another process writes it
  kReplaced,  ///< no longer the file of that name
};

class RecallError : public std::runtime_error {
 public:
  RecallError(RecallFault fault, const std::string& what)
      : std::runtime_error(what), fault_(fault) {}
  [[nodiscard]] RecallFault fault() const noexcept { return fault_; }

 private:
  RecallFault fault_;
};

class Recall {
 public:
  /// Names a sequence; never given out twice.
  using Sequence = std::uint64_t;

  static constexpr std::uint32_t kLeastTokens = 256;
  static constexpr std::uint32_t kMostTokens = 1U << 31;

  /// An empty history of `max_tokens` slots in memory. `seed`: whoever does not know it cannot say
  /// which contexts are kept in one place. `quota`: slots that a namespace may hold, in whole blocks
  /// of 64; what one adds beyond them is left out, until others have overwritten some of its own. 0:
  /// any number. Throws std::invalid_argument.
  explicit Recall(std::size_t max_tokens, std::uint64_t seed = 0, std::size_t quota = 0);
  /// Maps the file at `path`; creates it with `max_tokens` slots, all of its disk taken at once, where
  /// there is none and `write` is set. One process at a time may open a file to write; a child of
  /// fork() reads what its parent opened, and neither writes to it nor holds its lock. `print`: the tokenizer's, all zero: any.
  /// `seed`: of a file that is created; it is kept there. Throws RecallError, std::system_error, std::invalid_argument.
  static std::unique_ptr<Recall> open(const std::string& path, bool write, std::size_t max_tokens,
                                      const TokenizerPrint& print, std::uint64_t seed = 0,
                                      std::size_t quota = 0, Pause pause = nullptr);
  ~Recall();
  Recall(const Recall&) = delete;
  Recall& operator=(const Recall&) = delete;

  /// A name for a sequence that is to be added. Throws std::logic_error where it is read-only.
  Sequence begin();

  /// Adds tokens to a sequence, after up to 8 tokens of `context` that are known to stand before
  /// them and are themselves not drafted. Returns where the tokens lie: how many slots had been
  /// written before them, and after. Throws std::invalid_argument for a negative token (nothing is
  /// added then), std::logic_error where it is read-only.
  struct Span {
    std::uint64_t first;
    std::uint64_t last;
  };
  Span add(Sequence sequence, NamespaceKey name, std::span<const Token> context,
           std::span<const Token> tokens);

  /// Removes all that is held of a sequence or a namespace; returns how many tokens that were.
  /// No draft proposed after this returns holds them, and no word of the memory or file tells what
  /// they were: their records leave all chains, and what was learned about single tokens is
  /// forgotten. A request that is running shares and teaches nothing from then on. Costs a few
  /// passes over the ring, in slices between which others write.
  /// What `pause` throws leaves the removal begun: to be called again.
  std::size_t remove(Sequence sequence, Pause pause = nullptr);
  std::size_t remove_namespace(NamespaceKey name, Pause pause = nullptr);

  /// Hands what was written to the operating system's disk, what was learned included. Throws
  /// std::system_error, and RecallError where the file was cut or replaced meanwhile; so do all
  /// calls that write.
  void flush(Pause pause = nullptr);

  [[nodiscard]] std::size_t capacity()
      const noexcept;  ///< slots; a sequence takes up to 10 beside its tokens
  [[nodiscard]] std::uint64_t written() const noexcept;  ///< slots ever written
  /// Slots in blocks of a namespace, blanks included. Looks at every block.
  [[nodiscard]] std::size_t held(NamespaceKey name) const noexcept;
  [[nodiscard]] std::size_t nbytes()
      const noexcept;  ///< but for models and quotas: fixed at creation
  /// The most tokens that are written as one part; adding a text by slices of it, each after the one
  /// before, is the same as adding it at once.
  [[nodiscard]] std::size_t part() const noexcept;
  [[nodiscard]] bool writable() const noexcept;
  /// Whether the last writer before this object ended well: all that it wrote is on disk.
  [[nodiscard]] bool clean() const noexcept;

  class Impl;
  [[nodiscard]] Impl& impl() const noexcept { return *impl_; }

 private:
  explicit Recall(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// How a stream drafts.
struct RecallPolicy {
  bool chain = false;         ///< the most probable continuation only
  float floor = 0.0F;         ///< no node less likely to be accepted than this
  std::uint32_t share = 256;  ///< generated tokens after which they are added to shared history
};

/// What one draft may hold.
struct RecallBudget {
  std::uint32_t nodes;  ///< at most
  std::uint32_t reach;  ///< no path is longer
  float floor = 0.0F;   ///< no node less likely than this or than the policy's floor
  bool chain = false;   ///< a chain even where the policy drafts trees
};

/// Where a node was found.
/// kTarget: in no text, but the target had said that it is likely there.
enum class RecallSource : std::uint8_t { kOwn, kShared, kPrediction, kTarget = 9 };

/// What the target said in the pass that verified a draft: the k likeliest tokens after the context,
/// and after each node.
struct RowsOfDraft {
  std::span<const Token> tokens;          ///< [n]: the draft that was verified
  std::span<const std::int32_t> parents;  ///< [n]
  std::size_t k;
  std::span<const Token> likely;    ///< [(n + 1) * k], the likeliest first
  std::span<const float> logprobs;  ///< of these
};

/// A draft and where its nodes were found.
struct RecallDraft : Draft {
  std::vector<std::uint8_t> sources;  ///< RecallSource
  /// Records of the chains that were looked at: what a draft's time depends on, for tests of what
  /// one namespace can tell of another.
  std::uint32_t looked = 0;
};

class RecallRequest {
 public:
  /// A request that stands after `prompt`. `predictions`: likely answers. They are part of the
  /// request's own ring, before the prompt, and are never shared. `texts`: of the tokens, so that an
  /// answer that says the same in other tokens is followed; null: not known. Throws std::invalid_argument for
  /// a negative token, RecallError where the file of the history was cut or replaced.
  RecallRequest(std::shared_ptr<Recall> shared, std::span<const Token> prompt, NamespaceKey name,
                const RecallPolicy& policy,
                std::span<const std::span<const Token>> predictions = {},
                std::shared_ptr<const TokenTexts> texts = nullptr, Pause pause = nullptr);
  ~RecallRequest();
  RecallRequest(const RecallRequest&) = delete;
  RecallRequest& operator=(const RecallRequest&) = delete;

  /// What may come next.
  const RecallDraft& propose(const RecallBudget& budget);

  /// Moves past `tokens` and learns from them how good the last draft was.
  void observe(std::span<const Token> tokens);

  /// Keeps what the target said about the last draft, rejected branches included, as evidence for
  /// all requests of the namespace; before `observe`. Memory only. Throws std::invalid_argument.
  void keep_rows(const RowsOfDraft& said);

  /// Adds what is not there yet to shared history; the request goes on.
  void share();

  /// Adds what is left to shared history and gives the memory back. A second call does nothing.
  void close();

  /// The same, but what is left is not added.
  void abandon();

  [[nodiscard]] std::size_t length() const noexcept;  ///< tokens of prompt and output

  [[nodiscard]] const RecallDraft& last() const noexcept;
  /// The shared history that it drafts from.
  [[nodiscard]] const Recall& history() const noexcept;
  /// Bytes held: the ring of prompt and output, the last draft and what it was judged by.
  [[nodiscard]] std::size_t nbytes() const noexcept;
  /// The name under which the output is in shared history; 0 while none of it is.
  [[nodiscard]] Recall::Sequence sequence() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;

  friend void propose_all(std::span<RecallRequest* const> streams,
                          std::span<const RecallBudget> budgets, std::uint32_t threads);
  friend void observe_all(std::span<RecallRequest* const> streams,
                          std::span<const std::span<const Token>> tokens, std::uint32_t threads);
};

/// Proposes for many different streams at once, each within its own budget, with up to `threads`
/// threads; see RecallRequest::last.
void propose_all(std::span<RecallRequest* const> streams, std::span<const RecallBudget> budgets,
                 std::uint32_t threads);

/// Moves many different streams, each past its own tokens. What is learned and shared does not
/// depend on `threads`: it is as if they moved one after the other.
void observe_all(std::span<RecallRequest* const> streams,
                 std::span<const std::span<const Token>> tokens, std::uint32_t threads);

}  // namespace draftwood
