#include "draftwood/suffix_stream.h"

#include <algorithm>
#include <functional>
#include <stdexcept>
#include <utility>

#include "draftwood/thread_pool.h"

namespace draftwood {
namespace {

constexpr std::size_t kLead = 8;  // tokens of the prompt that a prediction is taken to follow

}  // namespace

SuffixStream::SuffixStream(std::shared_ptr<SuffixTree> shared, std::span<const Token> prompt,
                           const SuffixPolicy& policy, Pause pause,
                           std::span<const std::span<const Token>> predictions)
    : shared_(std::move(shared)),
      own_(std::make_unique<SuffixTree>(shared_->depth())),
      policy_(policy),
      own_sequence_(own_->begin()),
      kept_(static_cast<std::size_t>(shared_->depth()) - 1) {
  require_ids(prompt);
  for (const std::span<const Token> prediction : predictions) require_ids(prediction);
  constexpr std::size_t kSlice = 1U << 14U;
  const auto learn = [&](SuffixTree::Sequence sequence, std::span<const Token> rest) {
    while (!rest.empty()) {
      const auto part = rest.first(std::min(rest.size(), kSlice));
      own_->extend(sequence, part);
      rest = rest.subspan(part.size());
      if (pause != nullptr && !rest.empty()) pause();
    }
  };
  learn(own_sequence_, prompt);
  for (const std::span<const Token> prediction : predictions) {
    const SuffixTree::Sequence sequence = own_->begin();
    own_->extend(sequence, prompt.last(std::min(prompt.size(), kLead)));
    learn(sequence, prediction);
  }
  const std::span<const Token> end = prompt.last(std::min(prompt.size(), kept_));
  tail_.assign(end.begin(), end.end());
  sequence_ = shared_->begin();
}

SuffixDraft SuffixStream::propose(std::int32_t nodes, std::int32_t reach, float floor) const {
  if (!own_) return {};
  SuffixPolicy policy = policy_;
  policy.floor = std::max(policy.floor, floor);
  const std::span<const Token> tail(tail_);
  const std::span<const Token> context = tail.last(std::min(tail.size(), kept_));
  SuffixDraft own = own_->speculate(context, policy, nodes, reach);
  SuffixDraft shared = shared_->speculate(context, policy, nodes, reach, own.score);
  if (shared.tokens.empty()) return own;
  shared.shared = true;
  return shared;
}

void SuffixStream::observe(std::span<const Token> tokens) {
  if (!own_ || tokens.empty()) return;
  observe_own(tokens);
  observe_shared(tokens);
}

void SuffixStream::observe_own(std::span<const Token> tokens) {
  own_->extend(own_sequence_, tokens);
  generated_ += tokens.size();
  if (tail_.size() + tokens.size() > 4 * kept_ + 64) {
    const std::size_t keep = std::min(tail_.size(), kept_);
    tail_.erase(tail_.begin(), tail_.end() - static_cast<std::ptrdiff_t>(keep));
  }
  tail_.insert(tail_.end(), tokens.begin(), tokens.end());
}

void SuffixStream::observe_shared(std::span<const Token> tokens) {
  if (!in_shared_) return;
  try {
    shared_->extend(sequence_, tokens);
  } catch (const std::out_of_range&) {
    in_shared_ = false;
  }
}

void SuffixStream::close() {
  if (!own_) return;
  own_.reset();
  tail_ = {};
  if (!in_shared_) return;
  try {
    if (generated_ > 0) {
      shared_->finish(sequence_);
    } else {
      shared_->remove(sequence_);
    }
  } catch (const std::out_of_range&) {
    in_shared_ = false;
  }
}

std::size_t SuffixStream::nbytes() const {
  return sizeof *this + (own_ ? own_->nbytes() : 0) + tail_.capacity() * sizeof(Token);
}

std::vector<SuffixDraft> propose_all(std::span<SuffixStream* const> streams,
                                     std::span<const std::int32_t> nodes,
                                     std::span<const std::int32_t> reach,
                                     std::span<const float> floors, ThreadPool& pool) {
  constexpr std::size_t kShare = 8;  // streams that a thread takes at a time
  std::vector<SuffixDraft> drafts(streams.size());
  pool.run((streams.size() + kShare - 1) / kShare, [&](std::size_t share) {
    const std::size_t end = std::min(streams.size(), (share + 1) * kShare);
    for (std::size_t i = share * kShare; i < end; ++i) {
      drafts[i] = streams[i]->propose(nodes[i], reach[i], floors[i]);
    }
  });
  return drafts;
}

void observe_all(std::span<SuffixStream* const> streams,
                 std::span<const std::span<const Token>> tokens, ThreadPool& pool) {
  constexpr std::size_t kShare = 8;
  std::vector<SuffixStream*> sorted(streams.begin(), streams.end());
  std::sort(sorted.begin(), sorted.end(), std::less<>());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    throw std::invalid_argument("a stream stands twice in the batch; name each once");
  }
  // By shared tree, each in the batch's order: writers of one tree would wait for one another, so
  // one thread writes for all, and the tree does not depend on how fast the others are.
  std::vector<std::size_t> order(streams.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    require_ids(tokens[i]);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const SuffixTree* const first = streams[a]->shared_.get();
    const SuffixTree* const second = streams[b]->shared_.get();
    return first != second ? std::less<>()(first, second) : a < b;
  });
  std::vector<std::size_t> trees;  // where in `order` each begins
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || streams[order[i]]->shared_ != streams[order[i - 1]]->shared_) trees.push_back(i);
  }
  const std::size_t shares = (streams.size() + kShare - 1) / kShare;
  pool.run(trees.size() + shares, [&](std::size_t item) {
    if (item < trees.size()) {
      const std::size_t end = item + 1 < trees.size() ? trees[item + 1] : order.size();
      for (std::size_t i = trees[item]; i < end; ++i) {
        if (streams[order[i]]->own_) streams[order[i]]->observe_shared(tokens[order[i]]);
      }
      return;
    }
    const std::size_t share = item - trees.size();
    const std::size_t end = std::min(streams.size(), (share + 1) * kShare);
    for (std::size_t i = share * kShare; i < end; ++i) {
      if (streams[i]->own_ && !tokens[i].empty()) streams[i]->observe_own(tokens[i]);
    }
  });
}

}  // namespace draftwood
