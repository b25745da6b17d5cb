// Words that one thread or process writes while others read them.
//
// Readers may see a word of before or after; whether what they read belongs together they learn
// from the ring's counters. Relaxed loads and stores compile to plain moves.

#pragma once

#include <atomic>
#include <type_traits>

namespace draftwood::recall {

template <class T>
[[nodiscard]] inline T peek(const T& word) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
#if defined(__GNUC__) || defined(__clang__)
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
#else
  return std::atomic_ref<T>(const_cast<T&>(word)).load(std::memory_order_relaxed);
#endif
}

template <class T>
inline void poke(T& word, T value) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
#if defined(__GNUC__) || defined(__clang__)
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
#else
  std::atomic_ref<T>(word).store(value, std::memory_order_relaxed);
#endif
}

/// Asks for memory that will be read soon.
inline void prefetch(const void* address) noexcept {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address);
#else
  static_cast<void>(address);
#endif
}

/// Keeps loads and stores on their side. Nothing under the thread sanitizer, which knows no fences
/// and finds no race between atomic words without them.
inline void fence(std::memory_order order) noexcept {
#if defined(__SANITIZE_THREAD__)
  static_cast<void>(order);
#else
  std::atomic_thread_fence(order);
#endif
}

/// A load that sees all that was written before the store it reads from was published.
template <class T>
[[nodiscard]] inline T receive(const T& word) noexcept {
  const T value = peek(word);
  fence(std::memory_order_acquire);
  return value;
}

template <class T>
inline void publish(T& word, T value) noexcept {
  fence(std::memory_order_release);
  poke(word, value);
}

}  // namespace draftwood::recall
