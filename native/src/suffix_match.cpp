// Where in a suffix tree a string lies.

#include <algorithm>
#include <shared_mutex>

#include "suffix_impl.h"

namespace draftwood {

/// Moves `place`, `matched` tokens below the root, over `token`; false (unmoved) where it cannot.
bool SuffixTree::Impl::advance(Place& place, std::uint32_t matched, Token token) const {
  if (place.inside == 0) {
    const Ref child = find(place.record, token);
    if (child == kNone) return false;
    place.child = child;
  } else {
    if (matched >= depth) return false;
    const Position next = store.forward(label_of(place.child), place.inside);
    if (next == kNone || store[next] != token) return false;
  }
  ++place.inside;
  if (!is_leaf(place.child) && place.inside == records[place.child].length) {
    place = Place{place.child, kNone, 0};
  }
  return true;
}

/// Moves `place` to its string less the first token. `end` stands behind the string's last token.
void SuffixTree::Impl::shorten(Place& place, const Token* end) const {
  std::uint32_t left = place.inside;
  if (place.record == kRootRecord) {
    --left;
  } else {
    place.record = now_at(records[place.record].link);
  }
  place.inside = 0;
  place.child = kNone;
  // The string is known to be here: labels are stepped over unread.
  while (left > 0) {
    const Ref child = find(place.record, *(end - left));
    if (is_leaf(child) || left < records[child].length) {
      place.child = child;
      place.inside = left;
      return;
    }
    left -= records[child].length;
    place.record = child;
  }
}

/// The place of `string`, from the root down; false where the tree does not hold it.
bool SuffixTree::Impl::descend(std::span<const Token> string, Place& place) const {
  place = Place{};
  if (string.size() > depth) return false;
  for (std::size_t i = 0; i < string.size();) {
    const Ref child = find(place.record, string[i]);
    if (child == kNone) return false;
    // A leaf ends where its sequence does, or at the depth, which no string exceeds.
    const std::size_t left = string.size() - i;
    const std::size_t length = is_leaf(child) ? left : records[child].length;
    const std::size_t steps = std::min(left, length);
    Position at = label_of(child);
    for (std::size_t k = 1; k < steps; ++k) {
      at = store.after(at);
      if (at == kNone || store[at] != string[i + k]) return false;
    }
    i += steps;
    if (!is_leaf(child) && steps == length) {
      place.record = child;
    } else {
      place.child = child;
      place.inside = static_cast<std::uint32_t>(steps);
    }
  }
  return true;
}

/// The longest suffix of `context` that is in the tree: its length and its place.
std::uint32_t SuffixTree::Impl::match(std::span<const Token> context, Place& place) const {
  // Where nothing or everything is known, that is soon seen.
  std::size_t known = 0;
  for (const std::size_t length : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4},
                                   context.size(), std::size_t{16}}) {
    if (length > context.size() || length <= known) continue;
    Place deeper;
    if (descend(context.last(length), deeper)) {
      known = length;
      place = deeper;
      if (known == context.size()) return static_cast<std::uint32_t>(known);
    } else {
      context = context.last(length - 1);
      if (known == context.size()) return static_cast<std::uint32_t>(known);
    }
  }
  // From left to right: as long as the match goes on, lengthen it; where not, shorten it.
  place = Place{};
  std::uint32_t matched = 0;
  const Token* end = context.data();
  for (const Token token : context) {
    bool moved = advance(place, matched, token);
    while (!moved && matched > 0) {
      shorten(place, end);
      moved = advance(place, --matched, token);
    }
    ++end;
    matched += moved ? 1 : 0;
  }
  return matched;
}

std::uint32_t SuffixTree::count(std::span<const Token> pattern) const {
  const std::shared_lock lock(impl_->mutex);
  Place place;
  return impl_->descend(pattern, place) ? impl_->count_at(place) : 0;
}

}  // namespace draftwood
