// Sequences under sanitizers: whatever an engine tells, steps and drafts stay within their bounds.

#include "draftwood/sequences.h"

#include <cstddef>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "draftwood/tree_mask.h"
#include "expect.h"

namespace {

using namespace draftwood;

constexpr Token kVocabulary = 9;

/// Random steps of sequences that come and go, with every kind of wrong row among them.
void steps_survive_whatever_they_are_told() {
  const auto shared = std::make_shared<Recall>(4096);
  Sequences sequences(kVocabulary, 200);
  std::mt19937 random(1);
  const auto below = [&](unsigned limit) { return static_cast<Token>(random() % limit); };
  const auto count = [&](unsigned limit) { return static_cast<std::uint32_t>(random() % limit); };
  std::vector<Sequences::Slot> open;
  std::vector<double> rises;
  for (int n = 0; n < 400; ++n) rises.push_back(4.0 + 0.02 * n);
  const std::vector<double> discounts = {1.0, 0.9, 0.8};
  for (int round = 0; round < 3000; ++round) {
    if (open.size() < 20 && random() % 4 == 0) {
      std::vector<Token> prompt(random() % 40);
      for (Token& token : prompt) token = below(kVocabulary);
      const std::vector<Token> likely(prompt.rbegin(), prompt.rend());
      const std::vector<std::span<const Token>> predictions = {likely};
      open.push_back(sequences.open(
          prompt, random() % 5 == 0 ? nullptr
                                    : std::make_shared<RecallRequest>(
                                          shared, prompt, 1, RecallPolicy{}, predictions)));
    }
    if (!open.empty() && random() % 9 == 0) {
      const std::size_t at = random() % open.size();
      sequences.close(open[at]);
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::vector<Sequences::Slot> slots(open);
    if (random() % 5 == 0) slots.push_back(below(40) - 10);
    std::vector<std::vector<Token>> texts;
    std::vector<StepRow> rows;
    std::vector<std::int64_t> rooms;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      auto& text = texts.emplace_back(random() % 6);
      for (Token& token : text) token = random() % 40 == 0 ? below(20) - 5 : below(kVocabulary);
      rooms.push_back(below(12) - 2);
    }
    for (const auto& text : texts) rows.push_back({text, random() % 30 != 0});
    const ValueCut cut{rises, discounts};
    StepDrafts drafts;
    sequences.step(slots, rows, random() % 10 == 0, rooms,
                   {count(17), count(9), 0.0F, random() % 3 == 0, 1 + count(3)},
                   random() % 2 == 0 ? &cut : nullptr, drafts);
    EXPECT(drafts.offsets.size() == slots.size() + 1);
    EXPECT(static_cast<std::size_t>(drafts.offsets.back()) == drafts.tokens.size());
    for (std::size_t row = 0; row < slots.size(); ++row) {
      for (std::int32_t i = drafts.offsets[row]; i < drafts.offsets[row + 1]; ++i) {
        const auto node = static_cast<std::size_t>(i);
        EXPECT(drafts.parents[node] >= kRoot && drafts.parents[node] < i - drafts.offsets[row]);
        EXPECT(drafts.tokens[node] >= 0 && drafts.tokens[node] < kVocabulary);
      }
      EXPECT(drafts.faults[row] == StepFault::kNone ||
             drafts.offsets[row] == drafts.offsets[row + 1]);
    }
    if (random() % 3 == 0) {
      std::vector<Sequences::Slot> missed;
      const auto found = sequences.recognize(rows, 64, 20, missed);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        if (found[row] >= 0) EXPECT(sequences.text(found[row]).size() <= texts[row].size());
      }
    }
  }
  EXPECT(sequences.accepted() <= sequences.drafted());
}

void a_mask_shows_every_slot_its_ancestors() {
  const std::vector<std::int32_t> parents = {-1, 0, -1, 1};
  std::vector<std::uint8_t> mask(36, 7);
  std::vector<std::int32_t> depths(6, 7);
  fill_tree_mask(parents, 6, true, mask.data(), depths.data());
  EXPECT(depths == (std::vector<std::int32_t>{0, 1, 2, 1, 3, 1}));
  const std::vector<std::uint8_t> expected = {1, 0, 0, 0, 0, 0,  //
                                              1, 1, 0, 0, 0, 0,  //
                                              1, 1, 1, 0, 0, 0,  //
                                              1, 0, 0, 1, 0, 0,  //
                                              1, 1, 1, 0, 1, 0,  //
                                              1, 0, 0, 0, 0, 1};
  EXPECT(mask == expected);
}

}  // namespace

int main() {
  steps_survive_whatever_they_are_told();
  a_mask_shows_every_slot_its_ancestors();
  std::puts("sequences: all tests passed");
}
