#include "recall_draft.h"

#include <algorithm>

namespace draftwood::recall {
namespace {

/// Steps along the chain of each order, at most. Short contexts have the most continuations.
constexpr std::array<std::uint32_t, kOrders> kSteps = {24, 12, 8};
constexpr std::uint32_t kMostSteps = kSteps[0];

/// How many tokens before `slot` are the context's last, at most kMatchCap.
std::uint32_t match_length(const View& view, std::uint32_t slot, std::span<const Token> context) {
  const auto limit = static_cast<std::uint32_t>(std::min<std::size_t>(kMatchCap, context.size()));
  const Token* last = context.data() + context.size() - 1;
  std::uint32_t age = view.ring->age(slot, view.tail);
  std::uint32_t length = 0;
  while (length < limit && ++age <= view.reach) {
    slot = view.ring->before(slot);
    if (peek(view.ring->records[slot].token) != *(last - length)) break;
    ++length;
  }
  return length;
}

}  // namespace

void Sketch::gather(const View& view, std::span<const Token> context) {
  if (view.reach == 0) return;
  const Ring& ring = *view.ring;
  const Hashes hashes = hash_context(context, salt_of(view.name));
  std::array<std::array<std::uint32_t, kMostSteps>, kOrders> found;
  std::array<std::uint32_t, kOrders> count{};
  std::array<std::uint32_t, kOrders> at{};
  std::array<std::uint32_t, kOrders> age{};
  for (std::size_t k = 0; k < kOrders; ++k) {
    at[k] = context.size() < kOrder[k] ? 0 : peek(ring.heads[k][ring.bucket(k, hashes)]);
  }
  // All chains a step at a time: their cache misses overlap.
  for (std::uint32_t step = 0; step < kMostSteps; ++step) {
    std::uint32_t open = 0;
    for (std::size_t k = 0; k < kOrders; ++k) {
      if (at[k] == 0 || step >= kSteps[k]) continue;
      const std::uint32_t slot = at[k] - 1;
      if (slot >= ring.capacity) {
        at[k] = 0;
        continue;
      }
      const std::uint32_t slot_age = ring.age(slot, view.tail);
      if (slot_age > view.reach ||
          slot_age <= age[k]) {  // dead, or overwritten since it was linked
        at[k] = 0;
        continue;
      }
      const std::uint32_t link = peek(ring.records[slot].link[k]);
      if (link == kUnnamed) {  // overwritten by context, which is compared with and never drafted
        at[k] = 0;
        continue;
      }
      age[k] = slot_age;
      found[k][count[k]++] = slot;
      at[k] = link;
      ++open;
    }
    if (open == 0) break;
  }
  for (std::size_t k = kOrders; k-- > 0;) {
    for (std::uint32_t i = 0; i < count[k]; ++i) {
      const std::uint32_t slot = found[k][i];
      const Token token = peek(ring.records[slot].token);
      if (token < 0) continue;
      const std::uint32_t slot_age = ring.age(slot, view.tail);
      if (view.owners != nullptr && peek(view.owners[slot / kBlock]) != view.name) continue;
      const std::uint32_t length = match_length(view, slot, context);
      if (length < kOrder[k]) continue;
      // A longer match stands in a longer order's chain too; that walk has found it if it came so
      // far.
      bool twice = false;
      for (std::size_t longer = k + 1; longer < kOrders; ++longer) {
        twice = twice || (length >= kOrder[longer] && (at[longer] == 0 || slot_age <= age[longer]));
      }
      if (twice || (!view.hidden.empty() && view.hides(slot_age))) continue;
      places_.push_back({slot, token, static_cast<std::uint8_t>(length), view.source});
      match_ = std::max(match_, length);
    }
  }
}

void Sketch::follow(std::span<const View> views, const Node& node, std::uint32_t first,
                    std::uint32_t last) {
  for (std::uint32_t i = first; i < last; ++i) {
    const Place place = places_[i];
    if (place.token != node.token) continue;
    const View& view = views[place.source];
    const std::uint32_t slot = view.ring->after(place.slot);
    if (slot == view.tail || place.slot + 1 == view.tail) continue;
    const Token token = peek(view.ring->records[slot].token);
    if (token < 0) continue;
    const auto length =
        static_cast<std::uint8_t>(std::min<std::uint32_t>(place.length + 1U, kMatchCap));
    places_.push_back({slot, token, length, place.source});
  }
}

void Sketch::weigh(std::uint32_t first, std::uint32_t last) {
  auto& [tallies, total, newest] = evidence_;
  tallies.clear();
  total.fill(0);
  newest.fill(-1);
  std::array<std::uint8_t, kSources> longest{};
  for (std::uint32_t i = first; i < last; ++i) {
    const Place place = places_[i];
    const bool own = place.source == 0;
    const std::uint8_t level = kLevelOf[place.length];
    // Long orders come first, and each newest first.
    if (newest[place.source] < 0 || level > longest[place.source]) {
      longest[place.source] = level;
      newest[place.source] = place.token;
    }
    count_place(total, place.source, level);
    Tally* tally = tallies.data();
    Tally* const end = tally + tallies.size();
    while (tally != end && tally->token != place.token) ++tally;
    if (tally == end) {
      tally = &tallies.emplace_back(Tally{place.token, place.length, own, {}});
    } else if (place.length > tally->longest) {
      tally->longest = place.length;
      tally->own = own;
    } else if (place.length == tally->longest) {
      tally->own = tally->own || own;
    }
    count_place(tally->count, place.source, level);
  }
  add_up(total);
  for (Tally& tally : tallies) add_up(tally.count);
}

void Sketch::draw(std::span<const View> views, std::span<const Token> context, const Model& model,
                  const Limits& limits, Outcome& outcome) {
  places_.clear();
  heap_.clear();
  match_ = 0;
  auto& [nodes, trials, root_trials] = outcome;
  nodes.clear();
  trials.clear();
  root_trials = 0;
  if (limits.nodes == 0 || limits.reach == 0) return;
  for (const View& view : views) gather(view, context);
  const Token last_token = context.empty() ? -1 : context.back();

  const auto worse = [&](const Choice& a, const Choice& b) {
    if (a.path != b.path) return a.path < b.path;
    if (a.parent != b.parent) return a.parent > b.parent;
    return trials[a.trial].token > trials[b.trial].token;
  };
  const auto expand = [&](std::int32_t parent, std::uint32_t depth, std::uint32_t path,
                          std::uint32_t first, std::uint32_t last) {
    const auto first_trial = static_cast<std::uint32_t>(trials.size());
    weigh(first, last);
    model.judge(evidence_, depth,
                parent == kRoot ? last_token : nodes[static_cast<std::size_t>(parent)].token,
                trials);
    const auto last_trial = static_cast<std::uint32_t>(trials.size());
    model.settle({trials.data() + first_trial, last_trial - first_trial}, depth, path);
    Choice best{0, parent, 0};
    for (std::uint32_t i = first_trial; i < last_trial; ++i) {
      const Choice choice{
          static_cast<std::uint32_t>(std::uint64_t{path} * trials[i].confidence >> 16), parent, i};
      if (choice.path < limits.floor || choice.path == 0) continue;
      if (!limits.chain) {
        heap_.push_back(choice);
        std::ranges::push_heap(heap_, worse);
      } else if (best.path == 0 || worse(best, choice)) {
        best = choice;
      }
    }
    if (limits.chain && best.path > 0) heap_.push_back(best);
    return last_trial;
  };

  root_trials = expand(kRoot, 0, 0xFFFFFFFFU, 0, static_cast<std::uint32_t>(places_.size()));
  const auto root_places = static_cast<std::uint32_t>(places_.size());
  while (!heap_.empty()) {
    std::ranges::pop_heap(heap_, worse);
    const Choice choice = heap_.back();
    heap_.pop_back();
    const Trial& trial = trials[choice.trial];
    const std::uint32_t depth =
        choice.parent == kRoot ? 1 : nodes[static_cast<std::size_t>(choice.parent)].depth + 1;
    nodes.push_back({trial.token, choice.parent, choice.trial, choice.path, depth, 0, 0, 0, 0});
    if (nodes.size() == limits.nodes) break;
    if (depth == limits.reach) continue;
    Node& node = nodes.back();
    std::uint32_t first = 0;
    std::uint32_t last = root_places;
    if (choice.parent != kRoot) {
      first = nodes[static_cast<std::size_t>(choice.parent)].first_place;
      last = nodes[static_cast<std::size_t>(choice.parent)].last_place;
    }
    node.first_place = static_cast<std::uint32_t>(places_.size());
    follow(views, node, first, last);
    node.last_place = static_cast<std::uint32_t>(places_.size());
    node.first_trial = static_cast<std::uint32_t>(trials.size());
    node.last_trial = expand(static_cast<std::int32_t>(nodes.size()) - 1, depth, choice.path,
                             node.first_place, node.last_place);
  }
}

}  // namespace draftwood::recall
