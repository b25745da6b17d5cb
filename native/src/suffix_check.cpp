// Proof, by walking a whole suffix tree, that its invariants hold. For tests.

#include <shared_mutex>
#include <sstream>

#include "suffix_impl.h"

namespace draftwood {
namespace {

using Impl = SuffixTree::Impl;

class Inspector {
 public:
  explicit Inspector(const Impl& tree) : tree_(tree), references_(tree.slots.size()) {}

  std::string report() {
    std::uint32_t below_root = 0;
    tree_.first.each([&](Token token, Ref ref) {
      below_root += tree_.count_of(ref);
      visit_child(kRootRecord, token, ref);
    });
    expect(tree_.records[kRootRecord].count == tree_.live_tokens, "the root counts all tokens");
    expect(below_root == tree_.live_tokens, "every suffix begins below the root");
    expect(seen_ == tree_.live_records, "every record is reached once");
    for (std::size_t i = 0; i < tree_.slots.size(); ++i) inspect(tree_.slots[i], references_[i]);
    return fault_;
  }

 private:
  void expect(bool holds, const char* what) {
    if (holds || !fault_.empty()) return;
    std::ostringstream text;
    text << "not so: " << what << "; at";
    for (const Token token : path_) text << ' ' << token;
    fault_ = text.str();
  }

  void visit_child(RecordId parent, Token token, Ref ref) {
    if (is_leaf(ref)) {
      const Position label = leaf_position(ref);
      expect(tree_.store[label] == token, "a leaf is found by its first token");
      expect(occurs(label), "a leaf's label follows an occurrence of its parent");
      expect(tree_.slots[tree_.store.owner(label)].in_tree, "a leaf's sequence is in the tree");
      expect(path_.size() < tree_.depth, "a leaf is within the depth");
      return;
    }
    const Record& record = tree_.records[ref];
    expect(record.count > 0 && record.length > 0, "a child is in use");
    expect(record.parent == parent, "a child knows its parent");
    expect(tree_.store[record.at] == token, "a record is found by its first token");
    expect(occurs(record.at), "a record's label follows an occurrence of its parent");
    const std::size_t before = path_.size();
    Position at = record.at;
    for (std::uint32_t i = 0; i < record.length && fault_.empty(); ++i) {
      path_.push_back(tree_.store[at]);
      at = tree_.store.after(at);
      expect(at != kNone || i + 1 == record.length, "a label lies within one sequence");
    }
    if (fault_.empty()) visit(ref);
    path_.resize(before);
  }

  void visit(RecordId id) {
    ++seen_;
    const Record& record = tree_.records[id];
    const Impl::Slot& owner = tree_.slots[tree_.store.owner(record.at)];
    if (!owner.in_tree) ++references_[tree_.store.owner(record.at)];
    expect(path_.size() <= tree_.depth, "a record is within the depth");
    const Children& children = record.children;
    std::uint32_t sum = 0;
    std::uint32_t last = 0xFFFFFFFFU;
    std::uint32_t listed = 0;
    for (const Child child : children) {
      ++listed;
      const std::uint32_t count = tree_.count_of(child.ref);
      expect(children.size() == 1 || child.count == count, "a list has its children's counts");
      expect(children.find(child.token) == child.ref, "a child is found by its token");
      expect(count <= last, "children are ordered by count");
      last = count;
      sum += count;
    }
    expect(listed == children.size(), "all children stand in the list");
    expect(sum <= record.count, "children occur no more often than their parent");
    expect(children.size() != 1 || sum < record.count, "no record and its only child are one");
    if (path_.size() < tree_.depth) {
      Place place;
      const bool found = tree_.descend({path_.data() + 1, path_.size() - 1}, place);
      expect(found && place.inside == 0, "the string less its first token has a record");
      expect(place.record == tree_.now_at(record.link), "a record is linked to it");
    }
    for (const Child child : children) visit_child(id, child.token, child.ref);
  }

  /// Whether the tokens before `label` are those of the path.
  [[nodiscard]] bool occurs(Position label) const {
    if (path_.empty()) return true;
    Position at = tree_.store.before(label, static_cast<std::uint32_t>(path_.size()));
    for (const Token token : path_) {
      if (tree_.store[at] != token) return false;
      at = tree_.store.after(at);
    }
    return at == label;
  }

  void inspect(const Impl::Slot& slot, std::uint32_t references) {
    if (!slot.in_tree) {
      expect(slot.references == references, "a ghost's references are counted");
      return;
    }
    expect(references == 0 && slot.references == 0, "only ghosts' references are counted");
    if (!slot.open) return;
    const std::uint32_t size = slot.text.size;
    std::vector<Token> suffix;
    for (std::uint32_t level = 1; level <= size && level < tree_.depth; ++level) {
      suffix.insert(suffix.begin(), tree_.store[TokenStore::at(slot.text, size - level)]);
      Place place;
      expect(tree_.descend(suffix, place), "every suffix is in the tree");
      if (level <= slot.active.size()) {
        expect(place.inside == 0 && place.record == tree_.now_at(slot.active[level - 1]),
               "active records are where the suffixes end");
      } else {
        expect(place.inside > 0 && is_leaf(place.child), "longer suffixes end in leaves");
      }
    }
    expect(slot.active.size() <= size, "no more suffixes than tokens");
  }

  const Impl& tree_;
  std::vector<std::uint32_t> references_;
  std::vector<Token> path_;
  std::size_t seen_ = 1;
  std::string fault_;
};

}  // namespace

std::string SuffixTree::check() const {
  const std::shared_lock lock(impl_->mutex);
  return Inspector(*impl_).report();
}

}  // namespace draftwood
