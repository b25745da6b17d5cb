#include "recall_quota.h"

namespace draftwood::recall {

void Quota::begin(std::uint32_t most, std::span<const NamespaceKey> held) {
  most_ = most;
  held_.clear();
  if (most == 0) return;
  for (const NamespaceKey name : held) ++held_[name];
}

void Quota::take(NamespaceKey name, const NamespaceKey* owner) {
  if (most_ == 0 || (owner != nullptr && *owner == name)) return;
  if (owner != nullptr) {
    const auto at = held_.find(*owner);
    if (at != held_.end() && --at->second == 0) held_.erase(at);
  }
  ++held_[name];
}

std::uint32_t Quota::held_by(NamespaceKey name) const {
  const auto at = held_.find(name);
  return at == held_.end() ? 0 : at->second;
}

std::size_t Quota::nbytes() const noexcept {
  if (most_ == 0) return 0;
  constexpr std::size_t kNode = sizeof(void*) + sizeof(NamespaceKey) + 2 * sizeof(std::uint32_t);
  return held_.size() * kNode + held_.bucket_count() * sizeof(void*);
}

}  // namespace draftwood::recall
