// Suffix trees through random histories, against a table of all strings; and under threads.

#include "draftwood/suffix_tree.h"

#include "../src/children.h"
#include "draftwood/thread_pool.h"
#include "draftwood/suffix_stream.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

std::atomic<std::size_t> held{0};  ///< bytes that were asked for and not given back
constexpr std::size_t kHeader = alignof(std::max_align_t);

}  // namespace

void* operator new(std::size_t size) {
  auto* const block = static_cast<std::byte*>(std::malloc(size + kHeader));
  if (block == nullptr) throw std::bad_alloc();
  std::memcpy(block, &size, sizeof size);
  held += size;
  return block + kHeader;
}

void operator delete(void* pointer) noexcept {
  if (pointer == nullptr) return;
  std::byte* const block = static_cast<std::byte*>(pointer) - kHeader;
  std::size_t size;
  std::memcpy(&size, block, sizeof size);
  held -= size;
  std::free(block);
}

void operator delete(void* pointer, std::size_t) noexcept {
  operator delete(pointer);
}
void* operator new[](std::size_t size) {
  return operator new(size);
}
void operator delete[](void* pointer) noexcept {
  operator delete(pointer);
}
void operator delete[](void* pointer, std::size_t) noexcept {
  operator delete(pointer);
}

namespace {

using namespace draftwood;
using Text = std::vector<Token>;

#define EXPECT(condition, ...)                                                      \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: expected %s; ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                            \
      std::fputc('\n', stderr);                                                     \
      std::exit(1);                                                                 \
    }                                                                               \
  } while (false)

/// A tree beside the table that it stands for.
class Pair {
 public:
  Pair(std::int32_t depth, unsigned seed)
      : tree_(depth), depth_(static_cast<std::size_t>(depth)), seed_(seed), chance_(seed) {}

  void run(int operations) {
    const int vocabulary = pick({1, 2, 3, 6, 60});
    for (int i = 0; i < operations; ++i) {
      const int what = draw(100);
      if (texts_.empty() || what < 12) {
        texts_[tree_.begin()];
      } else if (what < 70) {
        extend(vocabulary);
      } else if (what < 75) {
        const auto it = any();
        count(it->second, 0, -1);
        tree_.remove(it->first);
        texts_.erase(it);
      } else if (what < 80) {
        const auto it = any();
        leaving_.push_back(*it);
        texts_.erase(it);
      } else if (what < 85) {
        tree_.finish(any()->first);
      } else if (what < 87) {
        (void)tree_.compact(50);
      } else {
        speculate(vocabulary);
      }
      evict_some();
      const std::string fault = tree_.check();
      EXPECT(fault.empty(), "seed %u, operation %d: %s", seed_, i, fault.c_str());
    }
    compare();
    while (!leaving_.empty()) evict_some();
    compare();
    while (!texts_.empty()) {
      tree_.remove(texts_.begin()->first);
      texts_.erase(texts_.begin());
    }
    EXPECT(tree_.nodes() == 0 && tree_.tokens() == 0, "seed %u", seed_);
    EXPECT(tree_.check().empty(), "seed %u: %s", seed_, tree_.check().c_str());
  }

 private:
  using Texts = std::map<SuffixTree::Sequence, Text>;

  int draw(int below) { return static_cast<int>(chance_() % static_cast<unsigned>(below)); }
  int pick(std::initializer_list<int> values) {
    return values.begin()[draw(static_cast<int>(values.size()))];
  }
  Texts::iterator any() { return std::next(texts_.begin(), draw(static_cast<int>(texts_.size()))); }

  void extend(int vocabulary) {
    const auto it = any();
    Text more;
    const Text& source = any()->second;
    if (draw(3) == 0 && !source.empty()) {
      for (int at = draw(static_cast<int>(source.size())), n = draw(100);
           n-- > 0 && at < static_cast<int>(source.size()); ++at) {
        more.push_back(source[static_cast<std::size_t>(at)]);
      }
    } else {
      for (int n = draw(12); n-- > 0;) more.push_back(draw(vocabulary));
    }
    tree_.extend(it->first, more);
    const std::size_t before = it->second.size();
    it->second.insert(it->second.end(), more.begin(), more.end());
    count(it->second, before, +1);
  }

  /// Takes a share of one of those that leave out, while the others grow.
  void evict_some() {
    if (leaving_.empty()) return;
    const std::size_t which = chance_() % leaving_.size();
    auto& [sequence, text] = leaving_[which];
    const std::size_t before = tree_.tokens();
    const bool out = tree_.evict(sequence, static_cast<std::size_t>(draw(20)));
    const std::size_t suffixes = before - tree_.tokens();
    EXPECT(suffixes <= 20 && suffixes <= text.size(), "seed %u: %zu", seed_, suffixes);
    const Text left(text.begin() + static_cast<std::ptrdiff_t>(suffixes), text.end());
    count(text, 0, -1);
    count(left, 0, +1);
    text = left;
    if (!out) return;
    EXPECT(text.empty(), "seed %u", seed_);
    leaving_.erase(leaving_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  /// Counts the strings that end behind the first `before` tokens.
  void count(const Text& text, std::size_t before, int by) {
    for (std::size_t end = before + 1; end <= text.size(); ++end) {
      for (std::size_t n = 1; n <= depth_ && n <= end; ++n) {
        const auto behind = text.begin() + static_cast<std::ptrdiff_t>(end);
        const Text string(behind - static_cast<std::ptrdiff_t>(n), behind);
        if ((table_[string] += by) == 0) table_.erase(string);
      }
    }
  }

  void compare() {
    for (const auto& [string, count] : table_) {
      EXPECT(tree_.count(string) == static_cast<std::uint32_t>(count),
             "seed %u: a string of %zu tokens occurs %d times, not %u", seed_, string.size(), count,
             tree_.count(string));
    }
  }

  /// A draft is what it says: its paths occur as often as its probabilities claim.
  void speculate(int vocabulary) {
    Text context = any()->second;
    context.resize(
        context.empty() ? 0 : static_cast<std::size_t>(draw(static_cast<int>(context.size()) + 1)));
    if (draw(4) == 0) context.push_back(draw(vocabulary));
    SuffixPolicy policy;
    policy.alpha = static_cast<float>(pick({1, 2, 4}));
    policy.floor = draw(2) == 0 ? 0.0F : 0.1F;
    policy.shape = draw(2) == 0 ? Shape::kLinear : Shape::kTree;
    const int nodes = pick({1, 7, 32});
    const int reach = pick({1, 4, 32});
    const Draft draft = tree_.speculate(context, policy, nodes, reach);
    const std::size_t n = draft.tokens.size();
    EXPECT(n <= static_cast<std::size_t>(nodes), "seed %u", seed_);
    EXPECT(
        draft.parents.size() == n && draft.confidence.size() == n && draft.probability.size() == n,
        "seed %u", seed_);
    std::vector<Text> paths;
    float score = 0.0F;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t parent = draft.parents[i];
      EXPECT(parent >= kRoot && parent < static_cast<std::int32_t>(i), "seed %u", seed_);
      Text path = parent == kRoot ? Text(context.end() - draft.match, context.end())
                                  : paths[static_cast<std::size_t>(parent)];
      const double above = tree_.count(path);
      path.push_back(draft.tokens[i]);
      const double share = table_.at(path) / above;
      EXPECT(std::abs(draft.confidence[i] - share) < 1e-6, "seed %u: %f for %f", seed_,
             static_cast<double>(draft.confidence[i]), share);
      EXPECT(path.size() <= static_cast<std::size_t>(draft.match + reach), "seed %u", seed_);
      EXPECT(i == 0 || draft.probability[i] <= draft.probability[i - 1], "seed %u", seed_);
      paths.push_back(path);
      score += draft.probability[i];
    }
    EXPECT(score == draft.score, "seed %u", seed_);
  }

  SuffixTree tree_;
  std::size_t depth_;
  unsigned seed_;
  std::mt19937 chance_;
  Texts texts_;
  std::vector<std::pair<SuffixTree::Sequence, Text>> leaving_;  ///< with what is left of their texts
  std::map<Text, int> table_;
};

void test_random_histories() {
  const std::int32_t depths[] = {2, 3, 5, 9, 24, 80};
  for (unsigned seed = 0; seed < 36; ++seed) Pair(depths[seed % 6], seed).run(40);
}

void test_bytes_are_counted_exactly() {
  std::mt19937 chance(7);
  const std::size_t before = held;
  auto tree = std::make_unique<SuffixTree>(12);
  std::vector<SuffixTree::Sequence> sequences;
  sequences.reserve(64);
  Text text(600);
  const std::size_t mine = held - before - tree->nbytes();
  for (int round = 0; round < 60; ++round) {
    for (Token& token : text) token = static_cast<Token>(chance() % 300);
    sequences.push_back(tree->begin());
    tree->extend(sequences.back(), text);
    if (round % 4 == 3) {
      tree->remove(sequences.front());
      sequences.erase(sequences.begin());
    }
    if (round % 4 == 1 && tree->evict(sequences.front(), 250)) sequences.erase(sequences.begin());
    if (round % 3 == 2) tree->finish(sequences.back());
    EXPECT(held == before + mine + tree->nbytes(), "round %d: %zu held, %zu told", round,
           held - before - mine, tree->nbytes());
  }
  EXPECT(mine == 64 * sizeof(SuffixTree::Sequence) + 600 * sizeof(Token), "%zu", mine);
}

void test_bad_calls_are_told() {
  SuffixTree tree(8);
  const auto refused = [](auto&& call) {
    try {
      call();
    } catch (const std::exception&) {
      return true;
    }
    return false;
  };
  const SuffixTree::Sequence sequence = tree.begin();
  const Text bad{3, -1};
  EXPECT(refused([&] { tree.extend(sequence, bad); }), "a negative token");
  EXPECT(tree.tokens() == 0, "nothing is appended");
  EXPECT(refused([&] { tree.extend(sequence + 1, Text{1}); }), "a sequence that never was");
  EXPECT(refused([&] { tree.remove(-1); }), "a negative number");
  tree.remove(sequence);
  EXPECT(refused([&] { tree.remove(sequence); }), "a sequence that is gone");
  EXPECT(refused([&] { tree.evict(sequence, 1); }), "a sequence that is gone");
  const SuffixTree::Sequence leaving = tree.begin();
  tree.extend(leaving, Text{1, 2, 3});
  EXPECT(!tree.evict(leaving, 1) && tree.tokens() == 2, "%zu tokens are left", tree.tokens());
  EXPECT(refused([&] { tree.extend(leaving, Text{1}); }), "a sequence that leaves");
  EXPECT(refused([&] { tree.finish(leaving); }), "a sequence that leaves");
  EXPECT(refused([&] { (void)tree.text(leaving, 3); }), "a sequence that leaves");
  EXPECT(tree.extents().empty() && tree.sequences() == 0, "%zu", tree.sequences());
  tree.remove(leaving);
  EXPECT(tree.tokens() == 0, "%zu tokens are left", tree.tokens());
  EXPECT(refused([] { SuffixTree(1); }) && refused([] { SuffixTree(5000); }), "depths");
}

/// Most of a large tree is removed: its memory comes back in bounded steps, and it stays sound.
void test_memory_is_given_back() {
  std::mt19937 chance(11);
  const std::size_t before = held;
  {
    auto tree = std::make_unique<SuffixTree>(10);
    std::vector<std::pair<SuffixTree::Sequence, Text>> stored(500);
    Text text(120);
    for (auto& [sequence, copy] : stored) {
      for (Token& token : text) token = static_cast<Token>(chance() % 40);
      sequence = tree->begin();
      tree->extend(sequence, text);
      copy = text;
    }
    const std::size_t most = tree->nbytes();
    std::size_t steps = 0;
    for (std::size_t i = 0; i < stored.size(); ++i) {
      if (i % 8 == 3) continue;
      if (i % 2 == 0) {
        tree->remove(stored[i].first);
      } else {
        while (!tree->evict(stored[i].first, 50)) tree->compact(300);
      }
      tree->compact(2000);
      // Those that stay grow meanwhile, so that every place a record is named by is used.
      auto& [sequence, copy] = stored[i / 8 * 8 + 3 < stored.size() ? i / 8 * 8 + 3 : 3];
      if (i % 3 == 0) {
        tree->extend(sequence, Text{copy.front(), copy.back()});
        copy.insert(copy.end(), {copy.front(), copy.back()});
      }
      if (i % 40 == 0) {
        const std::string fault = tree->check();
        EXPECT(fault.empty(), "removal %zu: %s", i, fault.c_str());
      }
      EXPECT(tree->idle() <= tree->nbytes(), "%zu idle", tree->idle());
    }
    while (!tree->compact(1000)) ++steps;
    EXPECT(steps < 100, "%zu steps", steps);
    const std::string fault = tree->check();
    EXPECT(fault.empty(), "%s", fault.c_str());
    EXPECT(tree->nbytes() * 2 < most, "%zu bytes of %zu are left", tree->nbytes(), most);
    for (std::size_t i = 3; i < stored.size(); i += 8) {
      EXPECT(tree->text(stored[i].first, 1U << 30U) == stored[i].second, "sequence %zu", i);
      EXPECT(tree->count(std::span<const Token>(stored[i].second).first(10)) >= 1, "at %zu", i);
    }
    // What was given back can be had again.
    for (int i = 0; i < 300; ++i) {
      for (Token& token : text) token = static_cast<Token>(chance() % 40);
      tree->extend(tree->begin(), text);
    }
    EXPECT(tree->check().empty(), "%s", tree->check().c_str());
  }
  EXPECT(held == before, "%zu bytes are lost", held - before);
}

/// Batches of streams say and draft what single streams do.
void test_batches() {
  std::mt19937 chance(3);
  ThreadPool pool(3);
  auto one = std::make_shared<SuffixTree>(12);
  auto two = std::make_shared<SuffixTree>(12);
  auto alone = std::make_shared<SuffixTree>(12);
  std::vector<std::unique_ptr<SuffixStream>> held_streams;
  std::vector<SuffixStream*> streams;
  std::vector<std::unique_ptr<SuffixStream>> twins;
  auto alone_two = std::make_shared<SuffixTree>(12);
  SuffixPolicy policy;
  policy.alpha = 2.0F;
  const Text prompt{1, 2, 3, 4, 5, 1, 2};
  for (int i = 0; i < 40; ++i) {
    held_streams.push_back(std::make_unique<SuffixStream>(i % 2 ? one : two, prompt, policy));
    twins.push_back(std::make_unique<SuffixStream>(i % 2 ? alone : alone_two, prompt, policy));
    streams.push_back(held_streams.back().get());
  }
  const std::vector<std::int32_t> nodes(40, 16);
  const std::vector<float> floors(40, 0.2F);
  for (int step = 0; step < 30; ++step) {
    std::vector<Text> said(40);
    std::vector<std::span<const Token>> parts;
    for (Text& text : said) {
      for (unsigned n = chance() % 4; n-- > 0;) text.push_back(static_cast<Token>(chance() % 6));
    }
    parts.assign(said.begin(), said.end());
    observe_all(streams, parts, pool);
    for (std::size_t i = 0; i < 40; ++i) twins[i]->observe(said[i]);
    const std::vector<SuffixDraft> drafts = propose_all(streams, nodes, nodes, floors, pool);
    for (std::size_t i = 0; i < 40; ++i) {
      const SuffixDraft twin = twins[i]->propose(16, 16, 0.2F);
      EXPECT(drafts[i].tokens == twin.tokens && drafts[i].probability == twin.probability &&
                 drafts[i].shared == twin.shared,
             "step %d, stream %zu", step, i);
    }
  }
  bool refused = false;
  try {
    SuffixStream* const twice[] = {streams[0], streams[1], streams[0]};
    const Text text{1};
    const std::span<const Token> parts[] = {text, text, text};
    observe_all(twice, parts, pool);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  EXPECT(refused, "a stream stands twice");
  EXPECT(one->check().empty() && two->check().empty(), "%s", one->check().c_str());
  one->remove(streams[1]->sequence());
  const std::size_t tokens = one->tokens();
  streams[1]->observe(prompt);
  streams[1]->close();
  EXPECT(one->tokens() == tokens, "what was removed is not shared again");
}

/// Two threads run batches of their own on one tree while a third removes and compacts.
void test_batches_in_threads() {
  auto tree = std::make_shared<SuffixTree>(16);
  ThreadPool pool(3);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 2; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 chance(seed);
      for (int round = 0; round < 3; ++round) {
        std::vector<std::unique_ptr<SuffixStream>> owned;
        std::vector<SuffixStream*> streams;
        for (int i = 0; i < 24; ++i) {
          owned.push_back(std::make_unique<SuffixStream>(tree, Text{1, 2, 3}, SuffixPolicy{}));
          streams.push_back(owned.back().get());
        }
        const std::vector<std::int32_t> nodes(24, 8);
        const std::vector<float> floors(24, 0.0F);
        for (int step = 0; step < 20; ++step) {
          Text said(24);
          std::vector<std::span<const Token>> parts;
          for (Token& token : said) {
            token = static_cast<Token>(chance() % 5);
            parts.emplace_back(&token, 1);
          }
          observe_all(streams, parts, pool);
          for (const SuffixDraft& draft : propose_all(streams, nodes, nodes, floors, pool)) {
            EXPECT(draft.tokens.size() <= 8, "%zu", draft.tokens.size());
          }
        }
        for (SuffixStream* const stream : streams) stream->close();
      }
    });
  }
  std::thread eviction([&] {
    for (int i = 0; i < 60; ++i) {
      const auto extents = tree->extents();
      if (extents.size() > 30) {
        while (!tree->evict(extents[extents.size() / 2].sequence, 9)) std::this_thread::yield();
      }
      tree->compact(500);
      std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();
  eviction.join();
  EXPECT(tree->check().empty(), "%s", tree->check().c_str());
}

/// Readers find their text while two writers append, finish and remove.
void test_threads() {
  SuffixTree tree(16);
  Text text(200);
  std::mt19937 chance(1);
  for (Token& token : text) token = static_cast<Token>(chance() % 1000);
  tree.extend(tree.begin(), text);
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 3; ++reader) {
    threads.emplace_back([&, reader] {
      std::size_t at = static_cast<std::size_t>(reader);
      do {
        at = (at + 13) % 150;
        const std::span<const Token> context(text.data() + at, 15);
        const Draft draft = tree.speculate(context, SuffixPolicy{}, 32, 32);
        EXPECT(!draft.tokens.empty() && draft.tokens[0] == text[at + 15], "at %zu", at);
        EXPECT(tree.count(context) >= 1 && tree.nbytes() > 0, "at %zu", at);
      } while (!stop);
    });
  }
  std::vector<std::thread> writers;
  for (int writer = 0; writer < 2; ++writer) {
    writers.emplace_back([&] {
      for (int round = 0; round < 8; ++round) {
        const SuffixTree::Sequence sequence = tree.begin();
        for (std::size_t at = 0; at < text.size(); at += 5) {
          tree.extend(sequence, std::span<const Token>(text).subspan(at, 5));
        }
        if (round % 2 == 0) {
          tree.remove(sequence);
        } else {
          tree.finish(sequence);
        }
      }
    });
  }
  for (std::thread& thread : writers) thread.join();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  const std::string fault = tree.check();
  EXPECT(fault.empty(), "%s", fault.c_str());
}

}  // namespace

/// Tokens that stand side by side under a multiplicative hash that everybody knows, and other
/// patterns, are found as soon as random ones: nobody can choose where a token stands.
void test_chosen_tokens_do_not_cluster() {
  constexpr std::uint32_t kTokens = 3000;
  constexpr std::uint32_t kVocab = 151936;
  std::vector<Token> ids(kVocab);
  for (std::uint32_t i = 0; i < kVocab; ++i) ids[i] = static_cast<Token>(i);
  std::vector<std::vector<Token>> pools(4, ids);
  std::ranges::sort(pools[0], {}, [](Token t) { return static_cast<std::uint32_t>(t) * 0x9E3779B9U; });
  std::ranges::sort(pools[1], {}, [](Token t) { return static_cast<std::uint32_t>(t) % 1024; });
  std::ranges::shuffle(pools[2], std::mt19937(1));
  for (const std::vector<Token>& pool : pools) {
    TokenMap map;
    for (std::uint32_t i = 0; i < kTokens; ++i) map.set(pool[i], i);
    std::size_t total = 0;
    std::size_t most = 0;
    for (std::uint32_t i = 0; i < kTokens; ++i) {
      EXPECT(map.find(pool[i]) == i, "token %d", pool[i]);
      total += map.probes(pool[i]);
      most = std::max(most, map.probes(pool[i]));
    }
    EXPECT(total < 6 * kTokens && most < 300, "%zu slots in all, %zu for one", total, most);
  }
}

int main() {
  test_random_histories();
  test_chosen_tokens_do_not_cluster();
  test_bytes_are_counted_exactly();
  test_bad_calls_are_told();
  test_memory_is_given_back();
  test_batches();
  test_threads();
  test_batches_in_threads();
  std::puts("suffix tree: histories, bytes, memory, bad calls, batches, threads: as expected");
  return 0;
}
