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

  [[nodiscard]] std::uint32_t size() const { return size_; }

  /// Lengthens by `count` (a divisor of the chunk) uninitialized items that lie side by side;
  /// returns the first.
  std::uint32_t grow(std::uint32_t count) {
    const std::uint32_t first = size_;
    if (first + count > capacity_) reserve(first + count);
    size_ = first + count;
    return first;
  }

  [[nodiscard]] std::size_t nbytes() const {
    return capacity_ * sizeof(T) + chunks_.capacity() * sizeof(chunks_[0]);
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
};

}  // namespace draftwood
