#include "draftwood/sequences.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace draftwood {
namespace {

/// Rows from which on a step uses several threads. Below, one thread takes 0.3 ms at most, and a
/// second one may wait longer than that for a core of a machine that an engine keeps busy.
constexpr std::size_t kManyRows = 64;

/// Of a text that stands where it stood, so many tokens are compared at either end, and as many in
/// the middle, further on with every call.
constexpr std::size_t kCompared = 2048;

/// Calls without a row after which a sequence is taken to have ended.
constexpr std::uint64_t kEnded = 2;

bool equal(std::span<const Token> a, std::span<const Token> b, std::size_t first,
           std::size_t count) {
  return count == 0 || std::memcmp(a.data() + first, b.data() + first, count * sizeof(Token)) == 0;
}

}  // namespace

Sequences::Sequences(Token vocab_size, std::size_t context_limit)
    : vocab_size_(static_cast<std::uint32_t>(std::max(vocab_size, 0))),
      context_limit_(context_limit) {}

Sequences::Slot Sequences::open(std::span<const Token> text,
                                std::shared_ptr<RecallRequest> request) {
  if (free_.empty()) {
    free_.push_back(static_cast<Slot>(sequences_.size()));
    sequences_.emplace_back();
  }
  const Slot slot = free_.back();
  Sequence& sequence = sequences_[static_cast<std::size_t>(slot)];
  sequence.text.reserve(text.size() + 1024);
  sequence.text.assign(text.begin(), text.end());
  sequence.request = std::move(request);
  sequence.seen = calls_;
  sequence.open = true;
  free_.pop_back();
  return slot;
}

void Sequences::close(Slot slot) {
  Sequence* const sequence = find(slot);
  if (sequence == nullptr) return;
  *sequence = {};
  free_.push_back(slot);
}

void Sequences::mute(Slot slot) {
  Sequence* const sequence = find(slot);
  if (sequence == nullptr) return;
  sequence->request.reset();
  sequence->tokens.clear();
  sequence->parents.clear();
}

std::span<const Token> Sequences::text(Slot slot) const {
  const auto at = static_cast<std::size_t>(slot);
  if (slot < 0 || at >= sequences_.size()) return {};
  return sequences_[at].text;
}

std::size_t Sequences::nbytes() const noexcept {
  std::size_t bytes = sequences_.capacity() * sizeof(Sequence);
  for (const Sequence& each : sequences_) {
    bytes +=
        (each.text.capacity() + each.tokens.capacity() + each.parents.capacity()) * sizeof(Token);
  }
  return bytes;
}

Sequences::Sequence* Sequences::find(Slot slot) noexcept {
  const auto at = static_cast<std::size_t>(slot);
  if (slot < 0 || at >= sequences_.size() || !sequences_[at].open) return nullptr;
  return &sequences_[at];
}

/// Moves the text, and counts how much of the draft that was handed out was right. The last token
/// of a step is the target's own.
void Sequences::settle(Sequence& sequence, std::span<const Token> tokens) {
  if (tokens.empty()) return;
  std::int32_t at = kRoot;
  std::size_t node = 0;
  for (const Token token : tokens.first(tokens.size() - 1)) {
    while (node < sequence.tokens.size() &&
           (sequence.parents[node] != at || sequence.tokens[node] != token)) {
      ++node;
    }
    if (node == sequence.tokens.size()) break;
    ++accepted_;
    at = static_cast<std::int32_t>(node++);
  }
  sequence.tokens.clear();
  sequence.parents.clear();
  sequence.text.insert(sequence.text.end(), tokens.begin(), tokens.end());
}

void Sequences::step(std::span<const Slot> slots, std::span<const StepRow> rows, bool whole,
                     std::span<const std::int64_t> rooms, const StepLimits& limits,
                     const ValueCut* cut, StepDrafts& drafts) {
  const std::size_t count = slots.size();
  ++steps_;
  longest_ = 0;
  total_ = 0;
  moving_.clear();
  moved_.clear();
  drafting_.clear();
  budgets_.clear();
  row_of_.clear();
  drafts_.clear();
  drafts.last.assign(count, 0);
  drafts.came.assign(count, 0);
  drafts.faults.assign(count, StepFault::kNone);
  const auto blame = [&](std::size_t row, StepFault fault) {
    drafts.faults[row] = fault;
    drafts.faulty = true;
  };
  for (std::size_t i = 0; i < count; ++i) {
    Sequence* const sequence = find(slots[i]);
    if (sequence == nullptr) {
      blame(i, StepFault::kUnknown);
      continue;
    }
    if (sequence->in_step == steps_) {
      blame(i, StepFault::kTwice);
      continue;
    }
    sequence->in_step = steps_;
    std::span<const Token> tokens = rows[i].tokens;
    if (whole && rows[i].valid) {
      if (tokens.size() < sequence->text.size()) {
        blame(i, StepFault::kShort);
        continue;
      }
      tokens = tokens.subspan(sequence->text.size());
    }
    const auto outside = [&](Token token) {
      return static_cast<std::uint32_t>(token) >= vocab_size_;
    };
    if (!rows[i].valid || std::ranges::any_of(tokens, outside)) {
      blame(i, StepFault::kTokens);
      continue;
    }
    settle(*sequence, tokens);
    drafts.came[i] = static_cast<std::int32_t>(tokens.size());
    longest_ = std::max(longest_, sequence->text.size());
    total_ += sequence->text.size();
    if (!sequence->text.empty()) drafts.last[i] = sequence->text.back();
    if (sequence->request == nullptr) continue;
    if (!tokens.empty()) {
      moving_.push_back(sequence->request.get());
      moved_.push_back(tokens);
    }
    const std::size_t length = std::min(sequence->text.size(), context_limit_);
    auto room = static_cast<std::int64_t>(context_limit_ - length);
    if (!rooms.empty()) room = std::min(room, rooms[i]);
    const auto reach = static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(room - 1, 0, std::min(limits.depth, limits.nodes)));
    if (reach == 0) continue;
    drafting_.push_back(sequence->request.get());
    budgets_.push_back({limits.nodes, reach, limits.floor, limits.chain});
    row_of_.push_back(static_cast<std::uint32_t>(i));
  }
  const std::uint32_t threads = count < kManyRows ? 1 : limits.threads;
  if (!moving_.empty()) observe_all(moving_, moved_, threads);
  if (!drafting_.empty()) propose_all(drafting_, budgets_, threads);
  static const RecallDraft kNothing;
  for (std::size_t i = 0; i < drafting_.size(); ++i) {
    const RecallDraft& draft = drafting_[i]->last();
    const auto outside = [&](Token token) {
      return static_cast<std::uint32_t>(token) >= vocab_size_;
    };
    const bool wrong = std::ranges::any_of(draft.tokens, outside);
    if (wrong) blame(row_of_[i], StepFault::kDraft);
    drafts_.push_back(wrong ? &kNothing : &draft);
  }
  if (cut != nullptr) cut_by_value(drafts_, *cut, keep_);
  // The kept nodes end to end, and what each sequence remembers of them.
  drafts.offsets.assign(count + 1, 0);
  std::size_t first = 0;
  std::size_t total = 0;
  for (const RecallDraft* draft : drafts_) total += draft->tokens.size();
  drafts.tokens.reserve(total);
  drafts.parents.reserve(total);
  drafts.confidence.reserve(total);
  drafts.sources.reserve(total);
  std::vector<std::int32_t> renamed;
  std::size_t next = 0;
  for (std::size_t row = 0; row < count; ++row) {
    if (next < row_of_.size() && row_of_[next] == row) {
      const RecallDraft& draft = *drafts_[next++];
      const std::size_t nodes = draft.tokens.size();
      const std::size_t begin = drafts.tokens.size();
      renamed.resize(nodes);
      for (std::size_t i = 0; i < nodes; ++i) {
        if (cut != nullptr && keep_[first + i] == 0) continue;
        renamed[i] = static_cast<std::int32_t>(drafts.tokens.size() - begin);
        const std::int32_t parent = draft.parents[i];
        drafts.tokens.push_back(draft.tokens[i]);
        drafts.parents.push_back(parent == kRoot ? kRoot
                                                 : renamed[static_cast<std::size_t>(parent)]);
        drafts.confidence.push_back(draft.confidence[i]);
        drafts.sources.push_back(draft.sources[i]);
      }
      first += nodes;
      Sequence& sequence = sequences_[static_cast<std::size_t>(slots[row])];
      const auto at = static_cast<std::ptrdiff_t>(begin);
      sequence.tokens.assign(drafts.tokens.begin() + at, drafts.tokens.end());
      sequence.parents.assign(drafts.parents.begin() + at, drafts.parents.end());
    }
    drafts.offsets[row + 1] = static_cast<std::int32_t>(drafts.tokens.size());
  }
  drafted_ += drafts.tokens.size();
}

/// Whether the text is the row's beginning. Most others differ in the text's last token.
bool Sequences::begins(std::span<const Token> row, const Sequence& sequence,
                       std::size_t leap) noexcept {
  const std::vector<Token>& text = sequence.text;
  if (text.size() > row.size() || row.size() - text.size() > leap) return false;
  if (text.empty()) return true;
  return row[text.size() - 1] == text.back() && equal(row, text, 0, text.size() - 1);
}

/// The same for the row where the sequence stood before: of a long text only parts are compared.
bool Sequences::still_begins(std::span<const Token> row, Sequence& sequence,
                             std::size_t leap) noexcept {
  const std::size_t length = sequence.text.size();
  if (length <= 3 * kCompared) return begins(row, sequence, leap);
  if (length > row.size() || row.size() - length > leap) return false;
  const std::size_t last = length - kCompared;
  if (sequence.compared < kCompared || sequence.compared >= last) sequence.compared = kCompared;
  const std::size_t middle = sequence.compared;
  sequence.compared += kCompared;
  return equal(row, sequence.text, last, kCompared) && equal(row, sequence.text, 0, kCompared) &&
         equal(row, sequence.text, middle, std::min(kCompared, last - middle));
}

std::vector<Sequences::Slot> Sequences::recognize(std::span<const StepRow> rows, std::size_t leap,
                                                  std::uint64_t patience,
                                                  std::vector<Slot>& missed) {
  ++calls_;
  std::vector<Slot> found(rows.size(), -1);
  const auto length = [&](Slot slot) {
    return sequences_[static_cast<std::size_t>(slot)].text.size();
  };
  for (std::size_t i = 0; i < std::min(rows.size(), stood_.size()); ++i) {
    Sequence* const sequence = find(stood_[i]);
    if (sequence == nullptr || sequence->seen == calls_ || !rows[i].valid) continue;
    if (!still_begins(rows[i].tokens, *sequence, leap)) continue;
    sequence->seen = calls_;
    found[i] = stood_[i];
  }
  // The others, the longest last: each takes the row that grew least, from a shorter one if need be.
  std::vector<Slot> left;
  for (std::size_t slot = 0; slot < sequences_.size(); ++slot) {
    const Sequence& sequence = sequences_[slot];
    if (sequence.open && sequence.seen != calls_) left.push_back(static_cast<Slot>(slot));
  }
  const auto shorter = [&](Slot a, Slot b) {
    return length(a) != length(b) ? length(a) < length(b) : a > b;
  };
  std::ranges::sort(left, shorter);
  while (!left.empty()) {
    const Slot slot = left.back();
    left.pop_back();
    Sequence& sequence = sequences_[static_cast<std::size_t>(slot)];
    std::size_t best = rows.size();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (!rows[i].valid || (found[i] >= 0 && length(found[i]) >= sequence.text.size())) continue;
      if (best < rows.size()) {
        const bool free = found[i] < 0;
        const bool best_free = found[best] < 0;
        if (free != best_free ? best_free : rows[i].tokens.size() >= rows[best].tokens.size())
          continue;
      }
      if (begins(rows[i].tokens, sequence, leap)) best = i;
    }
    if (best == rows.size()) continue;
    if (found[best] >= 0) {
      const Slot other = found[best];
      sequences_[static_cast<std::size_t>(other)].seen = calls_ - 1;
      left.insert(std::ranges::upper_bound(left, other, shorter), other);
    }
    found[best] = slot;
    sequence.seen = calls_;
  }
  for (std::size_t slot = 0; slot < sequences_.size(); ++slot) {
    const Sequence& sequence = sequences_[slot];
    if (!sequence.open) continue;
    if (sequence.request != nullptr && calls_ - sequence.seen == kEnded) sequence.request->share();
    if (calls_ - sequence.seen > patience) missed.push_back(static_cast<Slot>(slot));
  }
  stood_ = found;
  return found;
}

}  // namespace draftwood
