// What each namespace learned. None learns from what is said in another.

#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "draftwood/recall.h"
#include "fork.h"
#include "recall_model.h"

namespace draftwood::recall {

/// The models of a history: that of the default namespace, which its file keeps, and those of the
/// kMost other namespaces that opened a request last, in memory only. A request holds its model, so
/// that one which leaves here lives as long as somebody uses it. Safe to use from several threads.
class Models {
 public:
  static constexpr std::size_t kMost = 64;
  /// Of the most rows of the target that each of them keeps.
  static constexpr std::uint32_t kRowBits = 15;
  /// BLAKE2b of the empty name.
  static constexpr NamespaceKey kDefault = 0xB4B2797457A0A6E4U;

  /// From now on all namespaces have the default one's model, as in files of version 1; rows of the
  /// target, which would tell one namespace what was said in another, are not kept then.
  void join() noexcept {
    joined_ = true;
    common_->rows.refuse();
  }
  /// The model of a namespace; a new one where it has none.
  std::shared_ptr<Model> of(NamespaceKey name);
  [[nodiscard]] Model& common() const noexcept { return *common_; }

  /// Forgets what a namespace learned about single tokens.
  void forget(NamespaceKey name);
  void forget_all();

  /// Bytes of the models beside the default one, and of all that they keep of the target's rows.
  [[nodiscard]] std::size_t nbytes() const;

 private:
  using Entry = std::pair<NamespaceKey, std::shared_ptr<Model>>;
  static void forget(Model& model);

  std::shared_ptr<Model> common_ = std::make_shared<Model>();
  bool joined_ = false;
  std::list<Entry> others_;  ///< used last stands first
  std::unordered_map<NamespaceKey, std::list<Entry>::iterator> found_;
  mutable ForkSafe<std::mutex> mutex_;
};

}  // namespace draftwood::recall
