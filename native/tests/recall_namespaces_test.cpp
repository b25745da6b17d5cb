// What one namespace of a history can tell of another: drafts, their confidences, and how many
// records were looked at, which is all that their time depends on.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "../src/recall_impl.h"
#include "draftwood/recall.h"
#include "expect.h"

namespace {

using namespace draftwood;

constexpr NamespaceKey kTenant = 11;
constexpr NamespaceKey kOther = 12;

/// All that a tenant sees of a draft.
struct Seen {
  std::vector<Token> tokens;
  std::vector<float> confidence;
  std::uint32_t looked;
  friend bool operator==(const Seen&, const Seen&) = default;
};

Seen seen(const std::shared_ptr<Recall>& recall, std::span<const Token> context) {
  RecallRequest request(recall, context, kTenant, RecallPolicy{});
  const RecallDraft& draft = request.propose({16, 16});
  return {draft.tokens, draft.confidence, draft.looked};
}

void add(Recall& recall, NamespaceKey name, const std::vector<Token>& tokens) {
  recall.add(recall.begin(), name, {}, tokens);
}

/// Another tenant says one secret, or another, or nothing, hundreds of times, and learns from it.
/// What the curious one sees of its own drafts behind the same tokens is the same each time: to the
/// number of records that were looked at.
void a_curious_tenant_tells_nothing_from_its_drafts_or_their_time() {
  std::mt19937 random(1);
  int told = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto token = [&] { return static_cast<Token>(random() % 30'000); };
    const Token x = token();
    const Token c = token();
    const Token d = token();
    const std::uint64_t seed = random();
    std::vector<Seen> views;
    for (const Token secret : {c, d}) {
      const auto recall = std::make_shared<Recall>(65'536, seed);
      add(*recall, kTenant, {x, c, 7, x, d, 7});
      for (int round = 0; round < 20; ++round) {
        RecallRequest request(recall, std::vector<Token>{5, x}, kOther, RecallPolicy{false, 0, 4});
        for (int step = 0; step < 10; ++step) {
          request.propose({16, 16});
          request.observe(std::vector<Token>{secret, x});
        }
        request.close();
      }
      views.push_back(seen(recall, std::vector<Token>{x, c, 9, x, d, 9, x}));
      views.push_back(seen(recall, std::vector<Token>{c, x}));
    }
    told += views[0] == views[2] && views[1] == views[3] ? 0 : 1;
  }
  // Two contexts share one of 2^16 places now and then, whatever they are.
  EXPECT(told <= kTrials / 100);
}

/// A token of the other namespace whose contexts of one token are kept where the tenant's are.
Token in_the_same_bucket(const Recall& recall, Token of) {
  const Recall::Impl& history = recall.impl();
  const auto bucket = [&](Token token, NamespaceKey name) {
    const std::vector<Token> context{token};
    return history.ring.bucket(0, recall::hash_context(context, history.salt(name)));
  };
  Token token = 0;
  while (bucket(token, kOther) != bucket(of, kTenant)) ++token;
  return token;
}

/// Even who knows where a tenant's contexts are kept does not take them from its drafts by writing
/// there as often as the tenant itself may step.
void records_of_others_do_not_use_up_steps() {
  const auto recall = std::make_shared<Recall>(16'384, 3);
  add(*recall, kTenant, {100, 101});
  const std::vector<Token> context{100};
  const Seen before = seen(recall, context);
  EXPECT(before.tokens == std::vector<Token>{101});
  const Token crowd = in_the_same_bucket(*recall, 100);
  for (int i = 0; i < 70; ++i) add(*recall, kOther, {crowd, static_cast<Token>(200 + i)});
  const Seen after = seen(recall, context);
  EXPECT(after.tokens == before.tokens);
  EXPECT(after.confidence == before.confidence);
  EXPECT(after.looked > before.looked);
}

/// Nor does it make a draft take longer than a bound.
void records_of_others_are_looked_at_up_to_a_bound() {
  const auto recall = std::make_shared<Recall>(65'536, 3);
  const Token crowd = in_the_same_bucket(*recall, 100);
  for (int i = 0; i < 500; ++i) add(*recall, kOther, {crowd, static_cast<Token>(200 + i)});
  EXPECT(seen(recall, std::vector<Token>{100}).looked == 96);
}

// --- Quotas -----------------------------------------------------------------------------------

std::vector<Token> numbers(Token from, Token count) {
  std::vector<Token> tokens;
  for (Token i = 0; i < count; ++i) tokens.push_back(from + i);
  return tokens;
}

void a_namespace_holds_no_more_than_its_quota() {
  const auto recall = std::make_shared<Recall>(65'536, 1, 4096);
  add(*recall, kTenant, numbers(0, 300));
  for (Token round = 0; round < 100; ++round) {
    add(*recall, kOther, numbers(1000, 900));
    EXPECT(recall->held(kOther) <= 4096);
  }
  EXPECT(recall->held(kOther) > 4096 - 64);
  // So the tenant's text is still there, and room for more of it.
  EXPECT(seen(recall, numbers(50, 4)).tokens.front() == 54);
  add(*recall, kTenant, numbers(5000, 300));
  EXPECT(seen(recall, numbers(5050, 4)).tokens.front() == 5054);
}

/// Where others go on to write, what a namespace held leaves, and it may add again.
void a_quota_is_free_again_when_the_ring_goes_round() {
  const auto recall = std::make_shared<Recall>(8192, 1, 2048);
  for (int i = 0; i < 10; ++i) add(*recall, kTenant, numbers(0, 500));
  const std::uint64_t full = recall->written();
  add(*recall, kTenant, numbers(0, 500));
  EXPECT(recall->written() == full);
  for (NamespaceKey name = 100; name < 200; ++name) add(*recall, name, numbers(0, 100));
  EXPECT(recall->held(kTenant) == 0);
  add(*recall, kTenant, numbers(7000, 500));
  EXPECT(seen(recall, numbers(7050, 4)).tokens.front() == 7054);
  for (NamespaceKey name = 100; name < 200; ++name) EXPECT(recall->held(name) <= 2048);
}

/// Alone in its history, a namespace writes over its own.
void a_namespace_that_fills_its_ring_goes_on() {
  const auto recall = std::make_shared<Recall>(2048, 1, 2048);
  for (Token i = 0; i < 40; ++i) add(*recall, kTenant, numbers(i * 100, 100));
  EXPECT(recall->held(kTenant) == 2048);
  EXPECT(seen(recall, numbers(3950, 4)).tokens.front() == 3954);
}

}  // namespace

int main() {
  a_curious_tenant_tells_nothing_from_its_drafts_or_their_time();
  records_of_others_do_not_use_up_steps();
  records_of_others_are_looked_at_up_to_a_bound();
  a_namespace_holds_no_more_than_its_quota();
  a_quota_is_free_again_when_the_ring_goes_round();
  a_namespace_that_fills_its_ring_goes_on();
  std::puts("recall namespaces: all tests passed");
}
