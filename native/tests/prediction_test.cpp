// Predictions under sanitizers: whatever an answer does to its prediction, drafts stay valid.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "draftwood/recall.h"
#include "draftwood/token_texts.h"
#include "expect.h"

namespace {

using namespace draftwood;

constexpr Token kVocabulary = 39;

/// Texts of up to three signs, among them a space: equal texts in other tokens are everywhere.
std::shared_ptr<const TokenTexts> texts() {
  std::string names;
  std::vector<Token> ids;
  const std::vector<std::string> signs = {"a", "b", "\xE2\x96\x81"};
  std::vector<std::string> longer = {""};
  for (int size = 0; size < 3; ++size) {
    std::vector<std::string> next;
    for (const std::string& text : longer) {
      for (const std::string& sign : signs) next.push_back(text + sign);
    }
    for (const std::string& text : next) {
      names += text + '\0';
      ids.push_back(static_cast<Token>(ids.size()));
    }
    longer = next;
  }
  return std::make_shared<TokenTexts>(names, ids);
}

/// Edits of predictions, served in steps of any size.
void drafts_are_valid_whatever_the_answer_does() {
  const auto shared = std::make_shared<Recall>(4096);
  const auto known = texts();
  std::mt19937 random(3);
  const auto below = [&](std::size_t limit) { return random() % std::max<std::size_t>(limit, 1); };
  for (int round = 0; round < 400; ++round) {
    std::vector<std::vector<Token>> likely(1 + below(6));
    for (auto& each : likely) {
      each.resize(below(200));
      for (Token& token : each) token = static_cast<Token>(below(kVocabulary));
    }
    std::vector<Token> answer = likely[below(likely.size())];
    for (std::size_t edits = below(5); edits > 0; --edits) {
      const auto at = answer.begin() + static_cast<std::ptrdiff_t>(below(answer.size()));
      const std::vector<Token> fresh(below(9), static_cast<Token>(below(kVocabulary)));
      const std::size_t most = static_cast<std::size_t>(answer.end() - at);
      const auto gone = static_cast<std::ptrdiff_t>(std::min(below(12), most));
      answer.insert(answer.erase(at, at + gone), fresh.begin(), fresh.end());
    }
    const std::vector<std::span<const Token>> predictions(likely.begin(), likely.end());
    const std::vector<Token> prompt(below(12), 1);
    RecallRequest request(shared, prompt, 1, RecallPolicy{round % 3 == 0, 0.01F, 16}, predictions,
                          round % 2 == 0 ? known : nullptr);
    for (std::size_t at = 0; at < answer.size();) {
      const auto nodes = static_cast<std::uint32_t>(below(40));
      const RecallDraft& draft = request.propose({nodes, static_cast<std::uint32_t>(below(40))});
      EXPECT(draft.tokens.size() <= nodes);
      for (std::size_t i = 0; i < draft.tokens.size(); ++i) {
        EXPECT(draft.tokens[i] >= 0 && draft.tokens[i] < kVocabulary);
        EXPECT(draft.parents[i] >= kRoot && draft.parents[i] < static_cast<std::int32_t>(i));
        EXPECT(draft.confidence[i] > 0.0F && draft.confidence[i] < 1.0F);
      }
      const std::size_t came = std::min(1 + below(12), answer.size() - at);
      request.observe(std::span(answer).subspan(at, came));
      at += came;
    }
    EXPECT(request.nbytes() > answer.size());
    request.close();
  }
}

}  // namespace

int main() {
  drafts_are_valid_whatever_the_answer_does();
  std::puts("predictions: all tests passed");
}
