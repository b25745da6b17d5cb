// The suffix tree's data. A record stands for a string with two or more occurrences at which they
// part: they branch there, or one of them ends. A string that occurs once needs no record: see Ref.
//
//   "a b a c a b a", depth 4      "b a" is a record: it occurs twice, once followed
//                                 by "c", once at the end; leaf labels run on to the end of
//   root -+- a ...                their sequence or to the depth
//         +- b a -+- c a
//         |       +- (end)
//         +- c a b a
//
// Invariants, which check() proves:
//   label   `at` names an occurrence of the record's whole string, of which the label is the end
//   count   suffixes that begin with the string = sum over children + suffixes that end there
//   path    no record has an only child of the same count
//   link    a record shorter than the depth links to that of its string less the first token
//   leave   of a sequence that leaves, the first suffixes are in no count any more; its text stays
//           until no label lies there
//   ends    while a sequence is open, `active[l - 1]` is the record in which its last l tokens end,
//           for all l up to the longest that has one; longer suffixes end in leaves

#pragma once

#include <memory>
#include <shared_mutex>
#include <vector>

#include "arena.h"
#include "children.h"
#include "draftwood/suffix_tree.h"
#include "fork.h"
#include "token_store.h"

namespace draftwood {

using RecordId = std::uint32_t;
inline constexpr RecordId kRootRecord = 0;
inline constexpr unsigned kRecordBits = 12;           ///< 2^12 records come and go together
inline constexpr std::uint32_t kMoved = 0xFFFFFFFFU;  ///< `length` of one that is at `link` now

struct Record {
  Position at;           ///< first token of the label
  std::uint32_t length;  ///< tokens of the label
  std::uint32_t count;   ///< 0: not in use
  RecordId parent;
  RecordId link;
  Children children;
};
static_assert(sizeof(Record) == 32);

/// A place in the tree: at `record`, or `inside` tokens into the label of its child `child`.
struct Place {
  RecordId record = kRootRecord;
  Ref child = kNone;
  std::uint32_t inside = 0;
};

struct SuffixTree::Impl {
  /// How far a sequence's removal has come.
  struct Leaving {
    std::uint32_t out = 0;        ///< suffixes that are out
    std::vector<RecordId> stale;  ///< records whose labels the text holds
    std::size_t seen = 0;         ///< of those: how many were to get another
    std::size_t kept = 0;         ///< of those: the first so many, for which there was none
  };

  struct Slot {
    TokenStore::Text text;
    std::vector<RecordId> active;
    std::unique_ptr<Leaving> leaving;  ///< while its suffixes are on their way out
    std::uint32_t generation = 0;
    std::uint32_t next_free = kNone;
    std::uint32_t references = 0;  ///< of a ghost: records whose labels lie in its text
    bool in_tree = false;
    bool open = false;  ///< whether `active` is kept
  };

  /// Keeps `slot_bytes` true while a slot's vectors change.
  class Charge {
   public:
    Charge(Impl& tree, const Slot& slot) : tree_(tree), slot_(slot) { tree_.slot_bytes -= bytes(); }
    ~Charge() { tree_.slot_bytes += bytes(); }
    Charge(const Charge&) = delete;
    Charge& operator=(const Charge&) = delete;

   private:
    [[nodiscard]] std::size_t bytes() const {
      const std::size_t leaving =
          slot_.leaving ? sizeof(Leaving) + slot_.leaving->stale.capacity() * sizeof(RecordId) : 0;
      return leaving + slot_.active.capacity() * sizeof(RecordId) +
             slot_.text.pages.capacity() * sizeof(std::uint32_t);
    }
    Impl& tree_;
    const Slot& slot_;
  };

  explicit Impl(std::uint32_t depth_) : depth(depth_) {
    records.grow(1);
    free_records.use(0);
    records[kRootRecord] = Record{kNone, 0, 0, kNone, kRootRecord, {}};
  }
  ~Impl();

  // suffix_tree.cpp
  Slot& slot_of(Sequence sequence, bool leaving = false);
  [[nodiscard]] const Slot& slot_of(Sequence sequence, bool leaving = false) const;
  [[nodiscard]] static Sequence name_of(const Slot& slot) {
    return (static_cast<Sequence>(slot.generation) << 32U) | slot.text.owner;
  }

  // suffix_remove.cpp
  bool leave(Slot& slot, std::size_t work);
  bool take_out(Slot& slot, std::size_t work);
  void remove_suffix(Slot& slot, std::uint32_t start);
  void merge(RecordId id);
  [[nodiscard]] bool labeled_by(RecordId id, std::uint32_t owner) const;
  [[nodiscard]] bool relabel(RecordId id, std::uint32_t owner);
  void release(std::uint32_t index);

  // suffix_append.cpp
  void append(Slot& slot, Token token);
  void reopen(Slot& slot);
  RecordId step(Slot& slot, RecordId id, std::uint32_t level, Token token, Position now);
  RecordId into_leaf(RecordId id, std::uint32_t level, Token token, Position label, Position now,
                     Slot& slot);
  RecordId into_record(RecordId id, RecordId child, Token token, Position now, Slot& slot);
  void end_meets(Position label, std::uint32_t level, RecordId id);
  void become_leaf(RecordId id, const Slot& slot, std::uint32_t end);

  // suffix_enter.cpp
  void enter(Slot& slot, std::span<const Token> tokens);  ///< as append(), all of them at once

  // suffix_compact.cpp
  bool compact(std::size_t work);
  void choose();
  std::size_t move(RecordId from);
  void sweep(RecordId id);
  void end_compaction();
  void restore_records(std::uint32_t chunk);
  /// Where a record is that a link or an active end may still name by its place before it moved.
  [[nodiscard]] RecordId now_at(RecordId id) const {
    const bool may =
        compaction != Compaction::kIdle && id != kNone && free_records[id >> kRecordBits].closed;
    return may && records[id].length == kMoved ? records[id].link : id;
  }

  // Shared by all.
  [[nodiscard]] Ref find(RecordId id, Token token) const {
    return id == kRootRecord ? first.find(token) : records[id].children.find(token);
  }
  [[nodiscard]] std::uint32_t count_of(Ref ref) const {
    return is_leaf(ref) ? 1 : records[ref].count;
  }
  void add_leaf(RecordId id, Token token, Position at);
  void replace_child(RecordId id, Token token, Ref ref);
  RecordId new_record(const Record& record);
  void free_record(RecordId id);
  void refer(Record& record, Position at);  ///< relabels, and lets go of a ghost
  void unrefer(Position at);

  // suffix_match.cpp
  [[nodiscard]] bool advance(Place& place, std::uint32_t matched, Token token) const;
  void shorten(Place& place, std::uint32_t matched, const Token* end) const;
  [[nodiscard]] bool descend(std::span<const Token> string, Place& place) const;
  [[nodiscard]] std::uint32_t match(std::span<const Token> context, std::uint32_t known,
                                    Place& place) const;
  [[nodiscard]] Position label_of(Ref ref) const {
    return is_leaf(ref) ? leaf_position(ref) : records[ref].at;
  }
  [[nodiscard]] std::uint32_t count_at(const Place& place) const {
    return place.inside > 0 ? count_of(place.child) : records[place.record].count;
  }

  const std::uint32_t depth;
  mutable ForkSafe<std::shared_mutex> mutex;
  TokenStore store;
  Arena<Record, kRecordBits> records;
  TokenMap first;  ///< the root's children, which need no order
  ChildPool pool;
  std::vector<Slot> slots;
  FreeItems free_records;  ///< lists run through `parent`
  enum class Compaction : std::uint8_t { kIdle, kMove, kSweep } compaction = Compaction::kIdle;
  RecordId cursor = 0;  ///< how far the compaction's move or sweep has come
  std::uint32_t free_slots = kNone;
  bool removals = false;     ///< whether a sequence was ever removed
  std::uint32_t ghosts = 0;  ///< removed sequences whose text is still a label
  std::size_t live_records = 1;
  std::size_t live_tokens = 0;
  std::size_t live_sequences = 0;
  std::size_t slot_bytes = 0;  ///< of the vectors in `slots`
};

}  // namespace draftwood
