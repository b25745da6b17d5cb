// How a suffix tree gives memory back, a little at a time.
//
//   move   the records of the emptiest chunks move into the others, and leave behind where they went
//   sweep  every record's link is brought up to date, and its list of children moves if the pool of
//          lists is to be emptied too; then nobody knows the old places any more: they are freed
//
// Between two calls the tree can be used as ever.

#include <algorithm>
#include <mutex>
#include <vector>

#include "suffix_impl.h"

namespace draftwood {

bool SuffixTree::Impl::compact(std::size_t work) {
  if (compaction == Compaction::kIdle) choose();
  while (compaction != Compaction::kIdle && work > 0) {
    if (cursor >= records.size()) {
      if (compaction == Compaction::kSweep) {
        end_compaction();
        break;
      }
      compaction = Compaction::kSweep;
      cursor = 0;
      continue;
    }
    const bool closed = free_records[cursor >> kRecordBits].closed;
    const bool wanted = records.holds(cursor) && closed == (compaction == Compaction::kMove);
    if (!wanted) {
      cursor = ((cursor >> kRecordBits) + 1) << kRecordBits;
      --work;
      continue;
    }
    std::size_t done = 1;
    if (records[cursor].count > 0) {
      if (compaction == Compaction::kMove) {
        done += move(cursor);
      } else {
        sweep(cursor);
      }
    }
    ++cursor;
    work -= std::min(work, done);
  }
  return compaction == Compaction::kIdle;
}

/// Begins a compaction if that is worth the work: closes the emptiest chunks, as many as there is
/// room for in the others.
void SuffixTree::Impl::choose() {
  const std::uint32_t chunks = free_records.chunks();
  std::vector<std::uint32_t> order;
  std::size_t held = 0;
  std::size_t used = 0;
  for (std::uint32_t chunk = 1; chunk + 1 < chunks; ++chunk) {
    FreeItems::Chunk& state = free_records[chunk];
    if (state.dropped) continue;
    if (state.used == 0) {
      records.drop(chunk);
      state.dropped = true;
      state.free = chunk << kRecordBits;
      continue;
    }
    order.push_back(chunk);
    held += records.kChunk;
    used += state.used;
  }
  const bool lists = pool.wasteful();
  const bool sparse = (held - used) * 4 > held && held - used > 2 * std::size_t{records.kChunk};
  if (!lists && !sparse) return;
  if (sparse) {
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return free_records[a].used < free_records[b].used;
    });
    std::size_t room = held - used;
    // A sixteenth stays free, so that the tree can grow while it is compacted.
    const std::size_t reserve = used / 16 + records.kChunk;
    for (const std::uint32_t chunk : order) {
      if (room < records.kChunk + reserve) break;
      room -= records.kChunk;
      free_records[chunk].closed = true;
    }
  }
  if (lists) pool.evacuate();
  compaction = Compaction::kMove;
  cursor = 0;
}

/// Moves a record; returns how many others had to be told.
std::size_t SuffixTree::Impl::move(RecordId from) {
  const Record record = records[from];
  const RecordId to = new_record(record);
  --live_records;
  --free_records[from >> kRecordBits].used;
  replace_child(record.parent, store[record.at], to);
  const Children& children = records[to].children;
  for (const Child child : children) {
    if (!is_leaf(child.ref)) records[child.ref].parent = to;
  }
  records[from].count = 0;
  records[from].length = kMoved;
  records[from].link = to;
  return 1 + children.size();
}

void SuffixTree::Impl::sweep(RecordId id) {
  Record& record = records[id];
  record.link = now_at(record.link);
  if (pool.evacuating()) record.children.relocate(pool);
}

void SuffixTree::Impl::end_compaction() {
  for (Slot& slot : slots) {
    for (RecordId& id : slot.active) id = now_at(id);
    if (!slot.leaving) continue;
    for (RecordId& id : slot.leaving->stale) id = now_at(id);
  }
  if (pool.evacuating()) pool.evacuated();
  for (std::uint32_t chunk = 0; chunk < free_records.chunks(); ++chunk) {
    FreeItems::Chunk& state = free_records[chunk];
    if (!state.closed) continue;
    records.drop(chunk);
    state.dropped = true;
    state.free = chunk << kRecordBits;
    free_records.reopen(chunk);
  }
  compaction = Compaction::kIdle;
}

/// Takes memory for a chunk that was given back; all its records are free.
void SuffixTree::Impl::restore_records(std::uint32_t chunk) {
  records.restore(chunk);
  free_records[chunk].dropped = false;
  free_records[chunk].free = kNone;
  for (std::uint32_t i = records.kChunk; i-- > 0;) {
    const RecordId id = (chunk << kRecordBits) | i;
    records[id].count = records[id].length = 0;
    free_records.put(chunk, id, records[id].parent);
  }
}

bool SuffixTree::compact(std::size_t work) {
  const std::unique_lock lock(impl_->mutex);
  return impl_->compact(work);
}

}  // namespace draftwood
