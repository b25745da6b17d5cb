// What the target itself found likely: the best tokens of its rows, kept by the tokens before them.
//
//   last two tokens   SELECT name  ->  FROM 0.8   , 0.15   AS 0.01 ...     up to 8 of each,
//   last token               name  ->  text 0.4   FROM 0.2   , 0.2 ...     averaged over rows
//
// A pass gives a row for every position that it verifies, rejected branches included; Token
// Recycling (Luo et al. 2024, arXiv 2408.08696, section 3.1) drafts from their best tokens. Here
// they are evidence: the estimate has learned what they are worth beside places (recall_model.h).

#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "draftwood/draft.h"
#include "recall_memory.h"

namespace draftwood::recall {

inline constexpr std::size_t kLikely = 8;  ///< tokens kept of each row
inline constexpr Token kAlone = -1;        ///< instead of the token before last: the last one alone

/// A row as it is kept: one cache line, written in whole words, so that whoever reads while another
/// writes gets some of before and some of after.
struct alignas(64) KeptRow {
  std::uint64_t key;                             ///< the two tokens; of an empty row anything
  std::array<std::uint64_t, kLikely / 2> pairs;  ///< two tokens each
  std::array<std::uint64_t, kLikely / 4> quads;  ///< four shares each
  std::uint64_t rows;                            ///< averaged, up to 255
};
static_assert(sizeof(KeptRow) == 64);

/// What one row says: tokens and their shares (16 bits), the likeliest first.
struct Likely {
  std::array<Token, kLikely> token{};
  std::array<std::uint16_t, kLikely> share{};
  std::uint32_t count = 0;
  bool again = false;  ///< averaged over several rows

  /// Where a token stands in it; `kLikely`: nowhere.
  [[nodiscard]] std::size_t find(Token wanted) const noexcept {
    std::uint32_t same = 0;  // all are compared: quicker than to stop at one of few
    for (std::size_t i = 0; i < kLikely; ++i) {
      same |= static_cast<std::uint32_t>(token[i] == wanted) << i;
    }
    same &= (1U << count) - 1;
    return same == 0 ? kLikely : static_cast<std::size_t>(std::countr_zero(same));
  }
};

/// The likeliest of a row's tokens, given the likeliest first with their log-probabilities.
[[nodiscard]] Likely likely_of(std::span<const Token> tokens, std::span<const float> logprobs);

/// Rows of one namespace, a fixed number of them; a newer one takes the place of another whose
/// tokens hash alike. One thread adds at a time; any number find meanwhile.
class KeptRows {
 public:
  /// At most 2^bits rows of 64 bytes. The memory is taken when the first row is added, and pages of
  /// it as they are written.
  explicit KeptRows(std::uint32_t bits) noexcept : bits_(bits) {}
  ~KeptRows();
  KeptRows(const KeptRows&) = delete;
  KeptRows& operator=(const KeptRows&) = delete;

  /// Whether a row was ever added.
  [[nodiscard]] bool any() const noexcept {
    return rows_.load(std::memory_order_acquire) != nullptr;
  }
  /// Keeps nothing from now on.
  void refuse() noexcept {
    forget();
    refused_ = true;
  }
  /// Adds what the target said after `last`, and `before` it: averaged with what was known.
  void add(Token before, Token last, const Likely& row);
  /// Asks for the memory that `find` will read.
  void foresee(Token before, Token last) const noexcept;
  /// What is known after two tokens; nothing (`count` 0) where nothing is.
  [[nodiscard]] Likely find(Token before, Token last) const noexcept;
  /// Leaves no byte of any row.
  void forget() noexcept;
  [[nodiscard]] std::size_t nbytes() const noexcept { return any() ? sizeof(KeptRow) << bits_ : 0; }

 private:
  [[nodiscard]] std::size_t slot(std::uint64_t key) const noexcept;

  std::uint32_t bits_;
  bool refused_ = false;
  void* memory_ = nullptr;
  std::atomic<KeptRow*> rows_ = nullptr;
};

}  // namespace draftwood::recall
