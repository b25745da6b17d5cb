#include "prediction_trust.h"

#include <algorithm>

#include "recall_odds.h"

namespace draftwood::recall {
namespace {

/// Log-odds of each kind before anything was learned: alone, where Recall has other candidates
/// only, and what is added to Recall's own. Fitted on a trace of no table.
constexpr std::array<std::array<std::int32_t, 3>, kKinds> kBase = {{
    {250, 0, 400},      {425, 100, 300},    {350, -200, 375},   {525, -100, 350},  {700, 0, 425},
    {775, 100, 400},    {975, 100, 425},    {1025, 100, 475},   {1275, 475, 600},  // followed
    {400, 400, 500},    {-425, -825, 575},  {-750, -875, 600},                     // start, same
    {-900, -1225, 500}, {-825, -1450, 450}, {-825, -1150, 375},                    // stay
    {100, -25, 450},    {550, 175, 600},    {-300, -500, 100},                     // renamed
    {200, 75, 325},     {700, 500, 700},    {-500, -600, 0},  // ... where the next is the same
    {700, 400, 400},    {-225, -700, -400},                   // inside, kept
    {-400, -400, 350},  {-700, -700, 50},   {-175, -175, 425},  {-700, -700, 125},  // near
    {300, -125, 575},   {-200, -500, 225},  {600, 300, 500},                        // seam
    {-100, -300, 350},                                                              // spaced
}};

constexpr std::int32_t kWidth = 512;  ///< of a bin, in log-odds
constexpr std::uint32_t kPrior = 8;
constexpr std::uint32_t kLimit = 250;

}  // namespace

Trust::Trust() {
  std::size_t at = 0;
  for (const auto& base : kBase) {
    for (std::int32_t trouble = 0; trouble < static_cast<std::int32_t>(kTroubles); ++trouble) {
      for (std::uint32_t column = 0; column < kColumns; ++column) {
        std::int32_t start = base[std::min(column, 2U)] - 100 * trouble;
        if (column >= 2)
          start = ((start + (static_cast<std::int32_t>(column) - 6) * kWidth) * 3) >> 2;
        const std::int32_t bounded = std::clamp(start, -2047, 2047);
        cells_[at++].store(cell_of(kMixed[static_cast<std::size_t>(bounded + 2048)]), kRelaxed);
      }
    }
  }
}

Trust::Reading Trust::read(std::uint32_t kind, std::uint32_t trouble,
                           std::int32_t said) const noexcept {
  const std::uint32_t first = (kind * kTroubles + trouble) * kColumns;
  const auto probability = [&](std::uint32_t cell) { return cells_[cell].load(kRelaxed) >> 16; };
  if (said < 0) {
    const std::uint32_t cell = first + (said == kOthersOnly ? 1 : 0);
    return {probability(cell), cell};
  }
  const std::int32_t at = kLogOdds[static_cast<std::size_t>(said >> 4)] + 2048;
  const std::uint32_t low = first + 2 + static_cast<std::uint32_t>(at / kWidth);
  const auto part = static_cast<std::uint32_t>(at % kWidth);
  const std::uint32_t mixed =
      (probability(low) * (kWidth - part) + probability(low + 1) * part) >> 9;
  return {mixed, low + (part >= kWidth / 2 ? 1 : 0)};
}

void Trust::learn(std::uint32_t cell, bool right) noexcept {
  move<kPrior, kLimit>(cells_[cell], right);
}

}  // namespace draftwood::recall
