// How much of a history each namespace holds, and how much it may.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>

#include "draftwood/recall.h"

namespace draftwood::recall {

/// Counts the blocks of slots that each namespace owns. One that owns as many as it may writes over
/// its own alone. Under the writer's lock.
class Quota {
 public:
  /// No namespace owns more than `most` blocks from now on; 0: any number, and nothing is counted.
  /// `held`: the owner of each block that was written.
  void begin(std::uint32_t most, std::span<const NamespaceKey> held);

  /// A block of `owner`, if one is given, becomes one of `name`.
  void take(NamespaceKey name, const NamespaceKey* owner);

  /// How many of the next `wanted` blocks `name` may take. `owner(i)`: of the i-th of them, null
  /// where it was never written.
  template <class Owner>
  [[nodiscard]] std::size_t allowed(NamespaceKey name, std::size_t wanted,
                                    const Owner& owner) const {
    if (most_ == 0) return wanted;
    std::size_t held = held_by(name);
    for (std::size_t i = 0; i < wanted; ++i) {
      const NamespaceKey* const before = owner(i);
      held += before != nullptr && *before == name ? 0 : 1;
      if (held > most_) return i;
    }
    return wanted;
  }

  [[nodiscard]] std::size_t nbytes() const noexcept;

 private:
  [[nodiscard]] std::uint32_t held_by(NamespaceKey name) const;

  std::uint32_t most_ = 0;
  std::unordered_map<NamespaceKey, std::uint32_t> held_;  ///< none at 0
};

}  // namespace draftwood::recall
