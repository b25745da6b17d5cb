// Lists of children, of every size up to thousands, against plain lists; and their memory.

#include "../src/children.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "expect.h"

namespace {

using namespace draftwood;

/// What a list of children is, by moving whole stretches of it.
class Plain {
 public:
  std::vector<Child> list;

  void add(Token token, Ref ref) { list.push_back({token, ref, 1}); }
  void raise(std::size_t index) {
    const Child child = list[index];
    std::size_t place = index;
    while (place > 0 && list[place - 1].count == child.count) --place;
    if (place == index && place > 0 && list[place - 1].count == child.count + 1) {
      place = first_of(child.count + 1);
    }
    move(index, place, child.count + 1);
  }
  void lower(std::size_t index) {
    const std::uint32_t count = list[index].count;
    std::size_t place = index;
    while (place + 1 < list.size() && list[place + 1].count == count) ++place;
    move(index, place, count - 1);
  }

 private:
  [[nodiscard]] std::size_t first_of(std::uint32_t count) const {
    return static_cast<std::size_t>(std::ranges::find(list, count, &Child::count) - list.begin());
  }
  void move(std::size_t from, std::size_t to, std::uint32_t count) {
    Child child = list[from];
    child.count = count;
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(from));
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(to), child);
  }
};

void expect_equal(const Children& children, const Plain& plain) {
  EXPECT(children.size() == plain.list.size());
  std::size_t at = 0;
  for (const Child child : children) {
    const Child& other = plain.list[at++];
    EXPECT(child.token == other.token && child.ref == other.ref);
    EXPECT(children.size() == 1 || child.count == other.count);
    EXPECT(children.find(child.token) == child.ref);
  }
  EXPECT(at == plain.list.size());
  if (at == 0) return;
  EXPECT(children.front().token == plain.list.front().token);
  EXPECT(children.back().token == plain.list.back().token);
}

/// Adds, raises, lowers, replaces and erases at random, up to `most` children and down again.
void test_random_changes(unsigned seed, unsigned most, unsigned steps) {
  std::mt19937 chance(seed);
  ChildPool pool;
  Children children;
  Plain plain;
  Token fresh = 0;
  for (unsigned step = 0; step < steps; ++step) {
    const bool growing = step % (4 * most) < 2 * most;
    const unsigned what = static_cast<unsigned>(chance() % 100);
    if (plain.list.empty() || (what < (growing ? 50U : 10U) && plain.list.size() < most)) {
      const std::uint32_t only = plain.list.empty() ? 0 : plain.list[0].count;
      children.add(fresh, static_cast<Ref>(fresh + 1), only, pool);
      plain.add(fresh, static_cast<Ref>(fresh + 1));
      ++fresh;
    } else {
      const std::size_t index = chance() % plain.list.size();
      const Child child = plain.list[index];
      if (what >= 90 && (child.count == 1 || !growing)) {
        children.erase(child.token, pool);
        plain.list.erase(plain.list.begin() + static_cast<std::ptrdiff_t>(index));
      } else if (what >= 75 && child.count > 1) {
        children.lower(child.token, child.count, pool);
        plain.lower(index);
      } else if (what == 74) {
        children.replace(child.token, step);
        plain.list[index].ref = step;
      } else {
        children.raise(child.token, child.count, pool);
        plain.raise(index);
      }
    }
    if (most < 50 || step % 64 == 0) expect_equal(children, plain);
    EXPECT(children.find(fresh) == kNone);
  }
  expect_equal(children, plain);
  children.clear(pool);
  EXPECT(children.size() == 0);
}

/// A child moves past any number of equals, however many have its count: to the end of those that
/// were raised before it.
void test_equals_are_passed_in_turn() {
  constexpr Token kMany = 50'000;
  ChildPool pool;
  Children children;
  for (Token token = 0; token < kMany; ++token) children.add(token, 0, 1, pool);
  const std::size_t before = pool.nbytes();
  for (std::uint32_t round = 1; round < 6; ++round) {
    for (Token token = kMany; token-- > 0;) children.raise(token, round, pool);
  }
  EXPECT(pool.nbytes() == before);
  Token last = kMany;
  std::size_t seen = 0;
  for (const Child child : children) {
    EXPECT(child.count == 6);
    ++seen;
    last = child.token;
  }
  EXPECT(seen == kMany && last < kMany);
  children.clear(pool);
}

}  // namespace

int main() {
  for (unsigned seed = 0; seed < 40; ++seed) test_random_changes(seed, 3 + seed, 2000);
  test_random_changes(1, 300, 20'000);
  test_random_changes(2, 3000, 60'000);
  test_equals_are_passed_in_turn();
  std::puts("children: all tests passed");
}
