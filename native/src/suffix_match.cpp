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

/// Moves `place`, `matched` tokens below the root, to its string less the first token. `end` stands
/// behind the string's last token.
void SuffixTree::Impl::shorten(Place& place, std::uint32_t matched, const Token* end) const {
  if (place.inside > 0 && !is_leaf(place.child)) {
    // By way of the record below: as far above the one that it links to as above itself. That looks
    // at one record most often, and at no list.
    const Record& below = records[place.child];
    if (matched - place.inside + below.length < depth) {
      std::uint32_t above = below.length - place.inside;
      RecordId at = now_at(below.link);
      while (above > 0 && records[at].length <= above) {
        above -= records[at].length;
        at = records[at].parent;
      }
      place = above == 0 ? Place{at, kNone, 0}
                         : Place{records[at].parent, at, records[at].length - above};
      return;
    }
  }
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
  if (string.empty()) return true;
  // Down by the labels' first tokens and lengths alone. The last label names an occurrence of the
  // whole string, if it is here: one look there replaces one at each label on the way.
  for (std::size_t i = 0; i < string.size();) {
    const Ref child = find(place.record, string[i]);
    if (child == kNone) return false;
    // A leaf ends where its sequence does, or at the depth, which no string exceeds.
    const std::size_t left = string.size() - i;
    if (is_leaf(child) || records[child].length > left) {
      place.child = child;
      place.inside = static_cast<std::uint32_t>(left);
      break;
    }
    i += records[child].length;
    place.record = child;
  }
  const bool inside = place.inside > 0;
  const std::uint32_t steps = inside ? place.inside : records[place.record].length;
  const Position label = label_of(inside ? place.child : place.record);
  return store.reads(label, static_cast<std::uint32_t>(string.size()) - steps, string);
}

/// The longest suffix of `context` that is in the tree: its length and its place. That of `known`
/// tokens is, at `place`.
std::uint32_t SuffixTree::Impl::match(std::span<const Token> context, std::uint32_t known,
                                      Place& place) const {
  if (known == context.size()) return known;
  // Where nothing or everything is in the tree, that is soon seen.
  for (const std::size_t length : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4},
                                   context.size(), std::size_t{16}}) {
    if (length > context.size() || length <= known) continue;
    Place deeper;
    if (descend(context.last(length), deeper)) {
      known = static_cast<std::uint32_t>(length);
      place = deeper;
    } else {
      context = context.last(length - 1);
    }
    if (known == context.size()) return known;
  }
  // From left to right: as long as the match goes on, lengthen it; where not, shorten it.
  place = Place{};
  std::uint32_t matched = 0;
  const Token* end = context.data();
  for (const Token token : context) {
    bool moved = advance(place, matched, token);
    while (!moved && matched > 0) {
      shorten(place, matched, end);
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
