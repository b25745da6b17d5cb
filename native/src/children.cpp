#include "children.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <iterator>
#include <random>
#include <utility>

namespace draftwood {

// --- TokenMap ---------------------------------------------------------------------------------

const TokenMap::Secret TokenMap::secret_ = [] {
  std::random_device random;
  return Secret{random(), random() | 1U};
}();

Ref TokenMap::find(Token token) const {
  return size_ == 0 ? kNone : slots_[slot_of(token)].ref;  // a free slot's ref is kNone
}

void TokenMap::set(Token token, Ref ref) {
  if (slots_.empty()) resize(3);
  std::size_t slot = slot_of(token);
  if (slots_[slot].token == kEnd) {
    if ((size_ + 1) * std::size_t{4} > slots_.size() * 3) {
      resize(static_cast<unsigned>(std::bit_width(slots_.size())));
      slot = slot_of(token);
    }
    ++size_;
  }
  slots_[slot] = Slot{token, ref};
}

/// The slot that holds `token`, or the free one where it would go.
std::size_t TokenMap::slot_of(Token token) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = home(token);
  while (slots_[i].token != token && slots_[i].token != kEnd) i = (i + 1) & mask;
  return i;
}

std::size_t TokenMap::probes(Token token) const {
  return slots_.empty() ? 0 : ((slot_of(token) - home(token)) & (slots_.size() - 1)) + 1;
}

void TokenMap::erase(Token token) {
  const std::size_t mask = slots_.size() - 1;
  std::size_t hole = slot_of(token);
  for (std::size_t i = (hole + 1) & mask; slots_[i].token != kEnd; i = (i + 1) & mask) {
    // An entry may fill the hole unless its home lies behind the hole.
    if (((i - home(slots_[i].token)) & mask) >= ((i - hole) & mask)) {
      slots_[hole] = slots_[i];
      hole = i;
    }
  }
  slots_[hole] = Slot{};
  --size_;
  if (slots_.size() > 64 && size_ * std::size_t{8} < slots_.size()) {
    resize(static_cast<unsigned>(std::bit_width(slots_.size())) - 2);
  }
}

void TokenMap::resize(unsigned bits) {
  std::vector<Slot> old(std::size_t{1} << bits);
  old.swap(slots_);
  shift_ = 32 - bits;
  for (const Slot& slot : old) {
    if (slot.token != kEnd) slots_[slot_of(slot.token)] = slot;
  }
}

// --- ChildPool --------------------------------------------------------------------------------

ChildPool::~ChildPool() {
  for (const Slab& slab : slabs_) delete[] slab.begin;
  for (const Slab& slab : leaving_) delete[] slab.begin;
}

Child* ChildPool::take(unsigned bits) {
  const std::size_t entries = std::size_t{1} << bits;
  if (bits > kPooled) {
    bytes_ += entries * sizeof(Child);
    return new Child[entries];
  }
  if (Child* const block = free_[bits]) {
    std::memcpy(&free_[bits], block, sizeof(Child*));
    idle_ -= entries;
    return block;
  }
  while (used_ + entries > slab_entries_) {
    // What is left of the slab is cut into blocks, so that nothing is lost.
    for (unsigned k = kPooled + 1; k-- > 1;) {
      if (const std::size_t size = std::size_t{1} << k; used_ + size <= slab_entries_) {
        give(slabs_.back().begin + used_, k);
        used_ += size;
        k = kPooled + 1;
      }
    }
    slab_entries_ = std::clamp<std::size_t>(slab_entries_ * 2, entries, kSlab);
    used_ = 0;
    slabs_.push_back({new Child[slab_entries_], slab_entries_});
    slab_total_ += slab_entries_;
    bytes_ += slab_entries_ * sizeof(Child);
  }
  Child* const block = slabs_.back().begin + used_;
  used_ += entries;
  return block;
}

void ChildPool::give(Child* block, unsigned bits) {
  if (bits > kPooled) {
    bytes_ -= (std::size_t{1} << bits) * sizeof(Child);
    delete[] block;
    return;
  }
  if (evacuating() && leaves(block, bits)) {
    left_ += std::size_t{1} << bits;
    return;
  }
  std::memcpy(static_cast<void*>(block), &free_[bits], sizeof(Child*));
  free_[bits] = block;
  idle_ += std::size_t{1} << bits;
}

void ChildPool::evacuate() {
  leaving_.swap(slabs_);
  std::sort(leaving_.begin(), leaving_.end(),
            [](const Slab& a, const Slab& b) { return std::less<>()(a.begin, b.begin); });
  std::fill(std::begin(free_), std::end(free_), nullptr);
  left_ = idle_ + slab_entries_ - used_;
  slab_total_ = idle_ = 0;
  slab_entries_ = used_ = 16;
}

bool ChildPool::leaves(const Child* block, unsigned bits) const {
  if (bits > kPooled) return false;
  const auto behind = std::upper_bound(
      leaving_.begin(), leaving_.end(), block,
      [](const Child* b, const Slab& slab) { return std::less<>()(b, slab.begin); });
  if (behind == leaving_.begin()) return false;
  const Slab& slab = *std::prev(behind);
  return std::less<>()(block, static_cast<const Child*>(slab.begin + slab.entries));
}

void ChildPool::evacuated() {
  for (const Slab& slab : leaving_) {
    bytes_ -= slab.entries * sizeof(Child);
    delete[] slab.begin;
  }
  leaving_ = {};
  left_ = 0;
}

// --- Children ---------------------------------------------------------------------------------

namespace {

unsigned block_bits(std::uint32_t size) {
  return static_cast<unsigned>(std::bit_width(size - 1));
}

}  // namespace

void Children::add(Token token, Ref ref, std::uint32_t only, ChildPool& pool) {
  if (size_ == 0) {
    set_only(token, ref);
    return;
  }
  if (size_ == 1) {
    Child* const block = pool.take(1);
    block[0] = Child{static_cast<Token>(word_[0]), word_[1], only};
    block[1] = Child{token, ref, 1};
    set_pointer(block);
    size_ = 2;
    return;
  }
  if (std::has_single_bit(size_)) {
    const unsigned bits = block_bits(size_);
    Child* const old = list();
    Child* const block = pool.take(bits + 1);
    std::copy_n(old, size_, block);
    set_list(block);
    pool.give(old, bits);
  }
  if (size_ == kFew) {
    Many* const many = new Many{pointer<Child>(), {}};
    for (std::uint32_t i = 0; i < size_; ++i) many->map.set(many->list[i].token, many->list[i].ref);
    set_pointer(many);
    pool.charge(sizeof(Many) + many->map.nbytes(), 0);
  }
  if (size_ >= kFew) {
    TokenMap& map = pointer<Many>()->map;
    const std::size_t before = map.nbytes();
    map.set(token, ref);
    pool.charge(map.nbytes(), before);
  }
  ++size_;
  list()[size_ - 1] = Child{token, ref, 1};
}

void Children::replace(Token token, std::uint32_t count, Ref ref) {
  if (size_ == 1) {
    word_[1] = ref;
    return;
  }
  list()[index_of(token, count)].ref = ref;
  if (size_ > kFew) pointer<Many>()->map.set(token, ref);
}

void Children::raise(Token token, std::uint32_t count) {
  if (size_ == 1) return;
  Child* const children = list();
  const std::uint32_t index = index_of(token, count);
  std::uint32_t place = index;
  while (place > 0 && children[place - 1].count == count) --place;
  if (place == index) {
    while (place > 0 && children[place - 1].count == count + 1) --place;
  }
  std::rotate(children + place, children + index, children + index + 1);
  children[place].count = count + 1;
}

void Children::lower(Token token, std::uint32_t count) {
  if (size_ == 1) return;
  Child* const children = list();
  const std::uint32_t index = index_of(token, count);
  std::uint32_t place = index;
  while (place + 1 < size_ && children[place + 1].count == count) ++place;
  std::rotate(children + index, children + index + 1, children + place + 1);
  children[place].count = count - 1;
}

void Children::erase(Token token, std::uint32_t count, ChildPool& pool) {
  if (size_ == 1) {
    size_ = 0;
    return;
  }
  Child* const children = list();
  const std::uint32_t index = index_of(token, count);
  std::copy(children + index + 1, children + size_, children + index);
  if (size_ > kFew) {
    Many* const many = pointer<Many>();
    const std::size_t before = many->map.nbytes();
    many->map.erase(token);
    pool.charge(many->map.nbytes(), before);
    if (size_ == kFew + 1) {
      pool.charge(0, sizeof(Many) + many->map.nbytes());
      set_pointer(many->list);
      delete many;
    }
  }
  const unsigned bits = block_bits(size_);
  --size_;
  if (size_ == 1) {
    set_only(children[0].token, children[0].ref);
    pool.give(children, bits);
  } else if (std::has_single_bit(size_)) {
    Child* const block = pool.take(bits - 1);
    std::copy_n(children, size_, block);
    set_list(block);
    pool.give(children, bits);
  }
}

void Children::relocate(ChildPool& pool) {
  if (size_ < 2 || !pool.leaves(list(), block_bits(size_))) return;
  Child* const old = list();
  Child* const block = pool.take(block_bits(size_));
  std::copy_n(old, size_, block);
  set_list(block);
  pool.give(old, block_bits(size_));
}

void Children::clear(ChildPool& pool) {
  if (size_ > 1) {
    Child* const children = list();
    if (size_ > kFew) {
      Many* const many = pointer<Many>();
      pool.charge(0, sizeof(Many) + many->map.nbytes());
      delete many;
    }
    pool.give(children, block_bits(size_));
  }
  size_ = 0;
}

std::uint32_t Children::index_of(Token token, std::uint32_t count) const {
  const Child* const children = list();
  std::uint32_t i = 0;
  if (size_ > kFew) {
    const auto behind = [](const Child& child, std::uint32_t value) { return child.count > value; };
    i = static_cast<std::uint32_t>(std::lower_bound(children, children + size_, count, behind) -
                                   children);
  }
  while (children[i].token != token) ++i;
  return i;
}

}  // namespace draftwood
