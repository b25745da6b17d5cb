// A suffix tree's sequences: how they begin and grow, and what can be said of them.

#include "draftwood/suffix_tree.h"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "suffix_impl.h"

namespace draftwood {
namespace {

constexpr std::size_t kMany = 8;           // tokens that are cheaper suffix by suffix
constexpr std::size_t kSlice = 1U << 14U;  // of these at a time, since they are copied

}  // namespace

void require_ids(std::span<const Token> tokens) {
  const auto negative = std::find_if(tokens.begin(), tokens.end(), [](Token t) { return t < 0; });
  if (negative == tokens.end()) return;
  throw std::invalid_argument("token id " + std::to_string(*negative) +
                              " is negative; token ids start at 0");
}

SuffixTree::SuffixTree(std::int32_t depth) {
  if (depth < 2 || depth > kMaxDepth) {
    throw std::invalid_argument("depth " + std::to_string(depth) + " is outside [2, " +
                                std::to_string(kMaxDepth) + "]; 24 or 64 are usual");
  }
  impl_ = std::make_unique<Impl>(static_cast<std::uint32_t>(depth));
}

SuffixTree::~SuffixTree() = default;

SuffixTree::Impl::~Impl() {
  for (RecordId id = 0; id < records.size(); ++id) {
    if (records.holds(id) && records[id].count > 0) records[id].children.clear(pool);
  }
}

SuffixTree::Impl::Slot& SuffixTree::Impl::slot_of(Sequence sequence, bool leaving) {
  return const_cast<Slot&>(std::as_const(*this).slot_of(sequence, leaving));
}

const SuffixTree::Impl::Slot& SuffixTree::Impl::slot_of(Sequence sequence, bool leaving) const {
  const auto index = static_cast<std::uint64_t>(sequence) & 0xFFFFFFFFU;
  const auto generation = static_cast<std::uint64_t>(sequence) >> 32U;
  if (sequence < 0 || index >= slots.size() || slots[index].generation != generation ||
      !slots[index].in_tree || (slots[index].leaving && !leaving)) {
    throw std::out_of_range("sequence " + std::to_string(sequence) +
                            " is not in the tree; it was removed, or belongs to another tree");
  }
  return slots[index];
}

SuffixTree::Sequence SuffixTree::begin() {
  const std::unique_lock lock(impl_->mutex);
  std::uint32_t index = impl_->free_slots;
  if (index == kNone) {
    index = static_cast<std::uint32_t>(impl_->slots.size());
    impl_->slots.emplace_back();
  } else {
    impl_->free_slots = impl_->slots[index].next_free;
  }
  Impl::Slot& slot = impl_->slots[index];
  slot.text.owner = index;
  slot.in_tree = slot.open = true;
  ++impl_->live_sequences;
  return Impl::name_of(slot);
}

void SuffixTree::extend(Sequence sequence, std::span<const Token> tokens) {
  require_ids(tokens);
  const std::unique_lock lock(impl_->mutex);
  Impl::Slot& slot = impl_->slot_of(sequence);
  const Impl::Charge charge(*impl_, slot);
  if (!slot.open) impl_->reopen(slot);
  while (!tokens.empty()) {
    const auto part = tokens.first(std::min(tokens.size(), kSlice));
    if (part.size() >= kMany && impl_->store.takes(part.size())) {
      impl_->enter(slot, part);
      tokens = tokens.subspan(part.size());
    } else {
      if (impl_->store.full()) throw std::length_error("the tree holds 2^31 tokens; remove some");
      impl_->append(slot, tokens.front());
      tokens = tokens.subspan(1);
    }
  }
}

void SuffixTree::finish(Sequence sequence) {
  const std::unique_lock lock(impl_->mutex);
  Impl::Slot& slot = impl_->slot_of(sequence);
  const Impl::Charge charge(*impl_, slot);
  slot.open = false;
  slot.active = {};
  slot.text.pages.shrink_to_fit();
}

// --- Figures ----------------------------------------------------------------------------------

std::size_t SuffixTree::nbytes() const {
  const std::shared_lock lock(impl_->mutex);
  return sizeof *this + sizeof *impl_ + impl_->store.nbytes() + impl_->records.nbytes() +
         impl_->free_records.nbytes() + impl_->first.nbytes() + impl_->pool.nbytes() +
         impl_->slots.capacity() * sizeof(Impl::Slot) + impl_->slot_bytes;
}

std::size_t SuffixTree::idle() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->store.idle() + impl_->pool.idle() +
         (impl_->records.room() - impl_->live_records) * sizeof(Record);
}

std::vector<SuffixTree::Extent> SuffixTree::extents() const {
  const std::shared_lock lock(impl_->mutex);
  std::vector<Extent> extents;
  extents.reserve(impl_->live_sequences);
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.in_tree && !slot.leaving) extents.push_back({Impl::name_of(slot), slot.text.size});
  }
  return extents;
}

std::vector<Token> SuffixTree::text(Sequence sequence, std::uint32_t most) const {
  const std::shared_lock lock(impl_->mutex);
  const TokenStore::Text& text = std::as_const(*impl_).slot_of(sequence).text;
  std::vector<Token> tokens(std::min(most, text.size));
  for (std::uint32_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = impl_->store[TokenStore::at(text, i)];
  }
  return tokens;
}

std::int32_t SuffixTree::depth() const {
  return static_cast<std::int32_t>(impl_->depth);
}

std::size_t SuffixTree::tokens() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_tokens;
}

std::size_t SuffixTree::sequences() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_sequences;
}

std::size_t SuffixTree::nodes() const {
  const std::shared_lock lock(impl_->mutex);
  return impl_->live_records - 1;
}

}  // namespace draftwood
