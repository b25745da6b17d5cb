#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "draftwood/recall.h"
#include "draftwood/thread_pool.h"
#include "prediction.h"
#include "recall_draft.h"
#include "recall_impl.h"

namespace draftwood {
namespace {

using recall::Limits;
using recall::Node;
using recall::Outcome;
using recall::Ring;
using recall::Sketch;
using recall::View;

constexpr Token kSeparator = -1;
constexpr std::size_t kLead = 8;  ///< tokens of the prompt's end that stand before a prediction
constexpr std::size_t kSlice = 65'536;  ///< tokens of a prompt that are linked between two pauses

/// A ring of a request's own: it grows instead of wrapping, and no one else sees it.
///
///     prompt's end | prediction | separator | ... | prompt and output
///
/// The prompt's end before a prediction is context only, never drafted: thanks to it a prediction
/// is what follows the prompt, from its first token on. A separator matches nothing.
class OwnRing {
 public:
  void open(std::span<const std::span<const Token>> predictions, std::span<const Token> prompt,
            Pause pause) {
    const auto end = prompt.last(std::min(prompt.size(), kLead));
    std::size_t total = prompt.size();
    for (const auto& prediction : predictions) total += end.size() + prediction.size() + 1;
    records_.reserve(total + total / 8 + 256);
    rehash(static_cast<std::uint32_t>(records_.capacity()));
    for (const auto& prediction : predictions) {
      grow(end);
      for (std::size_t i = records_.size() - end.size(); i < records_.size(); ++i) {
        ring_.mark(static_cast<std::uint32_t>(i), records_[i].token);
      }
      grow(prediction);
      grow({&kSeparator, 1});
    }
    lead_ = static_cast<std::uint32_t>(records_.size());
    link(0, lead_);
    for (std::size_t at = 0; at < prompt.size(); at += kSlice) {
      if (at > 0 && pause != nullptr) pause();
      extend(prompt.subspan(at, std::min(kSlice, prompt.size() - at)));
    }
  }

  void extend(std::span<const Token> tokens) {
    if (tokens.empty()) return;
    const auto first = static_cast<std::uint32_t>(records_.size());
    grow(tokens);
    const auto total = static_cast<std::uint32_t>(records_.size());
    if (total > 4 * hashed_for_) {
      rehash(2 * total);
      link(0, total);
    } else {
      link(first, total);
    }
  }

  void clear() {
    records_ = {};
    heads_ = {};
    ring_ = {};
    lead_ = 0;
  }

  [[nodiscard]] std::uint32_t lead() const noexcept { return lead_; }  ///< slots before the prompt
  [[nodiscard]] std::size_t length() const noexcept { return records_.size() - lead_; }

  /// The slots before the prompt; what is no part of a prediction is negative.
  [[nodiscard]] std::vector<Token> likely() const {
    std::vector<Token> tokens(lead_);
    for (std::uint32_t slot = 0; slot < lead_; ++slot) {
      const recall::Record& record = records_[slot];
      tokens[slot] = record.link[0] == recall::kUnnamed ? kSeparator : record.token;
    }
    return tokens;
  }

  [[nodiscard]] View view() const noexcept {
    // One slot of room behind the newest, so that the tail is a slot of its own.
    return {&ring_, ring_.capacity, ring_.capacity, 0, nullptr, 0, {}, 0, 0};
  }
  [[nodiscard]] std::size_t nbytes() const noexcept {
    return records_.capacity() * sizeof(recall::Record) + heads_.capacity() * sizeof(std::uint32_t);
  }

 private:
  /// Adds tokens that are not linked yet.
  void grow(std::span<const Token> tokens) {
    const std::size_t first = records_.size();
    records_.resize(first + tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i) records_[first + i].token = tokens[i];
    ring_.records = records_.data();
    ring_.capacity = static_cast<std::uint32_t>(records_.size());
  }

  void rehash(std::uint32_t capacity) {
    hashed_for_ = capacity;
    ring_.bits = Ring::head_bits(capacity);
    std::size_t total = 0;
    for (const std::uint32_t bits : ring_.bits) total += std::size_t{1} << bits;
    heads_.assign(total, 0);
    std::uint32_t* at = heads_.data();
    for (std::size_t k = 0; k < recall::kOrders; ++k) {
      ring_.heads[k] = at;
      at += std::size_t{1} << ring_.bits[k];
    }
  }

  void link(std::uint32_t first, std::uint32_t last) {
    std::uint32_t known = 0;  // tokens before a slot since the last separator
    while (known < std::min(first, recall::kLongest) && records_[first - 1 - known].token >= 0) {
      ++known;
    }
    std::array<Token, recall::kLongest> window;
    for (std::uint32_t slot = first; slot < last; ++slot) {
      const recall::Record& record = records_[slot];
      if (slot < lead_ && (record.token < 0 || record.link[0] == recall::kUnnamed)) {
        known = record.token < 0 ? 0 : std::min(known + 1, recall::kLongest);
        continue;
      }
      for (std::uint32_t i = 0; i < known; ++i) window[i] = records_[slot - known + i].token;
      const auto hashes = recall::hash_context({window.data(), known}, 0);
      ring_.put(slot, record.token, hashes, known);
      known = std::min(known + 1, recall::kLongest);
    }
  }

  std::vector<recall::Record> records_;
  std::vector<std::uint32_t> heads_;
  Ring ring_;
  std::uint32_t hashed_for_ = 0;
  std::uint32_t lead_ = 0;
};

void check(std::span<const Token> tokens) {
  if (std::ranges::any_of(tokens, [](Token token) { return token < 0; })) {
    throw std::invalid_argument("token ids are 0 or greater");
  }
}

/// Calls `work` for 0 to count - 1, each once, on up to `threads` threads of one pool.
template <class Work>
void spread(std::size_t count, std::uint32_t threads, const Work& work) {
  // Never destroyed: threads may use it until the process ends.
  static ThreadPool& pool = *new ThreadPool(std::max(1U, std::thread::hardware_concurrency()));
  std::atomic<std::size_t> next{0};
  pool.run(std::min<std::size_t>(threads, count), [&](std::size_t) {
    for (std::size_t i = next++; i < count; i = next++) work(i);
  });
}

/// Drafts that a thread draws at once, so that one's cache misses pass while others work.
constexpr std::size_t kGroup = 8;

std::array<Sketch, kGroup>& thread_sketches() {
  thread_local std::array<Sketch, kGroup> sketches;
  return sketches;
}

void walk(std::span<Sketch> sketches) {
  for (Sketch& sketch : sketches) sketch.enter();
  for (bool open = true; open;) {
    open = false;
    for (Sketch& sketch : sketches) open = sketch.step() || open;
  }
}

}  // namespace

class RecallRequest::Impl {
 public:
  Impl(std::shared_ptr<Recall> recall, NamespaceKey key, const RecallPolicy& rules)
      : shared(std::move(recall)), name(key), policy(rules), model(shared->impl().models.of(key)) {
    running.name = key;
  }
  ~Impl() { shared->impl().leave(running); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  std::shared_ptr<Recall> shared;
  NamespaceKey name;
  RecallPolicy policy;
  std::shared_ptr<recall::Model> model;  ///< its namespace's
  OwnRing own;
  std::vector<Token> text;   ///< the last tokens: context of the part to be shared, then that part
  std::size_t unshared = 0;  ///< how many of them are not in shared history yet
  std::vector<Recall::Span> parts;
  Running running;
  Outcome outcome;
  RecallDraft draft;
  std::unique_ptr<recall::Follower> follower;  ///< of the predictions, where there are any
  std::vector<recall::Drafted> recalled;       ///< what it is to be merged with
  std::size_t length = 0;                      ///< tokens of prompt and output
  std::uint64_t written = 0;                   ///< of shared history, when the draft was begun
  bool closed = false;

  /// The part of a move that other streams see: learns, and shares what is due.
  void settle(std::span<const Token> tokens);
  /// Asks for the memory that `settle` will read first.
  void foresee() const noexcept;
  void begin(Sketch& sketch, int attempt);
  void finish(Sketch& sketch, const Limits& limits);
  void publish(const Sketch& sketch);
  void merge(const Sketch& sketch, const Limits& limits);
  void resize(std::size_t n);
  [[nodiscard]] Limits limits(const RecallBudget& budget) const;
  void learn(std::span<const Token> tokens);
  void share();
};

/// Stands at the text as far as shared history is written now; `attempt`: none of it after 3.
void RecallRequest::Impl::begin(Sketch& sketch, int attempt) {
  const Recall::Impl& history = shared->impl();
  written = recall::receive(history.header->written);
  const auto readable = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(written, history.ring.capacity - history.margin()));
  sketch.begin(
      {own.view(), View{&history.ring, history.slot_of(written), attempt < 3 ? readable : 0, 1,
                        history.owners, name, parts, written, history.salt(name)}},
      text);
}

/// Ends what `begin` began, and once more where a writer came near what was read.
void RecallRequest::Impl::finish(Sketch& sketch, const Limits& limits) {
  sketch.grow(*model, limits, outcome);
  for (int attempt = 1; attempt <= 3 && !shared->impl().intact(written); ++attempt) {
    begin(sketch, attempt);
    walk({&sketch, 1});
    sketch.grow(*model, limits, outcome);
  }
  publish(sketch);
  if (follower != nullptr) merge(sketch, limits);
}

/// Puts what the predictions say into the draft.
void RecallRequest::Impl::merge(const Sketch& sketch, const Limits& limits) {
  constexpr auto kPrediction = static_cast<std::uint8_t>(RecallSource::kPrediction);
  recalled.clear();
  for (std::size_t i = 0; i < outcome.nodes.size(); ++i) {
    const recall::Trial& trial = outcome.trials[outcome.nodes[i].trial];
    const std::uint8_t source = draft.sources[i];
    const auto at = source == kPrediction ? static_cast<std::int32_t>(sketch.first_own(trial)) : -1;
    recalled.push_back({trial.token, outcome.nodes[i].parent, trial.confidence, source, at});
  }
  const auto& made =
      follower->merge(recalled, {limits.nodes, limits.reach, limits.floor, limits.chain},
                      kPrediction, model->trust);
  resize(made.size());
  for (std::size_t i = 0; i < made.size(); ++i) {
    draft.tokens[i] = made[i].token;
    draft.parents[i] = made[i].parent;
    draft.confidence[i] = static_cast<float>(made[i].confidence) / 65536.0F;
    draft.probability[i] = static_cast<float>(made[i].path) / 4294967296.0F;
    draft.sources[i] = made[i].source;
    draft.score += draft.probability[i];
  }
}

void RecallRequest::Impl::resize(std::size_t n) {
  draft.tokens.resize(n);
  draft.parents.resize(n);
  draft.confidence.resize(n);
  draft.probability.resize(n);
  draft.sources.resize(n);
  draft.score = 0;
}

/// Says the outcome as a draft.
void RecallRequest::Impl::publish(const Sketch& sketch) {
  shared->impl().memory.require_pages();
  const auto& drawn = outcome.nodes;
  const std::size_t n = drawn.size();
  resize(n);
  draft.match = static_cast<std::int32_t>(sketch.match());
  draft.looked = sketch.looked();
  for (std::size_t i = 0; i < n; ++i) {
    const recall::Trial& trial = outcome.trials[drawn[i].trial];
    draft.tokens[i] = drawn[i].token;
    draft.parents[i] = drawn[i].parent;
    draft.confidence[i] = static_cast<float>(trial.confidence) / 65536.0F;
    draft.probability[i] = static_cast<float>(drawn[i].path) / 4294967296.0F;
    RecallSource source = trial.places == 0 ? RecallSource::kTarget
                          : trial.own       ? RecallSource::kOwn
                                            : RecallSource::kShared;
    if (trial.own && own.lead() != 0 && sketch.first_own(trial) < own.lead()) {
      source = RecallSource::kPrediction;
    }
    draft.sources[i] = static_cast<std::uint8_t>(source);
    draft.score += draft.probability[i];
  }
}

void RecallRequest::Impl::learn(std::span<const Token> tokens) {
  const auto& [nodes, trials, readings, root_trials] = outcome;
  if (trials.empty() || tokens.empty() || running.stopped) return;
  const std::lock_guard lock(model->mutex());
  std::int32_t at = kRoot;
  std::uint32_t first = 0;
  std::uint32_t last = root_trials;
  for (const Token truth : tokens) {
    model->learn(std::span(trials).subspan(first, last - first), readings, truth);
    std::int32_t next = kRoot;
    for (std::size_t i = static_cast<std::size_t>(at + 1); i < nodes.size(); ++i) {
      if (nodes[i].parent != at) continue;
      const bool right = nodes[i].token == truth;
      model->learn_choice(trials[nodes[i].trial], right);
      if (right) next = static_cast<std::int32_t>(i);
    }
    if (next == kRoot) break;
    at = next;
    first = nodes[static_cast<std::size_t>(at)].first_trial;
    last = nodes[static_cast<std::size_t>(at)].last_trial;
  }
  outcome.nodes.clear();
  outcome.trials.clear();
  outcome.readings.clear();
}

void RecallRequest::Impl::share() {
  if (unshared == 0 || !shared->writable()) return;
  Recall::Impl& history = shared->impl();
  history.memory.require_whole();
  const std::span<const Token> all(text);
  const std::lock_guard lock(history.writer);
  if (!running.stopped) {
    if (running.sequence == 0) running.sequence = history.begin();
    const Recall::Span part =
        history.add(running.sequence, name, all.first(all.size() - unshared), all.last(unshared));
    history.memory.require_pages();
    if (part.first == part.last) {
      // Its namespace's quota is used up.
    } else if (!parts.empty() && parts.back().last == part.first) {
      parts.back().last = part.last;
    } else {
      parts.push_back(part);
    }
  }
  unshared = 0;
}

void RecallRequest::Impl::settle(std::span<const Token> tokens) {
  learn(tokens);
  if (follower != nullptr) {
    const std::lock_guard lock(model->mutex());
    follower->observe(tokens, running.stopped ? nullptr : &model->trust);
  }
  length += tokens.size();
  text.insert(text.end(), tokens.begin(), tokens.end());
  unshared += tokens.size();
  if (unshared >= policy.share) share();
  // Old text goes in large steps, so that a token costs no move of all the others.
  const std::size_t kept = unshared + recall::kMatchCap;
  if (text.size() > kept + 256)
    text.erase(text.begin(), text.end() - static_cast<std::ptrdiff_t>(kept));
}

void RecallRequest::Impl::foresee() const noexcept {
  const auto& [nodes, trials, readings, root_trials] = outcome;
  if (trials.empty()) return;
  for (std::size_t i = 0; i < 4; ++i) {
    recall::prefetch(&trials[std::min(2 * i, trials.size() - 1)]);
    recall::prefetch(&readings[std::min(i, readings.size() - 1)]);
  }
  recall::prefetch(nodes.data());
  recall::prefetch(text.data() + text.size());
}

RecallRequest::RecallRequest(std::shared_ptr<Recall> shared, std::span<const Token> prompt,
                             NamespaceKey name, const RecallPolicy& policy,
                             std::span<const std::span<const Token>> predictions,
                             std::shared_ptr<const TokenTexts> texts, Pause pause)
    : impl_(std::make_unique<Impl>(std::move(shared), name, policy)) {
  check(prompt);
  for (const auto& prediction : predictions) check(prediction);
  impl_->shared->impl().memory.require_whole();
  impl_->own.open(predictions, prompt, pause);
  if (std::ranges::any_of(predictions, [](const auto& each) { return !each.empty(); })) {
    impl_->follower = std::make_unique<recall::Follower>(impl_->own.likely(), std::move(texts));
  }
  impl_->length = prompt.size();
  const std::size_t kept = std::min<std::size_t>(prompt.size(), recall::kMatchCap);
  impl_->text.assign(prompt.end() - static_cast<std::ptrdiff_t>(kept), prompt.end());
  impl_->shared->impl().enter(impl_->running);
}

RecallRequest::~RecallRequest() = default;

Limits RecallRequest::Impl::limits(const RecallBudget& budget) const {
  const double floor =
      std::clamp(static_cast<double>(std::max(policy.floor, budget.floor)), 0.0, 1.0);
  return {budget.nodes, std::min(budget.nodes, budget.reach),
          static_cast<std::uint32_t>(floor * 4294967295.0), policy.chain || budget.chain};
}

const RecallDraft& RecallRequest::propose(const RecallBudget& budget) {
  Sketch& sketch = thread_sketches()[0];
  impl_->begin(sketch, 0);
  walk({&sketch, 1});
  impl_->finish(sketch, impl_->limits(budget));
  return impl_->draft;
}

void RecallRequest::observe(std::span<const Token> tokens) {
  Impl& self = *impl_;
  if (tokens.empty() || self.closed) return;
  check(tokens);
  self.own.extend(tokens);
  self.settle(tokens);
}

void RecallRequest::keep_rows(const RowsOfDraft& said) {
  Impl& self = *impl_;
  const std::size_t nodes = said.tokens.size();
  if (said.parents.size() != nodes || said.likely.size() != (nodes + 1) * said.k ||
      said.logprobs.size() != said.likely.size()) {
    throw std::invalid_argument(
        "rows: k tokens and log-probabilities after the context and each node");
  }
  check(said.tokens);
  check(said.likely);
  for (std::size_t i = 0; i < nodes; ++i) {
    if (said.parents[i] < kRoot || said.parents[i] >= static_cast<std::int32_t>(i)) {
      throw std::invalid_argument("rows: parents come before their children");
    }
  }
  if (self.closed || self.running.stopped || self.text.empty()) return;
  const Token last = self.text.back();
  const Token before = self.text.size() < 2 ? recall::kAlone : self.text[self.text.size() - 2];
  recall::Model& model = *self.model;
  const std::lock_guard lock(model.mutex());
  for (std::size_t i = 0; i <= nodes; ++i) {
    const auto row = recall::likely_of(said.likely.subspan(i * said.k, said.k),
                                       said.logprobs.subspan(i * said.k, said.k));
    Token at = last;
    Token above = before;
    if (i > 0) {
      at = said.tokens[i - 1];
      const std::int32_t parent = said.parents[i - 1];
      above = parent == kRoot ? last : said.tokens[static_cast<std::size_t>(parent)];
    }
    model.rows.add(recall::kAlone, at, row);
    if (above != recall::kAlone) model.rows.add(above, at, row);
  }
}

void RecallRequest::share() {
  if (!impl_->closed) impl_->share();
}

void RecallRequest::close() {
  Impl& self = *impl_;
  if (!self.closed) self.share();
  abandon();
}

void RecallRequest::abandon() {
  Impl& self = *impl_;
  self.closed = true;
  self.shared->impl().leave(self.running);
  self.own.clear();
  self.text = {};
  self.outcome = {};
  self.follower.reset();
  self.recalled = {};
  self.parts = {};
}

std::size_t RecallRequest::length() const noexcept {
  return impl_->length;
}

const RecallDraft& RecallRequest::last() const noexcept {
  return impl_->draft;
}
const Recall& RecallRequest::history() const noexcept {
  return *impl_->shared;
}
Recall::Sequence RecallRequest::sequence() const noexcept {
  return impl_->running.sequence;
}

std::size_t RecallRequest::nbytes() const noexcept {
  const auto bytes = [](const auto&... held) {
    return (... + (held.capacity() * sizeof(held[0])));
  };
  const Impl& self = *impl_;
  const auto& [nodes, trials, readings, root_trials] = self.outcome;
  const RecallDraft& draft = self.draft;
  const std::size_t followed = self.follower == nullptr ? 0 : self.follower->nbytes();
  return sizeof(self) + self.own.nbytes() + followed +
         bytes(self.text, self.parts, self.recalled, nodes, trials, readings) +
         bytes(draft.tokens, draft.parents, draft.confidence, draft.probability, draft.sources);
}

void propose_all(std::span<RecallRequest* const> streams, std::span<const RecallBudget> budgets,
                 std::uint32_t threads) {
  const std::size_t groups = (streams.size() + kGroup - 1) / kGroup;
  spread(groups, threads, [&](std::size_t group) {
    const std::size_t first = group * kGroup;
    const std::size_t count = std::min(kGroup, streams.size() - first);
    const std::span<Sketch> sketches(thread_sketches().data(), count);
    for (std::size_t i = 0; i < count; ++i) streams[first + i]->impl_->begin(sketches[i], 0);
    walk(sketches);
    for (std::size_t i = 0; i < count; ++i) {
      RecallRequest::Impl& self = *streams[first + i]->impl_;
      self.finish(sketches[i], self.limits(budgets[first + i]));
    }
  });
}

void observe_all(std::span<RecallRequest* const> streams,
                 std::span<const std::span<const Token>> tokens, std::uint32_t threads) {
  for (const std::span<const Token>& part : tokens) check(part);
  // One thread does what other streams see, in their order; the others move the streams' own rings,
  // which that does not touch.
  const auto moves = [&](std::size_t i) {
    return !tokens[i].empty() && !streams[i]->impl_->closed;
  };
  const std::size_t groups = (streams.size() + kGroup - 1) / kGroup;
  spread(1 + groups, threads, [&](std::size_t item) {
    if (item == 0) {
      for (std::size_t i = 0; i < streams.size(); ++i) {
        if (i + 1 < streams.size()) streams[i + 1]->impl_->foresee();
        if (moves(i)) streams[i]->impl_->settle(tokens[i]);
      }
      return;
    }
    const std::size_t last = std::min(item * kGroup, streams.size());
    for (std::size_t i = (item - 1) * kGroup; i < last; ++i) {
      if (moves(i)) streams[i]->impl_->own.extend(tokens[i]);
    }
  });
}

}  // namespace draftwood
