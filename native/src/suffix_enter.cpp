// How a suffix tree takes many tokens of one sequence at once: suffix by suffix, from the longest.
//
// A suffix goes down over records, not over tokens, so that what was seen before costs no more than
// what is new: a text that repeats itself has few records on the way. One suffix after the other is
// McCreight's order (1976): what is known to be there of one is known of the next less its first
// token, and the record that one makes links to one that the next finds or makes.
//
// The tree comes out as if each token had been appended by itself: at any string the suffixes pass
// in the order in which they begin, whichever way they come.

#include <algorithm>

#include "suffix_impl.h"

namespace draftwood {
namespace {

using Impl = SuffixTree::Impl;

class Entrance {
 public:
  /// `string`: the text from the suffix that ends in the last of `slot.active`, which stands
  /// `old` tokens before what is new; all of it is in the store.
  Entrance(Impl& tree, Impl::Slot& slot, std::span<const Token> string, std::uint32_t old)
      : tree_(tree),
        slot_(slot),
        string_(string),
        origin_(slot.text.size - static_cast<std::uint32_t>(string.size())) {
    ends_.swap(slot.active);
    for (std::uint32_t start = 0; start < string.size(); ++start) {
      if (start < old) {
        enter(start, tree_.now_at(ends_[old - start - 1]), old - start);
      } else {
        enter(start, kRootRecord, 0);
      }
    }
    arrive(kRootRecord, 0);
  }

 private:
  /// Moves the suffix that begins at `start` and ends in record `id`, `at` tokens below the root,
  /// to the end of the text.
  void enter(std::uint32_t start, RecordId id, std::uint32_t at) {
    const auto left = static_cast<std::uint32_t>(string_.size()) - start;
    const std::uint32_t length = std::min(left, tree_.depth);
    known_ = std::max(known_, at);
    arrive(id, at);
    if (id != kRootRecord && tree_.records[id].count == 1) {
      tree_.become_leaf(id, slot_, start + origin_ + at);
      known_ = 0;
      return;
    }
    for (bool ends_here = id != kRootRecord; at < length; ends_here = false) {
      const Token token = string_[start + at];
      const Ref child = tree_.find(id, token);
      if (child == kNone) {
        tree_.add_leaf(id, token, position(start + at));
        left_at(at);
        return;
      }
      const std::uint32_t count = tree_.count_of(child);
      const std::uint32_t most =
          is_leaf(child) ? length - at : std::min(length - at, tree_.records[child].length);
      const std::uint32_t same = common(tree_.label_of(child), start, at, most);
      if (ends_here && tree_.records[id].count == count + 1) {
        id = move_end(id, child, start, at, same);
      } else {
        if (id != kRootRecord) tree_.records[id].children.raise(token, count, tree_.pool);
        id = pass(id, child, start, at, same);
      }
      at += same;
      arrive(id, at);
      if (made_ && at < tree_.depth) {
        unlinked_ = id;
        link_at_ = at - 1;
      }
      if (made_ && at < length) {
        tree_.add_leaf(id, string_[start + at], position(start + at));
        left_at(at);
        return;
      }
    }
    left_at(at);
    if (at == tree_.depth) return;
    if (slot_.active.empty()) slot_.active.resize(at, kNone);
    slot_.active[at - 1] = id;
  }

  /// Over `same` tokens of the label of `child`; the record in which the suffix is then.
  RecordId pass(RecordId id, Ref child, std::uint32_t start, std::uint32_t at, std::uint32_t same) {
    const Position here = position(start + at);
    made_ = is_leaf(child) || same < tree_.records[child].length;
    if (!made_) {
      Record& record = tree_.records[child];
      ++record.count;
      tree_.refer(record, here);
      return child;
    }
    const RecordId to =
        tree_.new_record(Record{here, same, tree_.count_of(child) + 1, id, kNone, {}});
    tree_.replace_child(id, string_[start + at], to);
    hang(to, child, at, same);
    return to;
  }

  /// As pass(), where this suffix is all that parts record `id` from `child`: the boundary between
  /// them moves along with it.
  RecordId move_end(RecordId id, Ref child, std::uint32_t start, std::uint32_t at,
                    std::uint32_t same) {
    Record& record = tree_.records[id];
    const Position label = position(start + at - record.length);
    made_ = is_leaf(child) || same < tree_.records[child].length;
    if (made_) {
      tree_.refer(record, label);
      record.length += same;
      record.children.drop_only();
      hang(id, child, at, same);
      return id;
    }
    Record& below = tree_.records[child];
    tree_.refer(below, label);
    below.length += record.length;
    below.parent = record.parent;
    ++below.count;
    tree_.replace_child(record.parent, string_[start + at - record.length], child);
    record.children.drop_only();
    tree_.free_record(id);
    return child;
  }

  /// Hangs what is left of `child`, whose label begins `at` tokens below the root, behind its first
  /// `same` tokens below record `id`.
  void hang(RecordId id, Ref child, std::uint32_t at, std::uint32_t same) {
    Children& children = tree_.records[id].children;
    if (!is_leaf(child)) {
      Record& below = tree_.records[child];
      below.at = tree_.store.forward(below.at, same);
      below.length -= same;
      below.parent = id;
      children.set_only(tree_.store[below.at], child);
      return;
    }
    if (at + same == tree_.depth) return;
    const Position label = leaf_position(child);
    const Position rest = tree_.store.forward(label, same);
    if (rest == kNone) {
      tree_.end_meets(label, at + same, id);
    } else {
      children.set_only(tree_.store[rest], leaf_at(rest));
    }
  }

  /// How many of `most` tokens at a label, `at` tokens below the root, are the suffix's.
  [[nodiscard]] std::uint32_t common(Position label, std::uint32_t start, std::uint32_t at,
                                     std::uint32_t most) const {
    std::uint32_t same = known_ > at ? std::min(known_ - at, most) : 1;
    if (same == most) return same;
    Position here = tree_.store.forward(label, same);
    const Token* own = &string_[start + at];
    while (same < most && here != kNone && tree_.store[here] == own[same]) {
      here = tree_.store.after(here);
      ++same;
    }
    return same;
  }

  /// The suffix is in record `id`, `at` tokens below the root: the one before may have waited for
  /// that with a link.
  void arrive(RecordId id, std::uint32_t at) {
    if (unlinked_ == kNone || at != link_at_) return;
    tree_.records[unlinked_].link = id;
    unlinked_ = kNone;
  }

  /// The suffix parts from what was there, `at` tokens below the root.
  void left_at(std::uint32_t at) { known_ = at > 0 ? at - 1 : 0; }

  [[nodiscard]] Position position(std::uint32_t index) const {
    return TokenStore::at(slot_.text, origin_ + index);
  }

  Impl& tree_;
  Impl::Slot& slot_;
  const std::span<const Token> string_;
  const std::uint32_t origin_;  ///< where in the sequence it begins
  std::vector<RecordId> ends_;  ///< `active` as it was
  std::uint32_t known_ = 0;     ///< tokens of the suffix that are known to be in the tree
  bool made_ = false;           ///< whether the record it came to is new, or another string's now
  RecordId unlinked_ = kNone;
  std::uint32_t link_at_ = 0;  ///< how far below the root lies what it is to link to
};

}  // namespace

void SuffixTree::Impl::enter(Slot& slot, std::span<const Token> tokens) {
  const auto old = static_cast<std::uint32_t>(slot.active.size());
  std::vector<Token> string;
  string.reserve(old + tokens.size());
  for (std::uint32_t i = slot.text.size - old; i < slot.text.size; ++i) {
    string.push_back(store[TokenStore::at(slot.text, i)]);
  }
  string.insert(string.end(), tokens.begin(), tokens.end());
  for (const Token token : tokens) store.push(slot.text, token);
  live_tokens += tokens.size();
  records[kRootRecord].count += static_cast<std::uint32_t>(tokens.size());
  (void)Entrance(*this, slot, string, old);
}

}  // namespace draftwood
