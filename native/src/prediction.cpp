#include "prediction.h"

#include <algorithm>

namespace draftwood::recall {
namespace {

constexpr std::array<std::uint32_t, 8> kRuns = {1, 2, 3, 5, 9, 17, 33, 65};
/// How far from where it left a text may come back, and how many places are looked at.
constexpr std::int32_t kBack = 64;
constexpr std::int32_t kAhead = 256;
constexpr std::size_t kPlaces = 3;
constexpr std::size_t kStarts = 4;
constexpr std::size_t kRoots = 4;
/// A place is followed again where it matches so far; and so far where another does, too.
constexpr std::uint32_t kLock = 3;
constexpr std::uint32_t kSure = 6;
constexpr std::uint32_t kMatched = 16;
constexpr std::size_t kRecent = 32;
/// Words of a pair, and pairs.
constexpr std::size_t kPair = 8;
constexpr std::size_t kPairs = 16;
/// Trouble from which on only places that match two tokens are drafted from.
constexpr std::uint32_t kLost = 24;

template <std::size_t N>
std::uint32_t level(std::uint32_t value, const std::array<std::uint32_t, N>& from) noexcept {
  return static_cast<std::uint32_t>(
      std::ranges::count_if(from, [&](std::uint32_t least) { return value >= least; }));
}

}  // namespace

Follower::Follower(std::vector<Token> likely, std::shared_ptr<const TokenTexts> texts)
    : likely_(std::move(likely)), texts_(std::move(texts)) {
  for (std::size_t at = 0; at < likely_.size() && anchors_.size() < kStarts; ++at) {
    if (likely_[at] >= 0 && (at == 0 || likely_[at - 1] < 0)) {
      anchors_.push_back(static_cast<std::int32_t>(at));
    }
  }
}

Token Follower::token(std::int64_t at) const noexcept {
  if (at < 0 || at >= static_cast<std::int64_t>(likely_.size())) return -1;
  return likely_[static_cast<std::size_t>(at)];
}

bool Follower::stands(const Pair& pair, std::int32_t at) const noexcept {
  const auto first = static_cast<std::size_t>(at);
  return first + pair.old.size() <= likely_.size() &&
         std::equal(pair.old.begin(), pair.old.end(), likely_.begin() + at);
}

/// The newest pair whose old words stand at a slot, or -1.
std::int32_t Follower::pair_at(std::int32_t at) const noexcept {
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    if (stands(pairs_[i], at)) return static_cast<std::int32_t>(i);
  }
  return -1;
}

/// A place in new words, or behind them where it has all.
Follower::Place Follower::inside(const Place& place) const noexcept {
  if (place.offset >= pairs_[static_cast<std::size_t>(place.pair)].fresh.size()) {
    return {place.at, place.run};
  }
  return place;
}

/// Adds what a text may go on with that stands in a prediction.
void Follower::expect(const Place& place) {
  if (place.pair >= 0) {
    const Pair& pair = pairs_[static_cast<std::size_t>(place.pair)];
    expected_.push_back({pair.fresh[place.offset], kInside,
                         inside({place.at, place.run, place.pair, place.offset + 1})});
    return;
  }
  const Token next = token(place.at);
  if (next < 0) return;
  const Place plain{place.at + 1, place.run + 1};
  const std::int32_t found = pair_at(place.at);
  if (found < 0) {
    expected_.push_back({next, level(place.run, kRuns), plain});
    return;
  }
  const Pair& pair = pairs_[static_cast<std::size_t>(found)];
  const std::int32_t end = place.at + static_cast<std::int32_t>(pair.old.size());
  const std::uint32_t kind = kRenamed + (token(end) == pair.after ? 3U : 0U) + pair.state;
  expected_.push_back({pair.fresh[0], kind, inside({end, place.run, found, 1})});
  expected_.push_back({next, kKept, plain});
}

void Follower::guess(std::int64_t at, std::uint32_t kind) {
  expected_.push_back({token(at), kind, {static_cast<std::int32_t>(at) + 1, 0}});
}

/// What may come next, each token once.
void Follower::expect_roots() {
  expected_.clear();
  if (following_) {
    expect(place_);
    return;
  }
  if (since_ == 0) {
    for (const std::int32_t at : anchors_) expected_.push_back({token(at), kStart, {at + 1, 1}});
    for (const std::int32_t at : anchors_) expect_start(at);
  } else {
    for (const std::int32_t at : anchors_) expect_seam(at);
  }
  const bool lost = trouble_ >= kLost;
  find_near();
  for (std::size_t rank = 0; rank < near_.size(); ++rank) {
    const auto& [at, length, distance] = near_[rank];
    if (lost && length < 2) break;
    const std::size_t first = expected_.size();
    expect({at, length});
    const std::uint32_t kind = kNear + 2 * (std::min(length, 3U) - 1) + (rank > 0 ? 1U : 0U);
    for (std::size_t i = first; i < expected_.size(); ++i) {
      if (expected_[i].kind < kRenamed) expected_[i].kind = kind;
    }
  }
  if (since_ > 0 && !lost && anchors_.size() == 1) {
    const std::int64_t left = anchors_[0];
    if (since_ <= 3) guess(left + since_, kSame + (since_ > 1 ? 1U : 0U));
    if (since_ <= 16) guess(left, kStay + (since_ >= 2 ? 1U : 0U) + (since_ >= 5 ? 1U : 0U));
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < expected_.size() && kept < kRoots; ++i) {
    const Token next = expected_[i].token;
    const auto end = expected_.begin() + static_cast<std::ptrdiff_t>(kept);
    const auto same = [&](const Expected& each) { return each.token == next; };
    if (next < 0 || std::any_of(expected_.begin(), end, same)) continue;
    expected_[kept++] = expected_[i];
  }
  expected_.resize(kept);
}

/// Finds the places near the anchors that match what came since, the longest and nearest first.
void Follower::find_near() {
  near_.clear();
  if (since_ == 0) return;
  const auto better = [](const Near& a, const Near& b) {
    if (a.length != b.length) return a.length > b.length;
    return a.distance != b.distance ? a.distance < b.distance : a.at < b.at;
  };
  const auto most = std::min<std::uint32_t>(static_cast<std::uint32_t>(recent_.size()), kMatched);
  const Token* const end = recent_.data() + recent_.size();
  for (const std::int32_t anchor : anchors_) {
    const auto last = std::min<std::int64_t>(std::int64_t{anchor} + kAhead,
                                             static_cast<std::int64_t>(likely_.size()) - 1);
    for (std::int32_t at = std::max(anchor - kBack, 1); at <= last; ++at) {
      const Token* const slot = likely_.data() + at;
      if (slot[-1] != end[-1] || slot[0] < 0) continue;
      std::uint32_t length = 1;
      while (length < most && length < static_cast<std::uint32_t>(at) &&
             *(slot - 1 - length) == *(end - 1 - length)) {
        ++length;
      }
      const Near found{at, length, at > anchor ? at - anchor : kAhead + 1 + anchor - at};
      const auto same = std::ranges::find(near_, at, &Near::at);
      if (same != near_.end()) {
        if (!better(found, *same)) continue;
        near_.erase(same);
      }
      near_.insert(std::ranges::upper_bound(near_, found, better), found);
      if (near_.size() > kPlaces) near_.pop_back();
    }
  }
}

/// Past one token of the text.
void Follower::move(Token next) {
  if (following_) {
    const Place before = place_;
    expected_.clear();
    expect(before);
    for (const Expected& each : expected_) {
      if (each.token != next) continue;
      if (each.kind >= kRenamed && each.kind <= kKept && each.kind != kInside) {
        pairs_[static_cast<std::size_t>(pair_at(before.at))].state = each.kind == kKept ? 2 : 1;
      }
      place_ = each.then;
      if (place_.run >= 16) trouble_ = 0;
      return;
    }
    leave(before, next);
  } else {
    if (since_ == 0) {
      expect_roots();
      const auto start = std::ranges::find(expected_, next, &Expected::token);
      if (start != expected_.end()) {
        place_ = start->then;
        following_ = true;
        return;
      }
    }
    if (recent_.size() == kRecent) recent_.erase(recent_.begin());
    recent_.push_back(next);
    ++since_;
    if (since_ % 4 == 0) ++trouble_;
  }
  take_up();
}

void Follower::leave(const Place& place, Token next) {
  std::int32_t left = place.at;
  recent_.clear();
  if (place.pair >= 0) {
    const Pair& pair = pairs_[static_cast<std::size_t>(place.pair)];
    left -= static_cast<std::int32_t>(pair.old.size());
    recent_.assign(pair.fresh.begin(), pair.fresh.begin() + place.offset);
  }
  recent_.push_back(next);
  anchors_.assign(1, left);
  since_ = static_cast<std::uint32_t>(recent_.size());
  if (token(left) >= 0) ++trouble_;
  following_ = false;
}

/// Follows again, where a place near by matches long enough.
void Follower::take_up() {
  for (const std::int32_t anchor : anchors_) {
    const Seam found = seam(anchor);
    if (found.at < 0 || found.offset > 0 || !found.told) continue;
    place_ = {found.at, 1};
    following_ = true;
    return;
  }
  find_near();
  if (near_.empty()) return;
  const auto [at, length, distance] = near_[0];
  const bool alone = near_.size() == 1 || near_[1].length < length;
  if (length < kLock || (length < kSure && !alone)) return;
  if (anchors_.size() == 1 && since_ == recent_.size()) {
    const std::int32_t first = anchors_[0];
    const auto end = at - static_cast<std::int32_t>(length);
    const std::size_t came = since_ - length;
    const auto gone = static_cast<std::size_t>(std::max(end - first, 0));
    if (gone > 0 && gone <= kPair && came > 0 && came <= kPair && token(first) != recent_[0]) {
      Pair pair;
      pair.old.assign(likely_.begin() + first, likely_.begin() + end);
      pair.fresh.assign(recent_.begin(), recent_.begin() + static_cast<std::ptrdiff_t>(came));
      pair.after = token(end);
      std::erase_if(pairs_, [&](const Pair& each) { return each.old == pair.old; });
      if (pairs_.size() == kPairs) pairs_.pop_back();
      pairs_.insert(pairs_.begin(), std::move(pair));
    }
  }
  place_ = {at, length};
  following_ = true;
}

void Follower::observe(std::span<const Token> tokens, Trust* trust) {
  std::int32_t node = kRoot;
  std::size_t accepted = 0;
  std::uint32_t in_row = 0;  // accepted nodes that stand one behind the other in a prediction
  std::int32_t last = -1;
  for (const Token truth : tokens) {
    for (const Offer& offer : offers_) {
      if (trust != nullptr && offer.parent == node) trust->learn(offer.cell, offer.token == truth);
    }
    std::int32_t next = kRoot;
    for (std::size_t i = static_cast<std::size_t>(node + 1); i < made_.size(); ++i) {
      if (made_[i].parent == node && made_[i].token == truth) {
        next = static_cast<std::int32_t>(i);
        break;
      }
    }
    if (next == kRoot) break;
    node = next;
    ++accepted;
    const std::int32_t at = made_[static_cast<std::size_t>(node)].at;
    in_row = at < 0 ? 0 : at == last + 1 && in_row > 0 ? in_row + 1 : 1;
    last = at;
  }
  offers_.clear();
  made_.clear();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    move(tokens[i]);
    if (!following_ && i + 1 == accepted && in_row >= kLock) {
      place_ = {last + 1, static_cast<std::uint32_t>(std::min<std::size_t>(accepted, kMatched))};
      following_ = true;
    }
  }
}

std::size_t Follower::nbytes() const noexcept {
  const auto bytes = [](const auto&... held) {
    return (... + (held.capacity() * sizeof(held[0])));
  };
  std::size_t words = 0;
  for (const Pair& pair : pairs_) words += bytes(pair.old, pair.fresh);
  return sizeof(*this) + words +
         bytes(likely_, anchors_, recent_, pairs_, near_, made_, offers_, expected_, places_,
               choices_, depths_, first_, next_);
}

}  // namespace draftwood::recall
