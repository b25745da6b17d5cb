#include "recall_remove.h"

#include <algorithm>
#include <array>

#include "recall_marks.h"

namespace draftwood::recall {
namespace {

constexpr std::uint32_t kAhead = 16;  ///< slots whose links are asked for before they are followed

}  // namespace

std::uint32_t Removal::age(std::uint32_t slot) const noexcept {
  return history_.ring.age(slot, history_.slot_of(history_.header->written));
}

/// Whether a record was removed and is still in its chains.
bool Removal::left(std::uint32_t slot) const noexcept {
  const Record& record = history_.ring.records[slot];
  return peek(record.token) < 0 && peek(record.link[0]) != kUnnamed;
}

void Removal::start(Pass pass, std::uint64_t at) noexcept {
  pass_ = pass;
  at_ = at;
}

std::uint64_t Removal::slice() noexcept {
  const std::uint64_t written = history_.header->written;
  const std::uint64_t oldest =
      written > history_.ring.capacity ? written - history_.ring.capacity : 0;
  at_ = std::max(at_, oldest);
  return std::min(written, at_ + kSlice);
}

bool Removal::step() {
  const std::lock_guard lock(history_.writer);
  const std::uint64_t written = history_.header->written;
  overwritten_ = written > history_.ring.capacity;
  if (pass_ == Pass::kHeads) {
    heads();
    return true;
  }
  const std::uint64_t upto = slice();
  const Pass pass = pass_;
  if (pass == Pass::kBlank) blank(upto);
  if (pass == Pass::kRelink || pass == Pass::kRelinkNew) relink(upto);
  if (pass == Pass::kWipe) wipe(upto);
  at_ = upto;
  if (upto != written) return true;
  switch (pass) {
    case Pass::kBlank:
      start(Pass::kRelink, 0);
      return true;
    case Pass::kRelink:
      heads_from_ = written;
      start(Pass::kHeads, 0);
      return true;
    case Pass::kRelinkNew:
      start(Pass::kWipe, 0);
      return true;
    default:
      pass_ = Pass::kDone;
      return false;
  }
}

void Removal::blank(std::uint64_t upto) noexcept {
  Ring& ring = history_.ring;
  const std::uint64_t written = history_.header->written;
  const std::uint64_t oldest = written > ring.capacity ? written - ring.capacity : 0;
  // Of the oldest block a part has another owner already. No reader comes near it.
  const std::uint64_t whole = (oldest + kBlock - 1) / kBlock * kBlock;
  if (at_ == oldest) inside_ = Inside::kNameless;
  for (std::uint64_t at = at_; at < upto; ++at) {
    const std::uint32_t slot = history_.slot_of(at);
    const Token token = peek(ring.records[slot].token);
    bool gone = at < whole;
    if (victim_.sequence == 0) {
      gone = gone || peek(history_.owners[slot / kBlock]) == victim_.name;
    } else if (at >= whole && is_first_mark(token)) {
      const Token next = peek(ring.records[ring.after(slot)].token);
      inside_ = token == first_mark(victim_.sequence) && next == second_mark(victim_.sequence)
                    ? Inside::kIt
                    : Inside::kOther;
    } else {
      gone = gone || inside_ != Inside::kOther;
    }
    if (!gone || token < 0) continue;
    poke(ring.records[slot].token, kBlank);
    if (at >= whole && (victim_.sequence == 0 || inside_ == Inside::kIt)) {
      ++removed_;
      owner_ = peek(history_.owners[slot / kBlock]);
    }
  }
}

/// Where a link or head goes, of something `behind` so many slots from the newest.
std::uint32_t Removal::repaired(std::size_t order, std::uint32_t link,
                                std::uint32_t behind) const noexcept {
  const Ring& ring = history_.ring;
  if (link == 0 || link > ring.capacity) return 0;
  const std::uint32_t older = age(link - 1);
  if (older <= behind || older > history_.header->written) return 0;
  if (!left(link - 1)) return link;
  return peek(ring.records[link - 1].link[order]);  // older, so repaired before
}

void Removal::relink(std::uint64_t upto) const noexcept {
  Ring& ring = history_.ring;
  for (std::uint64_t at = at_; at < upto; ++at) {
    const std::uint32_t slot = history_.slot_of(at);
    Record& record = ring.records[slot];
    if (peek(record.link[0]) == kUnnamed) continue;
    const bool gone = peek(record.token) < 0;
    const std::uint32_t behind = age(slot);
    for (const std::uint32_t& word : ring.records[history_.slot_of(at + kAhead)].link) {
      const std::uint32_t link = peek(word);
      if (link - 1 < ring.capacity) prefetch(ring.records + (link - 1));
    }
    for (std::size_t k = 0; k < kOrders; ++k) {
      const std::uint32_t link = peek(record.link[k]);
      std::uint32_t next = repaired(k, link, behind);
      // Of what was removed the tokens before are gone; whoever takes its link over looks then.
      if (overwritten_ && !gone && next != 0 && !alike(k, slot, next - 1)) next = 0;
      if (next != link) poke(record.link[k], next);
    }
  }
}

/// The bucket of the order's chain that a slot belongs into; none, where it belongs into no chain.
std::int64_t Removal::bucket_of(std::size_t order, std::uint32_t slot) const noexcept {
  const Ring& ring = history_.ring;
  const Record& record = ring.records[slot];
  if (peek(record.token) < 0 || peek(record.link[0]) == kUnnamed) return kNone;
  std::array<Token, kLongest> before{};
  std::uint32_t at = slot;
  for (std::size_t i = kLongest; i-- > kLongest - kOrder[order];) {
    at = ring.before(at);
    before[i] = peek(ring.records[at].token);
    if (before[i] < 0) return kNone;
  }
  const std::uint32_t salt = history_.salt(peek(history_.owners[slot / kBlock]));
  const auto context = std::span<const Token>(before).last(kOrder[order]);
  return ring.bucket(order, hash_context(context, salt));
}

/// Whether two slots belong into the same chain. The first one is in a chain.
bool Removal::alike(std::size_t order, std::uint32_t one, std::uint32_t other) const noexcept {
  const Ring& ring = history_.ring;
  const Record& record = ring.records[other];
  if (peek(record.token) < 0 || peek(record.link[0]) == kUnnamed) return false;
  if (peek(history_.owners[one / kBlock]) == peek(history_.owners[other / kBlock])) {
    std::uint32_t same = 0;
    for (std::uint32_t a = one, b = other; same < kOrder[order]; ++same) {
      a = ring.before(a);
      b = ring.before(b);
      const Token token = peek(ring.records[a].token);
      if (token < 0 || token != peek(ring.records[b].token)) break;
    }
    if (same == kOrder[order]) return true;
  }
  const std::int64_t bucket = bucket_of(order, other);
  return bucket != kNone && bucket == bucket_of(order, one);
}

void Removal::heads() noexcept {
  Ring& ring = history_.ring;
  const std::uint32_t total = 1U << ring.bits[order_];
  const std::uint32_t upto = std::min(total, bucket_ + kSlice);
  for (; bucket_ < upto; ++bucket_) {
    std::uint32_t& head = ring.heads[order_][bucket_];
    const std::uint32_t link = peek(head);
    if (link == 0) continue;
    std::uint32_t next = repaired(order_, link, 0);
    if (overwritten_ && next != 0 && bucket_of(order_, next - 1) != bucket_) next = 0;
    if (next != link) poke(head, next);
  }
  if (bucket_ < total) return;
  bucket_ = 0;
  if (++order_ == kOrders) start(Pass::kRelinkNew, heads_from_);
}

void Removal::wipe(std::uint64_t upto) const noexcept {
  Ring& ring = history_.ring;
  for (std::uint64_t at = at_; at < upto; ++at) {
    const std::uint32_t slot = history_.slot_of(at);
    if (left(slot)) ring.mark(slot, kBlank);
  }
}

}  // namespace draftwood::recall
