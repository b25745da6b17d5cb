#include "recall_places.h"

#include <algorithm>
#include <limits>

namespace draftwood::recall {

void Walk::begin(const View& view, std::span<const Token> context) noexcept {
  view_ = view;
  context_ = context;
  const Ring& ring = *view.ring;
  const Hashes hashes = view.reach == 0 ? Hashes{} : hash_context(context, view.salt);
  for (std::size_t k = 0; k < kOrders; ++k) {
    Chain& chain = chains_[k];
    chain.age = 0;
    chain.count = 0;
    chain.looked = 0;
    chain.pending = false;
    chain.open = view.reach != 0 && context.size() >= kOrder[k];
    chain.at = 0;
    if (!chain.open) continue;
    chain.at = ring.bucket(k, hashes);
    prefetch(ring.heads[k] + chain.at);
  }
}

void Walk::enter() noexcept {
  const Ring& ring = *view_.ring;
  for (std::size_t k = 0; k < kOrders; ++k) {
    Chain& chain = chains_[k];
    if (!chain.open) continue;
    chain.at = peek(ring.heads[k][chain.at]);
    if (chain.at > ring.capacity) chain.at = 0;
    chain.open = chain.at != 0;
    if (chain.open) prefetch(ring.records + (chain.at - 1));
  }
}

/// Whether what stands in `slot` came after the context's last `order` tokens, in its namespace.
inline bool Walk::is_place(std::uint32_t slot, std::uint32_t age,
                           std::uint32_t order) const noexcept {
  if (view_.owners != nullptr && peek(view_.owners[slot / kBlock]) != view_.name) return false;
  return match(slot, std::min(order, view_.reach - age)) == order;
}

template <std::size_t K>
bool Walk::step() noexcept {
  Chain& chain = chains_[K];
  if (!chain.open) return false;
  const Ring& ring = *view_.ring;
  // What stands around the last record was asked for a round ago.
  if (chain.pending && is_place(chain.found[chain.count], chain.age, kOrder[K])) ++chain.count;
  chain.pending = false;
  if (chain.at == 0 || chain.count == kSteps[K] || chain.looked == kLooks * kSteps[K]) {
    return chain.open = false;
  }
  const std::uint32_t slot = chain.at - 1;
  const std::uint32_t age = ring.age(slot, view_.tail);
  const std::uint32_t link = peek(ring.records[slot].link[K]);
  // Dead, or overwritten since it was linked, maybe by context, which is never drafted.
  if (age > view_.reach || age <= chain.age || link == kUnnamed) {
    chain.at = 0;
    return chain.open = false;
  }
  chain.age = age;
  chain.found[chain.count] = slot;
  chain.pending = true;
  ++chain.looked;
  // What stands before is compared, and what comes after may be drafted.
  prefetch(ring.records + (slot - std::min(slot, kOrder[K] + 1)));
  if constexpr (K + 1 == kOrders) prefetch(ring.records + (slot - std::min(slot, 3 * kLongest)));
  prefetch(ring.records + std::min(slot + 3, ring.capacity - 1));
  if (view_.owners != nullptr) prefetch(view_.owners + slot / kBlock);
  chain.at = link > ring.capacity ? 0 : link;
  if (chain.at != 0) prefetch(ring.records + (link - 1));
  return true;
}

bool Walk::step() noexcept {
  static_assert(kOrders == 3);
  const bool first = step<0>();
  const bool second = step<1>();
  return step<2>() || second || first;
}

std::uint32_t Walk::collect(std::vector<Place>& places) const {
  const Ring& ring = *view_.ring;
  const auto known = static_cast<std::uint32_t>(std::min<std::size_t>(kMatchCap, context_.size()));
  std::uint32_t longest = 0;
  // A longer match stands in a longer order's chain too; that walk has found it if it came so far
  // back as this, and then there is no need to know how long it is.
  std::array<std::uint32_t, kOrders> walked{};
  for (std::size_t k = kOrders; k-- > 0;) {
    const Chain& chain = chains_[k];
    for (std::uint32_t i = 0; i < chain.count; ++i) {
      const std::uint32_t slot = chain.found[i];
      const Token token = peek(ring.records[slot].token);
      if (token < 0) continue;
      const std::uint32_t age = ring.age(slot, view_.tail);
      std::uint32_t limit = kMatchCap + 1;
      for (std::size_t longer = kOrders; --longer > k;) {
        if (age <= walked[longer]) limit = kOrder[longer];
      }
      const std::uint32_t length = match(slot, std::min({limit, known, view_.reach - age}));
      if (length < kOrder[k] || length == limit) continue;
      if (!view_.hidden.empty() && view_.hides(age)) continue;
      places.push_back({slot, token, 0, static_cast<std::uint8_t>(length), view_.source});
      longest = std::max(longest, length);
    }
    // A head that a writer has just moved ends its walk before it began.
    if (chain.looked == 0) continue;
    walked[k] = chain.at == 0 ? std::numeric_limits<std::uint32_t>::max() : chain.age;
  }
  return longest;
}

std::uint32_t Walk::looked() const noexcept {
  std::uint32_t sum = 0;
  for (const Chain& chain : chains_) sum += chain.looked;
  return sum;
}

/// How many tokens before `slot` are the context's last, at most `limit`.
inline std::uint32_t Walk::match(std::uint32_t slot, std::uint32_t limit) const noexcept {
  const Ring& ring = *view_.ring;
  const Token* last = context_.data() + context_.size();
  std::uint32_t length = 0;
  if (slot >= limit) {
    const Record* record = ring.records + slot;
    while (length < limit && peek((--record)->token) == *--last) ++length;
    return length;
  }
  for (; length < limit; ++length) {
    slot = ring.before(slot);
    if (peek(ring.records[slot].token) != *--last) break;
  }
  return length;
}

}  // namespace draftwood::recall
