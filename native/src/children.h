// The children of one node, ordered by count; see SuffixTree::speculate for the order among equals.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "token_store.h"

namespace draftwood {

/// A child: a record, or (top bit set) a leaf, which is nothing but its first token's position.
/// A leaf stands for a string with one occurrence; it grows with its sequence by itself.
using Ref = std::uint32_t;

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

struct Child {
  Token token;
  Ref ref;
  std::uint32_t count;
};

/// token -> Ref, by open addressing. Hashed with a secret of this process: whoever chooses the
/// tokens cannot choose where they stand, and so no text costs more than any other.
class TokenMap {
 public:
  [[nodiscard]] Ref find(Token token) const;
  /// Asks for the memory that find(token) will look at.
  void prefetch(Token token) const {
    if (size_ > 0) __builtin_prefetch(&slots_[home(token)]);
  }
  void set(Token token, Ref ref);
  void erase(Token token);
  /// How many slots find(token) looks at.
  [[nodiscard]] std::size_t probes(Token token) const;
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::size_t nbytes() const { return slots_.capacity() * sizeof(Slot); }

  template <class Visit>
  void each(Visit visit) const {
    for (const Slot& slot : slots_) {
      if (slot.token != kEnd) visit(slot.token, slot.ref);
    }
  }

 private:
  struct Slot {
    Token token = kEnd;
    Ref ref = kNone;
  };
  struct Secret {
    std::uint32_t flip;
    std::uint32_t factor;  ///< odd
  };
  static const Secret secret_;
  [[nodiscard]] std::size_t home(Token token) const {
    std::uint32_t x = (static_cast<std::uint32_t>(token) ^ secret_.flip) * 0x9E3779B9U;
    x ^= x >> 15;
    return (x * secret_.factor) >> shift_;
  }
  [[nodiscard]] std::size_t slot_of(Token token) const;
  void resize(unsigned bits);

  std::vector<Slot> slots_;
  std::uint32_t size_ = 0;
  unsigned shift_ = 32;
};

/// Where lists of children lie: blocks of 2^k entries, used again when given back.
class ChildPool {
 public:
  ChildPool() = default;
  ~ChildPool();
  ChildPool(const ChildPool&) = delete;
  ChildPool& operator=(const ChildPool&) = delete;

  Child* take(unsigned bits);
  void give(Child* block, unsigned bits);
  [[nodiscard]] std::size_t nbytes() const {
    return bytes_ + (slabs_.capacity() + leaving_.capacity()) * sizeof(Slab);
  }
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
  /// Whether a block, of a size that slabs hold, lies in a slab that is to be given back.
  [[nodiscard]] bool leaves(const Child* block, unsigned bits) const;
  void evacuated();

 private:
  static constexpr unsigned kPooled = 8;  ///< larger blocks come from the allocator one by one
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

/// A list of children within a record: none, one (inside), few (a block) or many (with a map).
/// Has no destructor: call clear() before dropping it.
class Children {
 public:
  [[nodiscard]] std::uint32_t size() const { return size_; }

  /// The i-th child, most frequent first. An only child's `count` is not kept here: it reads 0.
  [[nodiscard]] Child operator[](std::uint32_t i) const {
    if (size_ == 1) return Child{static_cast<Token>(word_[0]), word_[1], 0};
    return list()[i];
  }

  /// The child that begins with `token`, or kNone.
  [[nodiscard]] Ref find(Token token) const {
    if (size_ == 1) return word_[0] == static_cast<std::uint32_t>(token) ? word_[1] : kNone;
    if (size_ > kFew) return pointer<Many>()->map.find(token);
    const Child* const few = pointer<Child>();
    for (std::uint32_t i = 0; i < size_; ++i) {
      if (few[i].token == token) return few[i].ref;
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

  /// Adds a child of count 1 behind all others. `only`: the count of the one that was alone before.
  void add(Token token, Ref ref, std::uint32_t only, ChildPool& pool);
  /// Puts another child in the place of the one that begins with `token` and has `count`.
  void replace(Token token, std::uint32_t count, Ref ref);
  /// Adds one to the count of the child that has `count`, and moves it to its place.
  void raise(Token token, std::uint32_t count);
  /// Takes one from the count of the child that has `count`, and moves it to its place.
  void lower(Token token, std::uint32_t count);
  /// Takes out the child that has `count`.
  void erase(Token token, std::uint32_t count, ChildPool& pool);
  /// Moves the list out of a slab that is to be given back.
  void relocate(ChildPool& pool);
  /// Gives back the list's memory.
  void clear(ChildPool& pool);

 private:
  static constexpr std::uint32_t kFew = 16;

  struct Many {
    Child* list;
    TokenMap map;
  };

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
  [[nodiscard]] Child* list() const {
    return size_ > kFew ? pointer<Many>()->list : pointer<Child>();
  }
  void set_list(Child* list) {
    if (size_ > kFew) {
      pointer<Many>()->list = list;
    } else {
      set_pointer(list);
    }
  }
  [[nodiscard]] std::uint32_t index_of(Token token, std::uint32_t count) const;

  std::uint32_t size_ = 0;
  std::uint32_t word_[sizeof(void*) / 4 < 2 ? 2 : sizeof(void*) / 4] = {};
};

}  // namespace draftwood
