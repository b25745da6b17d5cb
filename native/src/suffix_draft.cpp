// How a suffix tree continues a context.
//
// Suffixes of the context that occur equally often occur at the same places, so what follows them
// is the same: each such group is expanded once, from its shortest suffix, which sees furthest.

#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "suffix_impl.h"

namespace draftwood {
namespace {

using Impl = SuffixTree::Impl;

/// A token that may be drafted next.
struct Candidate {
  float probability;
  float confidence;
  std::int32_t parent;
  std::uint32_t depth;  ///< tokens from the root of the suffix tree, this one included
  Token token;
  Ref ref;               ///< whose label holds the token
  std::uint32_t inside;  ///< which of the label's tokens it is
  Position at;           ///< where it lies, if inside > 0
  RecordId siblings;     ///< the record whose child it begins, or kNone
};

/// Moves `value` from `hole` up a binary heap of most probable first. With pop() below this is the
/// algorithm of libstdc++'s std::priority_queue step by step, written out so that equally probable
/// nodes come in the same order on every platform: the one in which the released code has them.
void rise(std::vector<Candidate>& heap, std::size_t hole, const Candidate& value) {
  while (hole > 0) {
    const std::size_t parent = (hole - 1) / 2;
    if (!(heap[parent].probability < value.probability)) break;
    heap[hole] = heap[parent];
    hole = parent;
  }
  heap[hole] = value;
}

/// Takes the most probable out: the hole sinks to a leaf along the better children, then the last
/// element rises from there.
Candidate pop(std::vector<Candidate>& heap) {
  const Candidate best = heap.front();
  const Candidate last = heap.back();
  heap.pop_back();
  const std::size_t size = heap.size();
  if (size == 0) return best;
  std::size_t hole = 0;
  while (2 * hole + 2 < size) {
    std::size_t next = 2 * hole + 2;
    if (heap[next].probability < heap[next - 1].probability) --next;
    heap[hole] = heap[next];
    hole = next;
  }
  if (2 * hole + 2 == size) {
    heap[hole] = heap[size - 1];
    hole = size - 1;
  }
  rise(heap, hole, last);
  return best;
}

/// A draft in the making.
struct Outline {
  std::vector<Candidate> nodes;
  std::vector<float> scores;  ///< [n]: of the first i + 1 nodes
  std::size_t certain = 0;    ///< nodes of a chain before the first choice among equals

  void clear() {
    nodes.clear();
    scores.clear();
    certain = 0;
  }
  [[nodiscard]] float score(std::size_t count) const {
    return count == 0 ? 0.0F : scores[count - 1];
  }
  void add(const Candidate& node) {
    nodes.push_back(node);
    scores.push_back(score(scores.size()) + node.probability);
  }
};

/// Draws drafts from one tree. Probabilities are float32 products and scores float32 sums, in the
/// order of the released code, so that they are equal to the last bit.
class Drawing {
 public:
  /// No draft of a score of `above` or less is drawn.
  Drawing(const Impl& tree, const SuffixPolicy& policy, std::int32_t nodes, std::int32_t reach,
          float above)
      : tree_(tree),
        policy_(policy),
        nodes_(nodes),
        reach_(reach),
        score_(above),
        match_(above > 0.0F ? kNone : 0) {}

  SuffixDraft best(std::span<const Token> context);

 private:
  [[nodiscard]] bool linear() const { return policy_.shape == Shape::kLinear; }
  [[nodiscard]] std::int32_t limit(std::uint32_t match) const;
  [[nodiscard]] std::uint32_t most(std::uint32_t match) const;
  [[nodiscard]] std::uint32_t roomiest(std::uint32_t longest) const;
  [[nodiscard]] bool wins(float score, std::uint32_t match) const;
  void group(std::uint32_t longest, std::uint32_t shortest, const Place& place);
  [[nodiscard]] bool settled(std::uint32_t match, std::size_t count) const;
  [[nodiscard]] bool touches_end(std::uint32_t match, std::size_t count) const;
  void consider(std::uint32_t match, float score, const Outline& outline, std::size_t count,
                bool redraw);
  SuffixDraft finish();

  void expand(const Place& place, std::uint32_t match, std::uint32_t longest, std::uint32_t count,
              Outline& outline);
  void chain(const Candidate& first, std::uint32_t count, std::uint32_t longest,
             Outline& outline) const;
  void tree(const Candidate& first, std::uint32_t count, Outline& outline);
  [[nodiscard]] bool start(const Place& place, std::uint32_t match, Candidate& out) const;
  [[nodiscard]] bool follow(const Candidate& last, std::int32_t node, Candidate& out) const;
  [[nodiscard]] Candidate child(RecordId id, const Child& child, float of, float above,
                                std::int32_t parent, std::uint32_t depth) const;
  [[nodiscard]] Candidate first_child(RecordId id, float above, std::int32_t parent,
                                      std::uint32_t depth) const {
    return child(id, tree_.records[id].children.front(), whole(id), above, parent, depth);
  }
  [[nodiscard]] float whole(RecordId id) const;

  const Impl& tree_;
  const SuffixPolicy& policy_;
  const std::int32_t nodes_;
  const std::int32_t reach_;
  std::span<const Token> context_;
  /// Kept from draft to draft: most drafts then allocate what they return, and nothing else.
  struct Scratch {
    std::vector<Candidate> heap;
    Outline outline, other, chosen;
  };
  static Scratch& scratch() {
    static thread_local Scratch scratch;
    return scratch;
  }
  std::vector<Candidate>& heap_ = scratch().heap;
  Outline& outline_ = scratch().outline;
  Outline& other_ = scratch().other;
  Outline& chosen_ = scratch().chosen;
  float score_;
  std::uint32_t match_;
  bool found_ = false;
  bool redraw_ = false;
};

// --- Choosing the match -----------------------------------------------------------------------

/// The policy's limit behind a match: it falls as matches shorten.
std::int32_t Drawing::limit(std::uint32_t match) const {
  const float most = static_cast<float>(match) * policy_.alpha + policy_.offset;
  const double rounded = std::min(static_cast<double>(most) + 1e-6, 1e9);
  return std::clamp(static_cast<std::int32_t>(rounded), 0, nodes_);
}

/// The most nodes that a draft behind a match can have.
std::uint32_t Drawing::most(std::uint32_t match) const {
  const auto nodes = static_cast<std::uint32_t>(limit(match));
  return linear() ? std::min({nodes, static_cast<std::uint32_t>(reach_), tree_.depth - match})
                  : nodes;
}

SuffixDraft Drawing::best(std::span<const Token> context) {
  if (context.size() >= tree_.depth) context = context.last(tree_.depth - 1);
  if (nodes_ <= 0 || reach_ <= 0 || context.empty()) return {};
  context_ = context;
  Place place;
  std::uint32_t known = 0;  // tokens of the suffix at `place`
  std::uint32_t last = 1;
  const auto size = static_cast<std::uint32_t>(context.size());
  const std::uint32_t pivot = roomiest(size);
  // Whatever is looked for begins at one of these; that is better asked for at once.
  const Token starts[] = {context.back(), context[size - std::min(size, 2U)],
                          context[size - pivot]};
  for (const Token token : starts) tree_.first.prefetch(token);
  if (tree_.first.find(context.back()) == kNone) return {};
  for (const Token token : starts) {
    if (const Ref ref = tree_.first.find(token); !is_leaf(ref)) tree_.records.prefetch(ref);
  }
  if (size > 2 && !tree_.descend(context.last(2), place)) {
    context = context.last(1);
  } else if (size > 2) {
    known = 2;
    // What may be followed by most sets a score that few others can reach: only they are sought.
    if (Place below; pivot > 2 && pivot < size && tree_.descend(context.last(pivot), below)) {
      place = below;
      known = pivot;
      group(pivot, pivot, place);
      std::uint32_t longest = size;
      while (longest > pivot && static_cast<float>(most(longest)) < score_) --longest;
      while (last < pivot && static_cast<float>(most(last)) <= score_) ++last;
      if (longest == pivot && last == pivot) return finish();
      context = context.last(longest);
    } else if (pivot > 2 && pivot < size) {
      context = context.last(pivot - 1);
    }
  }
  std::uint32_t match = tree_.match(context, known, place);
  if (match < last) return finish();
  std::uint32_t longest = match;
  std::uint32_t count = tree_.count_at(place);
  Place shortest = place;
  while (--match >= last) {
    tree_.shorten(place, match + 1, context.data() + context.size());
    const std::uint32_t here = tree_.count_at(place);
    if (here != count) {
      group(longest, match + 1, shortest);
      // Limits only fall from here on.
      if (static_cast<float>(limit(match)) < score_) return finish();
      longest = match;
      count = here;
    }
    shortest = place;
  }
  group(longest, last, shortest);
  return finish();
}

/// The match of at most `longest` tokens behind which a draft may be largest; of such the longest.
std::uint32_t Drawing::roomiest(std::uint32_t longest) const {
  if (!linear()) return longest;
  std::uint32_t best = longest;
  std::uint32_t room = most(longest);
  for (std::uint32_t match = longest - 1; match > 0; --match) {
    const std::uint32_t here = most(match);
    if (here < room) break;  // it rises to one height, and falls
    if (here > room) best = match;
    room = here;
  }
  return best;
}

/// Whether a draft of this score, or at most this score, behind `match` tokens wins.
bool Drawing::wins(float score, std::uint32_t match) const {
  return score > score_ || (score == score_ && score > 0.0F && match > match_);
}

void Drawing::group(std::uint32_t longest, std::uint32_t shortest, const Place& place) {
  std::uint32_t count = 0;
  for (std::uint32_t match = shortest; match <= longest; ++match) {
    count = std::max(count, most(match));
  }
  Candidate first;
  if (count == 0 || !start(place, shortest, first)) return;
  // No node is more probable than the first, and sums may round up by a hair.
  const float margin = first.probability == 1.0F ? 1.0F : 1.0001F;
  if (!wins(static_cast<float>(count) * first.probability * margin, longest)) return;
  expand(place, shortest, longest, count, outline_);
  for (std::uint32_t match = longest; match >= shortest; --match) {
    const std::size_t nodes = std::min<std::size_t>(most(match), outline_.nodes.size());
    const float score = outline_.score(nodes);
    if (match == shortest || settled(match, nodes)) {
      const bool redraw =
          match != shortest && !linear() && (tree_.removals || touches_end(match, nodes));
      consider(match, score, outline_, nodes, redraw);
    } else if (wins(linear() ? static_cast<float>(most(match)) * first.probability * margin : score,
                    match)) {
      Place own;
      (void)tree_.descend(context_.last(match), own);
      expand(own, match, match, most(match), other_);
      consider(match, other_.score(other_.nodes.size()), other_, other_.nodes.size(), false);
    }
  }
}

/// Whether the first `count` nodes of the group's outline are what this longer match would score.
/// It sees less deep, and where a sequence was removed it may order equals otherwise.
bool Drawing::settled(std::uint32_t match, std::size_t count) const {
  if (linear()) return !tree_.removals || count <= outline_.certain;
  const std::uint32_t shortest = outline_.nodes.empty() ? match : outline_.nodes[0].depth - 1;
  const std::uint32_t deepest = tree_.depth - (match - shortest);
  return std::all_of(outline_.nodes.begin(),
                     outline_.nodes.begin() + static_cast<std::ptrdiff_t>(count),
                     [&](const Candidate& node) { return node.depth <= deepest; });
}

/// Whether one of the first `count` nodes of the group's outline is the last that this longer match
/// sees: behind it the outline goes on, and that may put equals in another order.
bool Drawing::touches_end(std::uint32_t match, std::size_t count) const {
  const std::uint32_t shortest = outline_.nodes.empty() ? match : outline_.nodes[0].depth - 1;
  const std::uint32_t deepest = tree_.depth - (match - shortest);
  return std::any_of(outline_.nodes.begin(),
                     outline_.nodes.begin() + static_cast<std::ptrdiff_t>(count),
                     [&](const Candidate& node) { return node.depth >= deepest; });
}

void Drawing::consider(std::uint32_t match, float score, const Outline& outline, std::size_t count,
                       bool redraw) {
  if (!wins(score, match)) return;
  found_ = true;
  score_ = score;
  match_ = match;
  redraw_ = redraw;
  chosen_.nodes.assign(outline.nodes.begin(),
                       outline.nodes.begin() + static_cast<std::ptrdiff_t>(count));
}

SuffixDraft Drawing::finish() {
  SuffixDraft draft;
  if (!found_) return draft;
  if (redraw_) {
    Place place;
    (void)tree_.descend(context_.last(match_), place);
    expand(place, match_, match_, most(match_), chosen_);
  }
  const std::size_t count = chosen_.nodes.size();
  draft.tokens.reserve(count);
  draft.parents.reserve(count);
  draft.confidence.reserve(count);
  draft.probability.reserve(count);
  for (const Candidate& node : chosen_.nodes) {
    draft.tokens.push_back(node.token);
    draft.parents.push_back(node.parent);
    draft.confidence.push_back(node.confidence);
    draft.probability.push_back(node.probability);
  }
  draft.score = score_;
  draft.match = static_cast<std::int32_t>(match_);
  if (policy_.witness) {
    const Impl::Slot& owner =
        tree_.slots[tree_.store.owner(tree_.label_of(chosen_.nodes.back().ref))];
    if (owner.in_tree) draft.witness = Impl::name_of(owner);
  }
  return draft;
}

// --- Expanding one match ----------------------------------------------------------------------

/// Draws what follows a match, for it and all up to `longest`; or nothing, if none of them can win.
void Drawing::expand(const Place& place, std::uint32_t match, std::uint32_t longest,
                     std::uint32_t count, Outline& outline) {
  outline.clear();
  Candidate first;
  if (!start(place, match, first)) return;
  if (linear()) {
    chain(first, count, longest, outline);
  } else {
    tree(first, count, outline);
  }
}

void Drawing::chain(const Candidate& first, std::uint32_t count, std::uint32_t longest,
                    Outline& outline) const {
  Candidate next = first;
  bool certain = true;
  const float margin = 1.0F + 2e-7F * static_cast<float>(count);  // for what sums round up
  for (std::uint32_t node = 0; node < count && next.probability >= policy_.floor; ++node) {
    if (certain && next.siblings != kNone) {
      const Children& children = tree_.records[next.siblings].children;
      certain = children.size() < 2 || children.front().count > (*++children.begin()).count;
    }
    outline.certain += certain ? 1 : 0;
    outline.add(next);
    const Candidate last = next;
    if (!follow(last, static_cast<std::int32_t>(node), next)) return;
    if (next.probability < last.probability && (certain || !tree_.removals)) {
      // No node from here on is more probable than the next.
      const float rest = static_cast<float>(count - node - 1) * next.probability;
      if (!wins((outline.scores.back() + rest) * margin, longest)) return outline.clear();
    }
  }
}

void Drawing::tree(const Candidate& first, std::uint32_t count, Outline& outline) {
  // What waits in the heap, and in which order it goes in and out, is as in the released code, since
  // that decides among equals: the tokens of a label one by one, then the label's end (no token),
  // then all children at once.
  const auto push = [&](const Candidate& candidate) {
    heap_.push_back(candidate);
    rise(heap_, heap_.size() - 1, candidate);
  };
  const auto end_of = [&](Candidate label, RecordId record) {
    label.token = -1;
    label.siblings = record;
    return label;
  };
  const std::uint32_t deepest = first.depth - 1 + static_cast<std::uint32_t>(reach_);
  heap_.clear();
  if (first.siblings == kNone) {
    push(first);
  } else {
    Candidate end = end_of(first, first.siblings);
    end.probability = 1.0F;
    end.depth = first.depth - 1;
    push(end);
  }
  while (!heap_.empty() && outline.nodes.size() < count) {
    const Candidate best = pop(heap_);
    if (best.token >= 0) {
      const auto node = static_cast<std::int32_t>(outline.nodes.size());
      outline.add(best);
      Candidate next = best;
      next.parent = node;
      const bool inside = is_leaf(best.ref) || best.inside + 1 < tree_.records[best.ref].length;
      if (best.depth >= deepest || best.depth >= tree_.depth) {
        push(end_of(next, kNone));
      } else if (!inside) {
        push(end_of(next, best.ref));
      } else if (follow(best, node, next)) {
        push(next);
      } else {
        push(end_of(next, kNone));
      }
    } else if (best.siblings != kNone) {
      const float of = whole(best.siblings);
      for (const Child& each : tree_.records[best.siblings].children) {
        const Candidate next =
            child(best.siblings, each, of, best.probability, best.parent, best.depth + 1);
        if (next.probability < policy_.floor) break;
        push(next);
      }
    }
  }
}

/// The first token below `place`, `match` tokens below the root.
bool Drawing::start(const Place& place, std::uint32_t match, Candidate& out) const {
  if (place.inside > 0) {
    if (match >= tree_.depth) return false;
    const Position at = tree_.store.forward(tree_.label_of(place.child), place.inside);
    if (at == kNone) return false;
    out = Candidate{1.0F,        1.0F,         kRoot, match + 1, tree_.store[at],
                    place.child, place.inside, at,    kNone};
    return true;
  }
  if (tree_.records[place.record].children.size() == 0) return false;
  out = first_child(place.record, 1.0F, kRoot, match + 1);
  return true;
}

/// The likeliest token behind one that was drafted as node `node`.
bool Drawing::follow(const Candidate& last, std::int32_t node, Candidate& out) const {
  if (last.depth >= tree_.depth) return false;
  if (is_leaf(last.ref) || last.inside + 1 < tree_.records[last.ref].length) {
    const Position at = tree_.store.after(last.inside > 0 ? last.at : tree_.label_of(last.ref));
    if (at == kNone) return false;
    out = Candidate{last.probability, 1.0F, node, last.depth + 1, tree_.store[at], last.ref,
                    last.inside + 1,  at,   kNone};
    return true;
  }
  if (tree_.records[last.ref].children.size() == 0) return false;
  out = first_child(last.ref, last.probability, node, last.depth + 1);
  return true;
}

Candidate Drawing::child(RecordId id, const Child& child, float of, float above,
                         std::int32_t parent, std::uint32_t depth) const {
  const Children& children = tree_.records[id].children;
  const auto count =
      static_cast<float>(children.size() == 1 ? tree_.count_of(child.ref) : child.count);
  const float share = count / of;
  // (above * count) / of need not be `above` where count and of are equal.
  const float probability = share == 1.0F ? above : linear() ? above * share : above * count / of;
  return Candidate{probability, share, parent, depth, child.token, child.ref, 0, kNone, id};
}

/// What the counts of a record's children are divided by.
float Drawing::whole(RecordId id) const {
  const Record& record = tree_.records[id];
  if (policy_.counts == Counts::kCode) return static_cast<float>(record.count);
  const Children& children = record.children;
  if (children.size() == 1) return static_cast<float>(tree_.count_of(children.front().ref));
  std::uint32_t sum = 0;
  for (const Child& child : children) sum += child.count;
  return static_cast<float>(sum);
}

}  // namespace

SuffixDraft SuffixTree::speculate(std::span<const Token> context, const SuffixPolicy& policy,
                                  std::int32_t nodes, std::int32_t reach, float above) const {
  const std::shared_lock lock(impl_->mutex);
  return Drawing(*impl_, policy, nodes, reach, above).best(context);
}

}  // namespace draftwood
