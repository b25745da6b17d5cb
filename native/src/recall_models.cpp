#include "recall_models.h"

#include <vector>

namespace draftwood::recall {

std::shared_ptr<Model> Models::of(NamespaceKey name) {
  if (joined_ || name == kDefault) return common_;
  // Made and dropped outside of the lock, as whatever has a lock of its own.
  std::shared_ptr<Model> made;
  std::shared_ptr<Model> dropped;
  for (;; made = std::make_shared<Model>(kRowBits)) {
    const std::lock_guard lock(mutex_);
    if (const auto at = found_.find(name); at != found_.end()) {
      others_.splice(others_.begin(), others_, at->second);
      return others_.front().second;
    }
    if (made == nullptr) continue;
    others_.emplace_front(name, made);
    found_[name] = others_.begin();
    if (others_.size() > kMost) {
      dropped = std::move(others_.back().second);
      found_.erase(others_.back().first);
      others_.pop_back();
    }
    return made;
  }
}

void Models::forget(Model& model) {
  const std::lock_guard lock(model.mutex());
  model.forget();
}

void Models::forget(NamespaceKey name) {
  if (joined_ || name == kDefault) {
    forget(*common_);
    return;
  }
  std::shared_ptr<Model> model;
  {
    const std::lock_guard lock(mutex_);
    const auto at = found_.find(name);
    if (at == found_.end()) return;
    model = at->second->second;
  }
  forget(*model);
}

void Models::forget_all() {
  std::vector<std::shared_ptr<Model>> all{common_};
  {
    const std::lock_guard lock(mutex_);
    for (const Entry& entry : others_) all.push_back(entry.second);
  }
  for (const std::shared_ptr<Model>& model : all) forget(*model);
}

std::size_t Models::nbytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t bytes = common_->rows.nbytes();
  for (const Entry& entry : others_) bytes += sizeof(Model) + entry.second->rows.nbytes();
  return bytes;
}

}  // namespace draftwood::recall
