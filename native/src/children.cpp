#include "children.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <iterator>
#include <utility>

namespace draftwood {

// --- ChildPool --------------------------------------------------------------------------------

ChildPool::~ChildPool() {
  for (const Slab& slab : slabs_) delete[] slab.begin;
  for (const Slab& slab : leaving_) delete[] slab.begin;
}

Child* ChildPool::take(unsigned bits) {
  const std::size_t entries = std::size_t{1} << bits;
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
  if (evacuating() && leaves(block)) {
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

bool ChildPool::leaves(const Child* block) const {
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
  if (size_ == kFew) become_many(pool);
  if (size_ >= kFew) {
    change_many(pool, [&](ManyChildren& children) { children.add(Child{token, ref, 1}); });
  } else {
    if (std::has_single_bit(size_)) {
      const unsigned bits = block_bits(size_);
      Child* const old = few();
      Child* const block = pool.take(bits + 1);
      std::copy_n(old, size_, block);
      set_pointer(block);
      pool.give(old, bits);
    }
    few()[size_] = Child{token, ref, 1};
  }
  ++size_;
}

void Children::become_many(ChildPool& pool) {
  Child* const list = few();
  auto* const children = new ManyChildren;
  for (std::uint32_t i = 0; i < size_; ++i) children->add(list[i]);
  pool.give(list, block_bits(size_));
  pool.charge(children->nbytes(), 0);
  set_pointer(children);
}

/// Of many of which there are kFew now.
void Children::become_few(ChildPool& pool) {
  ManyChildren* const children = many();
  Child* const list = pool.take(block_bits(kFew));
  Child* next = list;
  for (Token token = children->front(); token != kEnd; token = children->after(token)) {
    *next++ = children->child(token);
  }
  pool.charge(0, children->nbytes());
  delete children;
  set_pointer(list);
}

template <class Change>
void Children::change_many(ChildPool& pool, const Change& change) {
  ManyChildren& children = *many();
  const std::size_t before = children.nbytes();
  change(children);
  pool.charge(children.nbytes(), before);
}

void Children::replace(Token token, Ref ref) {
  if (size_ == 1) {
    word_[1] = ref;
  } else if (size_ > kFew) {
    many()->replace(token, ref);
  } else {
    few()[index_of(token)].ref = ref;
  }
}

void Children::raise(Token token, std::uint32_t count, ChildPool& pool) {
  if (size_ == 1) return;
  if (size_ > kFew) {
    change_many(pool, [&](ManyChildren& children) { children.raise(token); });
    return;
  }
  Child* const list = few();
  std::uint32_t place = index_of(token);
  Child child = list[place];
  ++child.count;
  const std::uint32_t joins = place > 0 && list[place - 1].count == count ? count : count + 1;
  for (; place > 0 && list[place - 1].count == joins; --place) list[place] = list[place - 1];
  list[place] = child;
}

void Children::lower(Token token, std::uint32_t count, ChildPool& pool) {
  if (size_ == 1) return;
  if (size_ > kFew) {
    change_many(pool, [&](ManyChildren& children) { children.lower(token); });
    return;
  }
  Child* const list = few();
  const std::uint32_t index = index_of(token);
  std::uint32_t place = index;
  while (place + 1 < size_ && list[place + 1].count == count) ++place;
  std::rotate(list + index, list + index + 1, list + place + 1);
  list[place].count = count - 1;
}

void Children::erase(Token token, ChildPool& pool) {
  if (size_ == 1) {
    size_ = 0;
    return;
  }
  if (size_ > kFew) {
    change_many(pool, [&](ManyChildren& children) { children.erase(token); });
    if (--size_ == kFew) become_few(pool);
    return;
  }
  Child* const list = few();
  const std::uint32_t index = index_of(token);
  std::copy(list + index + 1, list + size_, list + index);
  const unsigned bits = block_bits(size_);
  --size_;
  if (size_ == 1) {
    set_only(list[0].token, list[0].ref);
    pool.give(list, bits);
  } else if (std::has_single_bit(size_)) {
    Child* const block = pool.take(bits - 1);
    std::copy_n(list, size_, block);
    set_pointer(block);
    pool.give(list, bits);
  }
}

void Children::relocate(ChildPool& pool) {
  if (size_ < 2 || size_ > kFew || !pool.leaves(few())) return;
  Child* const old = few();
  Child* const block = pool.take(block_bits(size_));
  std::copy_n(old, size_, block);
  set_pointer(block);
  pool.give(old, block_bits(size_));
}

void Children::clear(ChildPool& pool) {
  if (size_ > kFew) {
    pool.charge(0, many()->nbytes());
    delete many();
  } else if (size_ > 1) {
    pool.give(few(), block_bits(size_));
  }
  size_ = 0;
}

std::uint32_t Children::index_of(Token token) const {
  const Child* const list = few();
  std::uint32_t i = 0;
  while (list[i].token != token) ++i;
  return i;
}

}  // namespace draftwood
