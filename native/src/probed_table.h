// A hash table by open addressing. Hashed with a secret of this process: whoever chooses the keys
// cannot choose where they stand, and so no text costs more than any other.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "token_store.h"

namespace draftwood {

struct TableSecret {
  std::uint32_t flip;
  std::uint32_t factor;  ///< odd
};

inline const TableSecret kTableSecret = [] {
  std::random_device random;
  return TableSecret{random(), random() | 1U};
}();

/// Entries by their `key`, a number from 0 on; an Entry that is made by default has key kEnd and
/// stands for a free slot. What points to an entry holds until one is added or erased.
template <class Entry>
class ProbedTable {
 public:
  /// The entry with this key; null: there is none.
  [[nodiscard]] const Entry* find(Token key) const {
    if (size_ == 0) return nullptr;
    const Entry& entry = slots_[slot_of(key)];
    return entry.key == key ? &entry : nullptr;
  }
  [[nodiscard]] Entry* find(Token key) {
    return const_cast<Entry*>(static_cast<const ProbedTable*>(this)->find(key));
  }
  /// The entry with this key, which is there.
  [[nodiscard]] const Entry& at(Token key) const { return slots_[slot_of(key)]; }
  [[nodiscard]] Entry& at(Token key) { return slots_[slot_of(key)]; }

  /// Asks for the memory that find(key) will look at.
  void prefetch(Token key) const {
    if (size_ > 0) __builtin_prefetch(&slots_[home(key)]);
  }

  /// Puts an entry in, in the place of one with the same key.
  void set(const Entry& entry) {
    if (slots_.empty()) resize(3);
    std::size_t slot = slot_of(entry.key);
    if (slots_[slot].key == kEnd) {
      if ((size_ + 1) * std::size_t{4} > slots_.size() * 3) {
        resize(static_cast<unsigned>(std::bit_width(slots_.size())));
        slot = slot_of(entry.key);
      }
      ++size_;
    }
    slots_[slot] = entry;
  }

  /// Takes out the entry with this key, which is there.
  void erase(Token key) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t hole = slot_of(key);
    for (std::size_t i = (hole + 1) & mask; slots_[i].key != kEnd; i = (i + 1) & mask) {
      // An entry may fill the hole unless its home lies behind the hole.
      if (((i - home(slots_[i].key)) & mask) >= ((i - hole) & mask)) {
        slots_[hole] = slots_[i];
        hole = i;
      }
    }
    slots_[hole] = Entry{};
    --size_;
    if (slots_.size() > 64 && size_ * std::size_t{8} < slots_.size()) {
      resize(static_cast<unsigned>(std::bit_width(slots_.size())) - 2);
    }
  }

  /// How many slots find(key) looks at.
  [[nodiscard]] std::size_t probes(Token key) const {
    return slots_.empty() ? 0 : ((slot_of(key) - home(key)) & (slots_.size() - 1)) + 1;
  }
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::size_t nbytes() const { return slots_.capacity() * sizeof(Entry); }

  template <class Visit>
  void each(Visit visit) const {
    for (const Entry& entry : slots_) {
      if (entry.key != kEnd) visit(entry);
    }
  }

 private:
  [[nodiscard]] std::size_t home(Token key) const {
    std::uint32_t x = (static_cast<std::uint32_t>(key) ^ kTableSecret.flip) * 0x9E3779B9U;
    x ^= x >> 15;
    return (x * kTableSecret.factor) >> shift_;
  }
  /// The slot that holds `key`, or the free one where it would go.
  [[nodiscard]] std::size_t slot_of(Token key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = home(key);
    while (slots_[i].key != key && slots_[i].key != kEnd) i = (i + 1) & mask;
    return i;
  }
  void resize(unsigned bits) {
    std::vector<Entry> old(std::size_t{1} << bits);
    old.swap(slots_);
    shift_ = 32 - bits;
    for (const Entry& entry : old) {
      if (entry.key != kEnd) slots_[slot_of(entry.key)] = entry;
    }
  }

  std::vector<Entry> slots_;
  std::uint32_t size_ = 0;
  unsigned shift_ = 32;
};

}  // namespace draftwood
