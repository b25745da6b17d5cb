// A suffix tree's sequences: how they begin, grow and leave.

#include "draftwood/suffix_tree.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "suffix_impl.h"

namespace draftwood {

SuffixTree::SuffixTree(std::int32_t depth) {
  if (depth < 2 || depth > kMaxDepth) {
    throw std::invalid_argument("depth " + std::to_string(depth) + " is outside [2, " +
                                std::to_string(kMaxDepth) + "]; 24 or 64 are usual");
  }
  impl_ = std::make_unique<Impl>(static_cast<std::uint32_t>(depth));
}

SuffixTree::~SuffixTree() = default;

SuffixTree::Impl::~Impl() {
  for (RecordId id = 0; id < records.size(); ++id) {
    if (records.holds(id) && records[id].count > 0) records[id].children.clear(pool);
  }
}

SuffixTree::Impl::Slot& SuffixTree::Impl::slot_of(Sequence sequence) {
  return const_cast<Slot&>(std::as_const(*this).slot_of(sequence));
}

const SuffixTree::Impl::Slot& SuffixTree::Impl::slot_of(Sequence sequence) const {
  const auto index = static_cast<std::uint64_t>(sequence) & 0xFFFFFFFFU;
  const auto generation = static_cast<std::uint64_t>(sequence) >> 32U;
  if (sequence < 0 || index >= slots.size() || slots[index].generation != generation ||
      !slots[index].in_tree) {
    throw std::out_of_range("sequence " + std::to_string(sequence) +
                            " is not in the tree; it was removed, or belongs to another tree");
  }
  return slots[index];
}

SuffixTree::Sequence SuffixTree::begin() {
  const std::unique_lock lock(impl_->mutex);
  std::uint32_t index = impl_->free_slots;
  if (index == kNone) {
    index = static_cast<std::uint32_t>(impl_->slots.size());
    impl_->slots.emplace_back();
  } else {
    impl_->free_slots = impl_->slots[index].next_free;
  }
  Impl::Slot& slot = impl_->slots[index];
  slot.text.owner = index;
  slot.in_tree = slot.open = true;
  ++impl_->live_sequences;
  return Impl::name_of(slot);
}

void SuffixTree::extend(Sequence sequence, std::span<const Token> tokens) {
  const auto negative = std::find_if(tokens.begin(), tokens.end(), [](Token t) { return t < 0; });
  if (negative != tokens.end()) {
    throw std::invalid_argument("token id " + std::to_string(*negative) +
                                " is negative; token ids start at 0");
  }
  const std::unique_lock lock(impl_->mutex);
  Impl::Slot& slot = impl_->slot_of(sequence);
  const Impl::Charge charge(*impl_, slot);
  if (!slot.open) impl_->reopen(slot);
  for (const Token token : tokens) {
    if (impl_->store.full()) throw std::length_error("the tree holds 2^31 tokens; remove some");
    impl_->append(slot, token);
  }
}

void SuffixTree::finish(Sequence sequence) {
  const std::unique_lock lock(impl_->mutex);
  Impl::Slot& slot = impl_->slot_of(sequence);
  const Impl::Charge charge(*impl_, slot);
  slot.open = false;
  slot.active = {};
  slot.text.pages.shrink_to_fit();
}

void SuffixTree::remove(Sequence sequence) {
  const std::unique_lock lock(impl_->mutex);
  Impl::Slot& slot = impl_->slot_of(sequence);
  impl_->remove(slot, slot.text.owner);
}

// --- Removal ----------------------------------------------------------------------------------

void SuffixTree::Impl::remove(Slot& slot, std::uint32_t index) {
  removals = true;
  {
    const Charge charge(*this, slot);
    slot.open = false;
    slot.active = {};
  }
  for (std::uint32_t start = 0; start < slot.text.size; ++start) {
    remove_suffix(slot.text, index, start);
  }
  relabel_from(index);
  slot.in_tree = false;
  ++slot.generation;
  live_tokens -= slot.text.size;
  --live_sequences;
  if (slot.references > 0) {
    ++ghosts;
  } else {
    release(index);
  }
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
void SuffixTree::Impl::remove_suffix(const TokenStore::Text& text, std::uint32_t owner,
                                     std::uint32_t start) {
  RecordId id = kRootRecord;
  --records[id].count;
  const std::uint32_t end = std::min(text.size, start + depth);
  for (std::uint32_t i = start; i < end;) {
    const Token token = store[TokenStore::at(text, i)];
    const Ref child = find(id, token);
    const std::uint32_t count = count_of(child);
    if (count == 1) {
      if (id == kRootRecord) {
        first.erase(token);
      } else {
        records[id].children.erase(token, 1, pool);
      }
      if (!is_leaf(child)) free_record(child);
      break;
    }
    if (id != kRootRecord) records[id].children.lower(token, count);
    --records[child].count;
    if (store.owner(records[child].at) == owner) stale.push_back(child);
    i += records[child].length;
    id = child;
  }
  if (id != kRootRecord && records[id].children.size() == 1) merge(id);
}

/// Joins a record with its only child if nothing ends between them any more.
void SuffixTree::Impl::merge(RecordId id) {
  const Record& record = records[id];
  const Ref child = record.children[0].ref;
  if (count_of(child) != record.count) return;
  const Token token = store[record.at];
  if (is_leaf(child)) {
    const Position label = store.before(leaf_position(child), record.length);
    replace_child(record.parent, token, 1, leaf_at(label));
  } else {
    Record& below = records[child];
    below.at = store.before(below.at, record.length);
    below.length += record.length;
    below.parent = record.parent;
    replace_child(record.parent, token, record.count, child);
  }
  free_record(id);
}

/// Finds new labels for the records that outlive the text of sequence `owner`.
void SuffixTree::Impl::relabel_from(std::uint32_t owner) {
  std::sort(stale.begin(), stale.end());
  stale.erase(std::unique(stale.begin(), stale.end()), stale.end());
  for (const RecordId id : stale) {
    if (records[id].count == 0 || store.owner(records[id].at) != owner) continue;
    // The rarest continuation is most often a leaf, whose sequence is in the tree.
    std::uint32_t below = records[id].length;
    RecordId at = id;
    Ref last = id;
    while (!is_leaf(last)) {
      at = last;
      if (at != id) below += records[at].length;
      const Children& children = records[at].children;
      if (children.size() == 0) break;
      last = children[children.size() - 1].ref;
    }
    if (is_leaf(last)) {
      records[id].at = store.before(leaf_position(last), below);
    } else if (at != id && slots[store.owner(records[at].at)].in_tree &&
               store.owner(records[at].at) != owner) {
      records[id].at = store.before(records[at].at, below - records[at].length);
    } else {
      ++slots[owner].references;
    }
  }
  stale.clear();
  if (stale.capacity() > 4096) stale.shrink_to_fit();
}

// --- Figures ----------------------------------------------------------------------------------

std::size_t SuffixTree::nbytes() const {
  const std::shared_lock lock(impl_->mutex);
  return sizeof *this + sizeof *impl_ + impl_->store.nbytes() + impl_->records.nbytes() +
         impl_->free_records.nbytes() + impl_->first.nbytes() + impl_->pool.nbytes() +
         impl_->slots.capacity() * sizeof(Impl::Slot) +
         impl_->stale.capacity() * sizeof(RecordId) + impl_->slot_bytes;
}

std::size_t SuffixTree::idle() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->store.idle() + impl_->pool.idle() +
         (impl_->records.room() - impl_->live_records) * sizeof(Record);
}

std::vector<SuffixTree::Extent> SuffixTree::extents() const {
  const std::shared_lock lock(impl_->mutex);
  std::vector<Extent> extents;
  extents.reserve(impl_->live_sequences);
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.in_tree) extents.push_back({Impl::name_of(slot), slot.text.size});
  }
  return extents;
}

std::vector<Token> SuffixTree::text(Sequence sequence, std::uint32_t most) const {
  const std::shared_lock lock(impl_->mutex);
  const TokenStore::Text& text = std::as_const(*impl_).slot_of(sequence).text;
  std::vector<Token> tokens(std::min(most, text.size));
  for (std::uint32_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = impl_->store[TokenStore::at(text, i)];
  }
  return tokens;
}

std::int32_t SuffixTree::depth() const {
  return static_cast<std::int32_t>(impl_->depth);
}

std::size_t SuffixTree::tokens() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_tokens;
}

std::size_t SuffixTree::sequences() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_sequences;
}

std::size_t SuffixTree::nodes() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_records - 1;
}

}  // namespace draftwood
