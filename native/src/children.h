// The children of one node, ordered by count; see SuffixTree::speculate for the order among equals.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "many_children.h"
#include "token_store.h"

namespace draftwood {

/// A Ref is a record, or (top bit set) a leaf, which is nothing but its first token's position.
/// A leaf stands for a string with one occurrence; it grows with its sequence by itself.
inline constexpr Ref kLeafBit = 0x80000000U;
[[nodiscard]] inline bool is_leaf(Ref ref) {
  return (ref & kLeafBit) != 0;
}
[[nodiscard]] inline Ref leaf_at(Position at) {
  return at | kLeafBit;
}
[[nodiscard]] inline Position leaf_position(Ref ref) {
  return ref & ~kLeafBit;
}

/// token -> Ref.
class TokenMap {
 public:
  [[nodiscard]] Ref find(Token token) const {
    const Entry* const entry = table_.find(token);
    return entry == nullptr ? kNone : entry->ref;
  }
  /// Asks for the memory that find(token) will look at.
  void prefetch(Token token) const { table_.prefetch(token); }
  void set(Token token, Ref ref) { table_.set(Entry{token, ref}); }
  void erase(Token token) { table_.erase(token); }
  /// How many slots find(token) looks at.
  [[nodiscard]] std::size_t probes(Token token) const { return table_.probes(token); }
  [[nodiscard]] std::size_t nbytes() const { return table_.nbytes(); }

  template <class Visit>
  void each(Visit visit) const {
    table_.each([&](const Entry& entry) { visit(entry.key, entry.ref); });
  }

 private:
  struct Entry {
    Token key = kEnd;
    Ref ref = kNone;
  };
  ProbedTable<Entry> table_;
};

/// Where lists of children lie: blocks of 2^k entries, used again when given back.
class ChildPool {
 public:
  ChildPool() = default;
  ~ChildPool();
  ChildPool(const ChildPool&) = delete;
  ChildPool& operator=(const ChildPool&) = delete;

  static constexpr unsigned kPooled = 4;  ///< no block is larger than 2^kPooled entries

  Child* take(unsigned bits);
  void give(Child* block, unsigned bits);
  [[nodiscard]] std::size_t nbytes() const {
    return bytes_ + (slabs_.capacity() + leaving_.capacity()) * sizeof(Slab);
  }
  /// Counts memory that lies elsewhere.
  void charge(std::size_t more, std::size_t less) { bytes_ = bytes_ + more - less; }

  /// Whether a good part of the pool lies idle.
  [[nodiscard]] bool wasteful() const { return idle_ * 4 > slab_total_ && idle_ > 4 * kSlab; }
  /// Bytes of it that nothing uses.
  [[nodiscard]] std::size_t idle() const {
    return (idle_ + left_ + slab_entries_ - used_) * sizeof(Child);
  }
  /// From now on nothing is taken from the slabs that there are; evacuated() gives them back.
  void evacuate();
  [[nodiscard]] bool evacuating() const { return !leaving_.empty(); }
  /// Whether a block lies in a slab that is to be given back.
  [[nodiscard]] bool leaves(const Child* block) const;
  void evacuated();

 private:
  static constexpr std::size_t kSlab = 4096;

  struct Slab {
    Child* begin;
    std::size_t entries;
  };
  std::vector<Slab> slabs_;
  std::vector<Slab> leaving_;      ///< by address
  std::size_t slab_total_ = 0;     ///< entries in `slabs_`
  std::size_t idle_ = 0;           ///< of them, in lists of free blocks
  std::size_t left_ = 0;           ///< entries in `leaving_` that nothing uses any more
  std::size_t slab_entries_ = 16;  ///< of the last slab, as is used_
  std::size_t used_ = 16;
  std::size_t bytes_ = 0;
  Child* free_[kPooled + 1] = {};
};

/// A list of children within a record, most frequent first: none, one (inside), few (a block) or
/// many (a table). Has no destructor: call clear() before dropping it.
class Children {
 public:
  [[nodiscard]] std::uint32_t size() const { return size_; }

  /// Goes along the list, most frequent first. An only child's `count` is not kept here: it reads 0.
  class Iterator {
   public:
    Iterator() = default;
    Child operator*() const {
      if (children_->size_ == 1) return children_->only();
      return children_->size_ > kFew ? children_->many()->child(static_cast<Token>(at_))
                                     : children_->few()[at_];
    }
    Iterator& operator++() {
      at_ = children_->size_ > kFew
                ? static_cast<std::uint32_t>(children_->many()->after(static_cast<Token>(at_)))
                : at_ + 1;
      return *this;
    }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

   private:
    friend class Children;
    Iterator(const Children* children, std::uint32_t at) : children_(children), at_(at) {}
    const Children* children_ = nullptr;
    std::uint32_t at_ = 0;  ///< an index, of many a token
  };
  [[nodiscard]] Iterator begin() const {
    return {this, size_ > kFew ? static_cast<std::uint32_t>(many()->front()) : 0};
  }
  [[nodiscard]] Iterator end() const {
    return {this, size_ > kFew ? static_cast<std::uint32_t>(kEnd) : size_};
  }
  [[nodiscard]] Child front() const { return *begin(); }
  [[nodiscard]] Child back() const {
    if (size_ > kFew) return many()->child(many()->back());
    return size_ == 1 ? only() : few()[size_ - 1];
  }

  /// The child that begins with `token`, or kNone.
  [[nodiscard]] Ref find(Token token) const {
    if (size_ == 1) return word_[0] == static_cast<std::uint32_t>(token) ? word_[1] : kNone;
    if (size_ > kFew) return many()->find(token);
    const Child* const list = few();
    for (std::uint32_t i = 0; i < size_; ++i) {
      if (list[i].token == token) return list[i].ref;
    }
    return kNone;
  }

  /// Makes `ref` the only child, of a list that has none or one.
  void set_only(Token token, Ref ref) {
    word_[0] = static_cast<std::uint32_t>(token);
    word_[1] = ref;
    size_ = 1;
  }
  /// Empties a list that has one.
  void drop_only() { size_ = 0; }

  /// Adds a child of count 1 after all others. `only`: the count of the one that was alone before.
  void add(Token token, Ref ref, std::uint32_t only, ChildPool& pool);
  /// Puts another child in the place of the one that begins with `token`.
  void replace(Token token, Ref ref);
  /// Adds one to the count of the child that has `count`, and moves it to its place: before all of
  /// its new count if it was before all of its old one, after them otherwise.
  void raise(Token token, std::uint32_t count, ChildPool& pool);
  /// Takes one from the count of the child that has `count`, and moves it before all of the new one.
  void lower(Token token, std::uint32_t count, ChildPool& pool);
  /// Takes out the child that begins with `token`.
  void erase(Token token, ChildPool& pool);
  /// Moves the list out of a slab that is to be given back.
  void relocate(ChildPool& pool);
  /// Gives back the list's memory.
  void clear(ChildPool& pool);

 private:
  static constexpr std::uint32_t kFew = 16;
  static_assert(kFew <= 1U << ChildPool::kPooled);

  // A pointer in two words: records need an alignment of 4 only.
  template <class T>
  [[nodiscard]] T* pointer() const {
    T* value;
    std::memcpy(&value, word_, sizeof value);
    return value;
  }
  template <class T>
  void set_pointer(T* value) {
    std::memcpy(word_, &value, sizeof value);
  }
  [[nodiscard]] Child only() const { return Child{static_cast<Token>(word_[0]), word_[1], 0}; }
  [[nodiscard]] Child* few() const { return pointer<Child>(); }
  [[nodiscard]] ManyChildren* many() const { return pointer<ManyChildren>(); }
  [[nodiscard]] std::uint32_t index_of(Token token) const;
  void become_many(ChildPool& pool);
  void become_few(ChildPool& pool);
  template <class Change>
  void change_many(ChildPool& pool, const Change& change);

  std::uint32_t size_ = 0;
  std::uint32_t word_[sizeof(void*) / 4 < 2 ? 2 : sizeof(void*) / 4] = {};
};

}  // namespace draftwood
