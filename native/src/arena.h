// Arrays that grow without moving, and know their size in bytes.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

namespace draftwood {

/// A growing array of T in chunks of 2^kBits. Only the first chunk, which starts small so that a
/// small tree stays small, ever moves: hold no reference over push() or grow().
template <class T, unsigned kBits>
class Arena {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  static constexpr std::uint32_t kChunk = 1U << kBits;

  T& operator[](std::uint32_t id) { return chunks_[id >> kBits][id & (kChunk - 1)]; }
  const T& operator[](std::uint32_t id) const { return chunks_[id >> kBits][id & (kChunk - 1)]; }

  /// Asks for the memory that holds an item.
  void prefetch(std::uint32_t id) const { __builtin_prefetch(&(*this)[id]); }

  [[nodiscard]] std::uint32_t size() const { return size_; }

  /// Lengthens by `count` (a divisor of the chunk) uninitialized items that lie side by side;
  /// returns the first.
  std::uint32_t grow(std::uint32_t count) {
    const std::uint32_t first = size_;
    if (first + count > capacity_) reserve(first + count);
    size_ = first + count;
    return first;
  }

  /// Gives back the memory of a chunk that is neither the first nor the last; restore() before use.
  void drop(std::uint32_t chunk) {
    chunks_[chunk].reset();
    ++dropped_;
  }
  void restore(std::uint32_t chunk) {
    chunks_[chunk] = std::make_unique_for_overwrite<T[]>(kChunk);
    --dropped_;
  }
  /// Items for which there is memory.
  [[nodiscard]] std::size_t room() const { return capacity_ - dropped_ * std::size_t{kChunk}; }
  [[nodiscard]] bool holds(std::uint32_t id) const { return chunks_[id >> kBits] != nullptr; }

  [[nodiscard]] std::size_t nbytes() const {
    return room() * sizeof(T) + chunks_.capacity() * sizeof(chunks_[0]);
  }

 private:
  void reserve(std::uint32_t needed) {
    if (needed <= kChunk) {
      std::uint32_t capacity = std::max<std::uint32_t>(capacity_, std::min(kChunk, 64U));
      while (capacity < needed) capacity *= 2;
      auto chunk = std::make_unique_for_overwrite<T[]>(capacity);
      if (chunks_.empty()) {
        chunks_.push_back(std::move(chunk));
      } else {
        std::memcpy(chunk.get(), chunks_[0].get(), size_ * sizeof(T));
        chunks_[0] = std::move(chunk);
      }
      capacity_ = capacity;
      return;
    }
    chunks_.push_back(std::make_unique_for_overwrite<T[]>(kChunk));
    capacity_ += kChunk;
  }

  std::vector<std::unique_ptr<T[]>> chunks_;
  std::uint32_t size_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t dropped_ = 0;
};

/// Which items of an arena are free, chunk by chunk; the lowest chunk with room is filled first, so
/// that others run empty.
class FreeItems {
 public:
  static constexpr std::uint32_t kNobody = 0xFFFFFFFFU;
  struct Chunk {
    std::uint32_t free = kNobody;  ///< first of a list that the caller threads through the items
    std::uint32_t used = 0;
    bool closed = false;   ///< nothing is taken from it
    bool dropped = false;  ///< its memory was given back
  };

  /// The lowest chunk with a free item, or kNobody.
  std::uint32_t roomy() {
    while (roomy_ < chunks_.size() && (chunks_[roomy_].free == kNobody || chunks_[roomy_].closed)) {
      ++roomy_;
    }
    return roomy_ < chunks_.size() ? roomy_ : kNobody;
  }
  /// An item of this chunk is in use.
  void use(std::uint32_t chunk) {
    if (chunk >= chunks_.size()) chunks_.resize(chunk + std::size_t{1});
    ++chunks_[chunk].used;
  }
  /// An item is free again; `next` becomes the one that stands after it in its chunk's list.
  void give(std::uint32_t chunk, std::uint32_t item, std::uint32_t& next) {
    --chunks_[chunk].used;
    put(chunk, item, next);
  }
  /// An item that was not in use is free.
  void put(std::uint32_t chunk, std::uint32_t item, std::uint32_t& next) {
    next = chunks_[chunk].free;
    chunks_[chunk].free = item;
    if (chunk < roomy_) roomy_ = chunk;
  }
  void reopen(std::uint32_t chunk) {
    chunks_[chunk].closed = false;
    if (chunk < roomy_) roomy_ = chunk;
  }
  Chunk& operator[](std::uint32_t chunk) { return chunks_[chunk]; }
  const Chunk& operator[](std::uint32_t chunk) const { return chunks_[chunk]; }
  [[nodiscard]] std::uint32_t chunks() const { return static_cast<std::uint32_t>(chunks_.size()); }
  [[nodiscard]] std::size_t nbytes() const { return chunks_.capacity() * sizeof(Chunk); }

 private:
  std::vector<Chunk> chunks_;
  std::uint32_t roomy_ = 0;
};

}  // namespace draftwood
