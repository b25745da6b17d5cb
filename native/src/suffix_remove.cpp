// How a sequence leaves a suffix tree, at once or a share at a time.
//
//   out     suffix by suffix, from the first: between two of them the tree is one of the other
//           sequences and of the tokens that are left
//   labels  records that outlive the text get labels elsewhere; a few may find none, and keep the
//           text as a ghost until they go

#include <algorithm>
#include <limits>
#include <mutex>

#include "suffix_impl.h"

namespace draftwood {

void SuffixTree::remove(Sequence sequence) {
  const std::unique_lock lock(impl_->mutex);
  (void)impl_->leave(impl_->slot_of(sequence, true), std::numeric_limits<std::size_t>::max());
}

bool SuffixTree::evict(Sequence sequence, std::size_t work) {
  const std::unique_lock lock(impl_->mutex);
  return impl_->leave(impl_->slot_of(sequence, true), work);
}

bool SuffixTree::Impl::leave(Slot& slot, std::size_t work) {
  const std::uint32_t index = slot.text.owner;
  {
    const Charge charge(*this, slot);
    if (!take_out(slot, work)) return false;
  }
  slot.in_tree = false;
  ++slot.generation;
  if (slot.references > 0) {
    ++ghosts;
  } else {
    release(index);
  }
  return true;
}

/// Does a share of the work; true when nothing is left but the text.
bool SuffixTree::Impl::take_out(Slot& slot, std::size_t work) {
  if (!slot.leaving) {
    slot.leaving = std::make_unique<Leaving>();
    slot.open = false;
    slot.active = {};
    removals = true;
    --live_sequences;
  }
  Leaving& leaving = *slot.leaving;
  std::vector<RecordId>& stale = leaving.stale;
  for (; work > 0 && leaving.out < slot.text.size; --work, --live_tokens) {
    remove_suffix(slot, leaving.out++);
  }
  const std::uint32_t owner = slot.text.owner;
  for (; work > 0 && leaving.seen < stale.size(); --work) {
    const RecordId id = now_at(stale[leaving.seen++]);
    if (labeled_by(id, owner) && !relabel(id, owner)) stale[leaving.kept++] = id;
  }
  if (leaving.out < slot.text.size || leaving.seen < stale.size()) return false;
  // Since a record was kept, it may have found a label, or have become another.
  stale.resize(leaving.kept);
  for (RecordId& id : stale) id = now_at(id);
  std::sort(stale.begin(), stale.end());
  stale.erase(std::unique(stale.begin(), stale.end()), stale.end());
  slot.references = static_cast<std::uint32_t>(std::count_if(
      stale.begin(), stale.end(), [&](RecordId id) { return labeled_by(id, owner); }));
  slot.leaving.reset();
  return true;
}

void SuffixTree::Impl::release(std::uint32_t index) {
  Slot& slot = slots[index];
  const Charge charge(*this, slot);
  store.release(slot.text);
  slot.next_free = free_slots;
  free_slots = index;
}

/// Takes out the suffix that begins at `start`. What is left is a tree of the others and of the
/// sequence's tokens behind `start`: invariants hold between two calls.
void SuffixTree::Impl::remove_suffix(Slot& slot, std::uint32_t start) {
  const TokenStore::Text& text = slot.text;
  RecordId id = kRootRecord;
  --records[id].count;
  const std::uint32_t end = start + std::min(text.size - start, depth);
  for (std::uint32_t i = start; i < end;) {
    const Position here = TokenStore::at(text, i);
    const Token token = store[here];
    const Ref child = find(id, token);
    const std::uint32_t count = count_of(child);
    if (count == 1) {
      if (id == kRootRecord) {
        first.erase(token);
      } else {
        records[id].children.erase(token, pool);
      }
      if (!is_leaf(child)) free_record(child);
      break;
    }
    if (id != kRootRecord) records[id].children.lower(token, count, pool);
    --records[child].count;
    if (records[child].at == here) slot.leaving->stale.push_back(child);
    i += records[child].length;
    id = child;
  }
  if (id != kRootRecord && records[id].children.size() == 1) merge(id);
}

/// Joins a record with its only child if nothing ends between them any more.
void SuffixTree::Impl::merge(RecordId id) {
  const Record& record = records[id];
  const Ref child = record.children.front().ref;
  if (count_of(child) != record.count) return;
  const Token token = store[record.at];
  if (is_leaf(child)) {
    const Position label = store.before(leaf_position(child), record.length);
    replace_child(record.parent, token, leaf_at(label));
  } else {
    Record& below = records[child];
    below.at = store.before(below.at, record.length);
    below.length += record.length;
    below.parent = record.parent;
    replace_child(record.parent, token, child);
  }
  free_record(id);
}

/// Whether a record is in use, and its label lies in the text of slot `owner`.
bool SuffixTree::Impl::labeled_by(RecordId id, std::uint32_t owner) const {
  return records.holds(id) && records[id].count > 0 && store.owner(records[id].at) == owner;
}

/// Finds a label outside the text of slot `owner`, none of whose suffixes is in the tree any more.
bool SuffixTree::Impl::relabel(RecordId id, std::uint32_t owner) {
  // The rarest continuation is most often a leaf, whose sequence is in the tree.
  std::uint32_t below = records[id].length;
  RecordId at = id;
  Ref last = id;
  while (!is_leaf(last)) {
    at = last;
    if (at != id) below += records[at].length;
    const Children& children = records[at].children;
    if (children.size() == 0) break;
    last = children.back().ref;
  }
  if (is_leaf(last)) {
    records[id].at = store.before(leaf_position(last), below);
    return true;
  }
  const std::uint32_t other = store.owner(records[at].at);
  if (at == id || other == owner || !slots[other].in_tree || slots[other].leaving) return false;
  records[id].at = store.before(records[at].at, below - records[at].length);
  return true;
}

}  // namespace draftwood
