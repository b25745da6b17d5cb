// How a suffix tree grows by one token.

#include <mutex>
#include <stdexcept>

#include "suffix_impl.h"

namespace draftwood {

void SuffixTree::Impl::add_leaf(RecordId id, Token token, Position at) {
  if (id == kRootRecord) {
    first.set(token, leaf_at(at));
    return;
  }
  Children& children = records[id].children;
  const std::uint32_t only = children.size() == 1 ? count_of(children.front().ref) : 0;
  children.add(token, leaf_at(at), only, pool);
}

void SuffixTree::Impl::replace_child(RecordId id, Token token, Ref ref) {
  if (id == kRootRecord) {
    first.set(token, ref);
  } else {
    records[id].children.replace(token, ref);
  }
}

RecordId SuffixTree::Impl::new_record(const Record& record) {
  const std::uint32_t chunk = free_records.roomy();
  RecordId id;
  if (chunk == kNone) {
    id = records.grow(1);
  } else {
    if (free_records[chunk].dropped) restore_records(chunk);
    id = free_records[chunk].free;
    free_records[chunk].free = records[id].parent;
  }
  free_records.use(id >> kRecordBits);
  records[id] = record;
  ++live_records;
  return id;
}

void SuffixTree::Impl::free_record(RecordId id) {
  Record& record = records[id];
  record.children.clear(pool);
  unrefer(record.at);
  record.count = record.length = 0;
  free_records.give(id >> kRecordBits, id, record.parent);
  --live_records;
}

void SuffixTree::Impl::refer(Record& record, Position at) {
  unrefer(record.at);
  record.at = at;
}

void SuffixTree::Impl::unrefer(Position at) {
  if (ghosts == 0) return;
  const std::uint32_t owner = store.owner(at);
  Slot& slot = slots[owner];
  if (!slot.in_tree && slot.references > 0 && --slot.references == 0) {
    --ghosts;
    release(owner);
  }
}

void SuffixTree::Impl::append(Slot& slot, Token token) {
  const Position now = store.push(slot.text, token);
  ++live_tokens;
  ++records[kRootRecord].count;
  // From the longest suffix to the empty one; once one was seen before, all shorter ones were.
  const auto levels = static_cast<std::uint32_t>(slot.active.size());
  std::uint32_t longest = 0;
  RecordId longer = kNone;
  if (levels + 1 < depth) slot.active.push_back(kNone);
  for (std::uint32_t level = levels + 1; level-- > 0;) {
    const RecordId from = level == 0 ? kRootRecord : now_at(slot.active[level - 1]);
    const RecordId to = step(slot, from, level, token, now);
    if (to == kNone) continue;
    if (longer != kNone) {
      records[longer].link = to;
    } else {
      longest = level + 1;
    }
    longer = to;
    if (level + 1 < depth) slot.active[level] = to;
  }
  if (longer != kNone) records[longer].link = kRootRecord;
  slot.active.resize(longest < depth ? longest : depth - 1);
}

/// Moves the end of a suffix of `level` tokens, which lies in record `id`, over `token`. Returns
/// the record in which it ends then, or kNone where that is a leaf.
RecordId SuffixTree::Impl::step(Slot& slot, RecordId id, std::uint32_t level, Token token,
                                Position now) {
  if (id != kRootRecord && records[id].count == 1) {
    become_leaf(id, slot, slot.text.size - 1);
    return kNone;
  }
  const Ref child = find(id, token);
  if (child == kNone) {
    add_leaf(id, token, now);
    return kNone;
  }
  if (is_leaf(child)) return into_leaf(id, level, token, leaf_position(child), now, slot);
  return into_record(id, child, token, now, slot);
}

RecordId SuffixTree::Impl::into_leaf(RecordId id, std::uint32_t level, Token token, Position label,
                                     Position now, Slot& slot) {
  const Position rest = level + 1 == depth ? kNone : store.after(label);
  RecordId to = id;
  if (id != kRootRecord && records[id].count == 2) {
    // All others that came here went on to this leaf: the boundary moves along with this end.
    Record& record = records[id];
    refer(record, TokenStore::at(slot.text, slot.text.size - 1 - record.length));
    ++record.length;
    if (rest != kNone) {
      record.children.set_only(store[rest], leaf_at(rest));
    } else {
      record.children.drop_only();
    }
  } else {
    Record record{now, 1, 2, id, kNone, {}};
    if (rest != kNone) record.children.set_only(store[rest], leaf_at(rest));
    to = new_record(record);
    replace_child(id, token, to);
    if (id != kRootRecord) records[id].children.raise(token, 1, pool);
  }
  if (rest == kNone && level + 1 < depth) end_meets(label, level + 1, to);
  return to;
}

RecordId SuffixTree::Impl::into_record(RecordId id, RecordId child, Token token, Position now,
                                       Slot& slot) {
  const std::uint32_t count = records[child].count;
  if (id != kRootRecord && records[id].count == count + 1) {
    const Position label = TokenStore::at(slot.text, slot.text.size - 1 - records[id].length);
    if (records[child].length > 1) {
      Record& record = records[id];
      Record& below = records[child];
      refer(record, label);
      ++record.length;
      below.at = store.after(below.at);
      --below.length;
      record.children.set_only(store[below.at], child);
      return id;
    }
    // This end was all that parted the two records: they become one.
    Record& record = records[id];
    Record& below = records[child];
    refer(below, label);
    below.length = record.length + 1;
    below.parent = record.parent;
    ++below.count;
    replace_child(record.parent, store[label], child);
    record.children.drop_only();
    free_record(id);
    return child;
  }
  if (records[child].length == 1) {
    Record& below = records[child];
    ++below.count;
    refer(below, now);
    if (id != kRootRecord) records[id].children.raise(token, count, pool);
    return child;
  }
  const RecordId to = new_record(Record{now, 1, count + 1, id, kNone, {}});
  Record& below = records[child];
  below.at = store.after(below.at);
  --below.length;
  below.parent = to;
  records[to].children.set_only(store[below.at], child);
  replace_child(id, token, to);
  if (id != kRootRecord) records[id].children.raise(token, count, pool);
  return to;
}

/// A suffix came to the end of the leaf whose label holds `label`, where another sequence ends: the
/// other's suffix of `level` tokens now ends in record `id`.
void SuffixTree::Impl::end_meets(Position label, std::uint32_t level, RecordId id) {
  Slot& other = slots[store.owner(label)];
  if (!other.open) return;
  if (other.active.size() < level) {
    const std::size_t before = other.active.capacity();
    other.active.resize(level, kNone);
    slot_bytes += (other.active.capacity() - before) * sizeof(RecordId);
  }
  other.active[level - 1] = id;
}

/// The suffix that ends in `id`, before token `end`, is its only occurrence left, and grows.
void SuffixTree::Impl::become_leaf(RecordId id, const Slot& slot, std::uint32_t end) {
  const Record& record = records[id];
  const Position label = TokenStore::at(slot.text, end - record.length);
  replace_child(record.parent, store[label], leaf_at(label));
  free_record(id);
}

void SuffixTree::Impl::reopen(Slot& slot) {
  slot.open = true;
  const std::uint32_t size = slot.text.size;
  std::vector<Token> string;
  for (std::uint32_t level = 1; level <= size && level < depth; ++level) {
    string.insert(string.begin(), store[TokenStore::at(slot.text, size - level)]);
    Place place;
    (void)descend(string, place);
    if (place.inside > 0) break;  // in a leaf, as all longer suffixes are
    slot.active.push_back(place.record);
  }
}

}  // namespace draftwood
