#include <algorithm>

#include "prediction.h"
#include "recall_odds.h"

namespace draftwood::recall {
namespace {

constexpr std::uint32_t kCertain = 0xFFFFFFFF;
constexpr std::uint32_t kUnlikely = 1024;  ///< what is expected with less than this is not drafted
constexpr std::array<std::uint32_t, 3> kTroubles = {2, 5, 13};

}  // namespace

/// Offers what may come below a node: what is expected there, and what Recall drafted.
void Follower::expand(std::int32_t parent, std::uint32_t path, std::int32_t child,
                      std::span<const Drafted> recalled, const MergeLimits& limits,
                      std::uint8_t source, const Trust& trust) {
  const auto children = child < kRoot ? kRoot : first_[static_cast<std::size_t>(child + 1)];
  const auto trouble = static_cast<std::uint32_t>(
      std::ranges::count_if(kTroubles, [&](std::uint32_t least) { return trouble_ >= least; }));
  const std::size_t begun = choices_.size();
  const auto offer = [&](const Drafted& node, std::int32_t place, std::int32_t same) {
    const std::uint64_t likely = std::uint64_t{path} * node.confidence >> 16;
    Choice choice{likely << 32 | (kCertain - order_), node, place, same};
    choice.node.path = static_cast<std::uint32_t>(likely);
    if (limits.chain) {  // the most likely of them only; of equals the first
      if (choices_.size() > begun) {
        if (node.confidence > choices_.back().node.confidence) choices_.back() = choice;
        return;
      }
      choices_.push_back(choice);
      return;
    }
    if (likely < std::max(limits.floor, 1U)) return;
    choices_.push_back(choice);
    std::ranges::push_heap(choices_, {}, &Choice::rank);
    ++order_;
  };
  std::array<std::uint32_t, 4> probability{};
  std::array<std::int32_t, 4> same{};
  std::uint32_t total = 0;
  std::uint32_t taken = 0;
  for (std::size_t i = 0; i < expected_.size(); ++i) {
    const Expected& each = expected_[i];
    std::int32_t at = children;
    while (at >= 0 && recalled[static_cast<std::size_t>(at)].token != each.token) {
      at = next_[static_cast<std::size_t>(at)];
    }
    same[i] = at;
    std::int32_t said = children < 0 ? Trust::kUnknown : Trust::kOthersOnly;
    if (at >= 0) {
      const std::uint32_t confidence = recalled[static_cast<std::size_t>(at)].confidence;
      said = static_cast<std::int32_t>(confidence);
      taken += confidence;
    }
    const Trust::Reading reading = trust.read(each.kind, trouble, said);
    offers_.push_back({parent, each.token, reading.cell});
    probability[i] = reading.probability;
    total += reading.probability;
  }
  for (std::size_t i = 0; i < expected_.size(); ++i) {
    const Expected& each = expected_[i];
    std::uint64_t p = probability[i];
    if (total > kMost) p = p * kMost / total;
    const auto confidence = std::clamp(static_cast<std::uint32_t>(p), kLeast, kMost);
    if (confidence < kUnlikely) continue;
    places_.push_back(each.then);
    offer({each.token, parent, confidence, source, each.then.at - 1},
          static_cast<std::int32_t>(places_.size()) - 1, same[i] < 0 ? kRoot - 1 : same[i]);
  }
  const std::uint64_t rest = total < kOne ? kOne - total : 0;
  const std::uint64_t own = taken < kOne ? kOne - taken : 1;
  for (std::int32_t at = children; at >= 0; at = next_[static_cast<std::size_t>(at)]) {
    const Drafted& node = recalled[static_cast<std::size_t>(at)];
    const auto known = [&](const Expected& each) { return each.token == node.token; };
    if (std::ranges::any_of(expected_, known)) continue;
    const std::uint64_t scaled =
        std::min<std::uint64_t>(node.confidence, node.confidence * rest / own);
    const auto confidence = std::clamp(static_cast<std::uint32_t>(scaled), 1U, kMost);
    offer({node.token, parent, confidence, node.source, node.at}, -1, at);
  }
  if (limits.chain && choices_.size() > begun &&
      choices_.back().node.path < std::max(limits.floor, 1U)) {
    choices_.pop_back();
  }
}

const std::vector<Drafted>& Follower::merge(std::span<const Drafted> recalled,
                                            const MergeLimits& limits, std::uint8_t source,
                                            const Trust& trust) {
  made_.clear();
  offers_.clear();
  places_.clear();
  choices_.clear();
  depths_.clear();
  order_ = 0;
  first_.assign(recalled.size() + 1, kRoot);
  next_.assign(recalled.size(), kRoot);
  for (std::size_t i = recalled.size(); i-- > 0;) {
    std::int32_t& head = first_[static_cast<std::size_t>(recalled[i].parent + 1)];
    next_[i] = head;
    head = static_cast<std::int32_t>(i);
  }
  if (limits.nodes == 0 || limits.reach == 0) return made_;
  expect_roots();
  expand(kRoot, kCertain, kRoot, recalled, limits, source, trust);
  while (!choices_.empty()) {
    std::ranges::pop_heap(choices_, {}, &Choice::rank);
    const Choice choice = choices_.back();
    choices_.pop_back();
    const std::int32_t parent = choice.node.parent;
    made_.push_back(choice.node);
    depths_.push_back(parent == kRoot ? 1 : depths_[static_cast<std::size_t>(parent)] + 1);
    if (made_.size() == limits.nodes) break;
    if (depths_.back() == limits.reach) continue;
    expected_.clear();
    if (choice.place >= 0) expect(Place(places_[static_cast<std::size_t>(choice.place)]));
    expand(static_cast<std::int32_t>(made_.size()) - 1, choice.node.path, choice.child, recalled,
           limits, source, trust);
  }
  return made_;
}

}  // namespace draftwood::recall
