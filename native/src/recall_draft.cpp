#include "recall_draft.h"

#include <algorithm>

namespace draftwood::recall {
namespace {

constexpr std::uint32_t kCertain = 0xFFFFFFFF;
/// What the target named is judged down to this path probability.
constexpr std::uint32_t kFaint = kCertain / 256;

/// More than there can be places at a node.
static_assert(kSources * (kSteps[0] + kSteps[1] + kSteps[2]) < 128);

}  // namespace

void Sketch::begin(const Views& views, std::span<const Token> context) noexcept {
  views_ = views;
  last_ = context.empty() ? -1 : context.back();
  before_ = context.size() < 2 ? kAlone : context[context.size() - 2];
  for (std::size_t i = 0; i < kSources; ++i) walks_[i].begin(views_[i], context);
}

void Sketch::enter() noexcept {
  for (Walk& walk : walks_) walk.enter();
}

bool Sketch::step() noexcept {
  const bool own = walks_[0].step();
  const bool shared = walks_[1].step();
  return own || shared;
}

/// Adds the places one behind those linked from `place` on.
inline void Sketch::follow(std::uint32_t place) {
  while (place != 0) {
    const Place before = places_[place - 1];
    place = before.next;
    const View& view = views_[before.source];
    const std::uint32_t slot = view.ring->after(before.slot);
    if (slot == view.tail || before.slot + 1 == view.tail) continue;
    const Token token = peek(view.ring->records[slot].token);
    if (token < 0) continue;
    prefetch(view.ring->records + std::min(slot + 4, view.ring->capacity - 1));
    const auto length =
        static_cast<std::uint8_t>(std::min<std::uint32_t>(before.length + 1U, kMatchCap));
    places_.push_back({slot, token, 0, length, before.source});
  }
}

/// Counts what the places from `first` on go on with, and links those that go on alike.
inline void Sketch::tally(std::uint32_t first) {
  tallies_.clear();
  total_ = {};
  newest_.fill(-1);
  const auto last = static_cast<std::uint32_t>(places_.size());
  if (last == first) return;
  if (last - first == 1) {
    const Place& place = places_[first];
    total_[place.source] = kPlace[kLevelOf[place.length]];
    newest_[place.source] = place.token;
    tallies_.push_back({place.token, place.length, place.source == 0, total_, last, last});
    return;
  }
  tally_at_.fill(0);
  std::array<std::uint64_t, kSources> longest{};
  for (std::uint32_t i = first; i < last; ++i) {
    const Place& place = places_[i];
    const bool own = place.source == 0;
    const std::uint64_t count = kPlace[kLevelOf[place.length]];
    // Long orders come first, and each newest first.
    if (count > longest[place.source]) {
      longest[place.source] = count;
      newest_[place.source] = place.token;
    }
    total_[place.source] += count;
    std::uint32_t at = static_cast<std::uint32_t>(place.token) * 0x9E3779B1U >> 25;
    while (tally_at_[at] != 0 && tallies_[tally_at_[at] - 1U].token != place.token) {
      at = (at + 1) % 128;
    }
    if (tally_at_[at] == 0) {
      tallies_.push_back(
          {place.token, place.length, own, {own ? count : 0, own ? 0 : count}, i + 1, i + 1});
      tally_at_[at] = static_cast<std::uint8_t>(tallies_.size());
      continue;
    }
    Tally& tally = tallies_[tally_at_[at] - 1U];
    // Without branches: which of three it is, is hard to foresee.
    const bool longer = place.length > tally.longest;
    const bool shorter = place.length < tally.longest;
    tally.own = (tally.own & !longer) | (own & !shorter);
    tally.longest = std::max(place.length, tally.longest);
    tally.count[place.source] += count;
    places_[tally.last - 1].next = i + 1;
    tally.last = i + 1;
  }
}

/// The reading of what is seen: one for all candidates of the draft that look alike.
inline std::uint32_t Sketch::reading_of(const Model& model, const Sight& sight,
                                        std::vector<Reading>& readings) {
  const std::uint64_t mixed = (sight.with[0] ^ sight.with[1] << 7 ^ sight.without[0] << 3 ^
                               sight.without[1] << 11 ^ sight.newest) *
                              0x9E3779B97F4A7C15U;
  std::uint32_t& known = memo_[mixed >> 59];
  if (known == 0 || !(readings[known - 1].sight == sight)) {
    model.read(sight, readings.emplace_back());
    known = static_cast<std::uint32_t>(readings.size());
  }
  return known - 1;
}

/// Adds a choice, unless there are `room` better ones. There is memory for it.
inline void Sketch::offer(std::uint64_t choice, std::size_t room) {
  std::uint64_t* const choices = choices_.data();
  if (offered_ - dropped_ >= room) {
    if (choice < choices[dropped_]) return;
    ++dropped_;
  }
  std::size_t at = offered_++;
  for (; at != dropped_ && choices[at - 1] > choice; --at) choices[at] = choices[at - 1];
  choices[at] = choice;
}

/// Reads what the target said at the node, and adds what it named that no place goes on with;
/// false where it said nothing.
bool Sketch::hear(const Model& model, const Outcome& outcome, std::int32_t parent,
                  const Model::Spot& spot, std::uint32_t floor) {
  if (!model.rows.any()) return false;
  Token before = before_;
  if (parent != kRoot) {
    const std::int32_t above = outcome.nodes[static_cast<std::size_t>(parent)].parent;
    before = above == kRoot ? last_ : outcome.nodes[static_cast<std::size_t>(above)].token;
  }
  hints_[0] = model.rows.find(kAlone, spot.last);
  hints_[1] = before == kAlone ? Likely{} : model.rows.find(before, spot.last);
  const Likely& said = hints_[hints_[1].count != 0 ? 1 : 0];
  const std::size_t placed = tallies_.size();
  for (std::size_t i = 0; i < said.count; ++i) {
    // What is far from the draft is not judged, which depends on nothing that is to be learned.
    const std::uint64_t likely = std::uint64_t{spot.path} * said.share[i] >> 16;
    if (likely < std::max(kFaint, floor / 4)) break;
    const Token token = said.token[i];
    const auto end = tallies_.begin() + static_cast<std::ptrdiff_t>(placed);
    if (std::find_if(tallies_.begin(), end,
                     [&](const Tally& tally) { return tally.token == token; }) == end) {
      tallies_.push_back({token, 0, false, {}, 0, 0});
    }
  }
  return (hints_[0].count | hints_[1].count) != 0;
}

/// Judges what the places from `first` on, below `parent`, go on with, and offers it.
void Sketch::judge(const Model& model, const Limits& limits, std::int32_t parent,
                   std::uint32_t first, Outcome& outcome) {
  tally(first);
  Model::Spot spot{0, kCertain, last_, nullptr};
  if (parent != kRoot) {
    const Node& above = outcome.nodes[static_cast<std::size_t>(parent)];
    spot = {above.depth, above.path, above.token, nullptr};
  }
  if (hear(model, outcome, parent, spot, limits.floor)) spot.hints = &hints_;
  if (tallies_.empty()) return;
  const auto first_trial = static_cast<std::uint32_t>(outcome.trials.size());
  outcome.trials.resize(first_trial + tallies_.size());
  const std::span<Trial> trials(outcome.trials.data() + first_trial, tallies_.size());
  Trial* next = trials.data();
  const std::uint64_t seen =
      spot.hints == nullptr ? 0
                            : (hints_[0].count != 0 ? 8U : 0U) | (hints_[1].count != 0 ? 16U : 0U);
  const std::uint64_t rivals = seen | (tallies_.size() > 1 ? 4U : 0U);
  for (const Tally& tally : tallies_) {
    const std::uint64_t newest =
        rivals | (newest_[0] == tally.token ? 1U : 0U) | (newest_[1] == tally.token ? 2U : 0U);
    const Sight sight{
        tally.count, {total_[0] - tally.count[0], total_[1] - tally.count[1]}, newest};
    Trial& trial = *next++;
    trial.token = tally.token;
    trial.parent = parent;
    trial.places = tally.first;
    trial.own = tally.own;
    trial.reading = reading_of(model, sight, outcome.readings);
  }
  model.judge(trials, outcome.readings, spot);
  const std::size_t room = limits.chain ? 1 : limits.nodes - outcome.nodes.size();
  if (choices_.size() < offered_ + trials.size()) choices_.resize(2 * (offered_ + trials.size()));
  std::uint32_t name = kCertain - first_trial;
  for (const Trial& trial : trials) {
    const std::uint64_t likely = std::uint64_t{spot.path} * trial.confidence >> 16;
    if (likely >= limits.floor && likely != 0) offer(likely << 32 | name, room);
    --name;
  }
}

void Sketch::grow(const Model& model, const Limits& limits, Outcome& outcome) {
  places_.clear();
  offered_ = 0;
  dropped_ = 0;
  memo_.fill(0);
  match_ = 0;
  auto& [nodes, trials, readings, root_trials] = outcome;
  nodes.clear();
  trials.clear();
  readings.clear();
  root_trials = 0;
  if (limits.nodes == 0 || limits.reach == 0) return;
  for (const Walk& walk : walks_) match_ = std::max(match_, walk.collect(places_));
  judge(model, limits, kRoot, 0, outcome);
  root_trials = static_cast<std::uint32_t>(trials.size());
  while (offered_ > dropped_) {
    const std::uint64_t choice = choices_[--offered_];
    const std::uint32_t at = kCertain - static_cast<std::uint32_t>(choice);
    const Trial& trial = trials[at];
    const std::uint32_t depth =
        trial.parent == kRoot ? 1 : nodes[static_cast<std::size_t>(trial.parent)].depth + 1;
    const auto path = static_cast<std::uint32_t>(choice >> 32);
    Node& node = nodes.emplace_back(Node{trial.token, trial.parent, at, path, depth, 0, 0});
    if (nodes.size() == limits.nodes) break;
    if (depth == limits.reach) continue;
    const auto first = static_cast<std::uint32_t>(places_.size());
    node.first_trial = static_cast<std::uint32_t>(trials.size());
    if (model.rows.any()) {
      model.rows.foresee(kAlone, node.token);
      const Token before =
          trial.parent == kRoot ? last_ : nodes[static_cast<std::size_t>(trial.parent)].token;
      model.rows.foresee(before, node.token);
    }
    follow(trial.places);
    judge(model, limits, static_cast<std::int32_t>(nodes.size()) - 1, first, outcome);
    node.last_trial = static_cast<std::uint32_t>(trials.size());
  }
}

}  // namespace draftwood::recall
