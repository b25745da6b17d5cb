#include "recall_model.h"

#include <algorithm>
#include <bit>

namespace draftwood::recall {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;

/// 65536 / (1 + e^-x) for x = -8, -7.5, ..., 8.
constexpr std::array<std::int32_t, 33> kCurve = {
    22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
    4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
    62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

constexpr std::uint32_t kLeast = 16;
constexpr std::uint32_t kMost = kOne - 16;

constexpr std::uint32_t curve(std::int32_t x) noexcept {
  const std::int32_t at = x + 2048;
  const auto low = static_cast<std::size_t>(at >> 7);
  const std::int32_t part = at & 127;
  return static_cast<std::uint32_t>((kCurve[low] * (128 - part) + kCurve[low + 1] * part) >> 7);
}

/// The inverse of `curve`, by the upper 12 bits of the probability.
constexpr auto kLogOdds = [] {
  std::array<std::int16_t, 4096> table{};
  std::size_t filled = 0;
  for (std::int32_t x = -2047; x <= 2047; ++x) {
    const std::size_t upto = curve(x) >> 4;
    while (filled <= upto) table[filled++] = static_cast<std::int16_t>(x);
  }
  while (filled < table.size()) table[filled++] = 2047;
  return table;
}();

/// The class of a count: 0, 1, 2, 3-4, 5-7, 8-12, 13-20, more.
constexpr auto kClassOf = [] {
  std::array<std::uint8_t, 256> table{};
  for (std::size_t count = 0; count < table.size(); ++count) {
    constexpr std::array<std::size_t, 7> from = {1, 2, 3, 5, 8, 13, 21};
    for (const std::size_t least : from)
      table[count] = static_cast<std::uint8_t>(table[count] + (count >= least));
  }
  return table;
}();

constexpr std::uint32_t kCellBits = 10;
constexpr std::uint32_t kSeen = (1U << kCellBits) - 1;

/// 65536 / (n + prior), for the step of a cell that has seen n outcomes.
template <std::uint32_t Prior>
constexpr auto kStep = [] {
  std::array<std::uint32_t, kSeen + 1> table{};
  for (std::uint32_t n = 0; n <= kSeen; ++n) table[n] = 65536 / (n + Prior);
  return table;
}();

constexpr std::uint32_t cell_of(std::uint32_t probability) noexcept {
  return probability << 16;
}

/// Moves a cell towards the outcome by 1 / (outcomes seen + Prior), at least 1 / (limit + Prior).
template <std::uint32_t Prior>
void move(std::atomic<std::uint32_t>& cell, bool right, std::uint32_t limit) noexcept {
  const std::uint32_t old = cell.load(kRelaxed);
  const std::uint32_t seen = std::min(old & kSeen, limit);
  const auto at = static_cast<std::int64_t>(old >> kCellBits);
  const std::int64_t to = right ? (1 << 22) - 1 : 0;
  const std::int64_t next = at + (((to - at) * kStep<Prior>[seen]) >> 16);
  cell.store(static_cast<std::uint32_t>(next) << kCellBits | std::min(seen + 1, limit), kRelaxed);
}

/// Where log-odds fall among 33 bins: the lower bin, and the share (of 128) of the one above.
struct Bin {
  std::uint32_t low;
  std::uint32_t part;
  [[nodiscard]] std::uint32_t nearest() const noexcept { return low + (part >= 64 ? 1U : 0U); }
};

Bin bin_of(std::int32_t log_odds) noexcept {
  const auto at = static_cast<std::uint32_t>(log_odds + 2048);
  return {at >> 7, at & 127};
}

std::uint32_t read(const std::atomic<std::uint32_t>* bins, Bin at) noexcept {
  const std::uint32_t low = bins[at.low].load(kRelaxed) >> 16;
  const std::uint32_t high = bins[at.low + 1].load(kRelaxed) >> 16;
  return (low * (128 - at.part) + high * at.part) >> 7;
}

constexpr std::uint32_t kCellLimit = 255;
constexpr std::uint32_t kRefineLimit = 500;
constexpr std::uint32_t kSettleLimit = 250;
constexpr std::uint32_t kEchoLimit = 25;
constexpr std::uint32_t kFirstEcho = kOne * 3 / 10;
constexpr std::int32_t kFirstWeight = 65536 * 3 / 10;
constexpr std::int32_t kFirstEchoWeight = 65536 / 5;
constexpr std::int32_t kBias = 77;  ///< the input of the weight that stands alone
constexpr std::int64_t kHeaviest = 1 << 24;
constexpr std::int64_t kRate = 40;  ///< of the weights, in 2^-20 a unit of error and input

/// What an echo counts for, in 2^-16, after n outcomes.
constexpr auto kTrust = [] {
  std::array<std::int32_t, kSeen + 1> table{};
  for (std::int32_t n = 0; n < static_cast<std::int32_t>(table.size()); ++n) {
    table[static_cast<std::size_t>(n)] = 65536 * 2 * n / (2 * n + 3);
  }
  return table;
}();

std::array<std::uint16_t, kEchoes> echo_cells(Token token, Token last) noexcept {
  std::uint32_t alone = static_cast<std::uint32_t>(token) * 0x9E3779B1U;
  alone ^= alone >> 15;
  std::uint32_t behind = (alone ^ static_cast<std::uint32_t>(last)) * 0x85EBCA77U;
  behind ^= behind >> 13;
  const auto cell = [](std::uint32_t hash, std::uint32_t table) {
    return static_cast<std::uint16_t>(table << kEchoBits |
                                      (hash * 0xC2B2AE3DU) >> (32 - kEchoBits));
  };
  return {cell(alone, 0), cell(behind, 1)};
}

std::uint32_t start_of(std::size_t bin) noexcept {
  return cell_of(std::clamp(static_cast<std::uint32_t>(kCurve[bin]), kLeast, kMost));
}

}  // namespace

std::uint32_t squash(std::int32_t log_odds) noexcept {
  return std::clamp(curve(std::clamp(log_odds, -2047, 2047)), kLeast, kMost);
}

std::int32_t stretch(std::uint32_t probability) noexcept {
  return kLogOdds[std::min(probability >> 4, 4095U)];
}

Model::Model() {
  constexpr std::array<std::uint32_t, 8> typical = {0, 100, 200, 350, 600, 1000, 1600, 2800};
  constexpr std::array<std::uint32_t, kLevels> escape = {400, 400, 150, 100, 60, 60};
  std::size_t at = 0;
  for (std::size_t source = 0; source < kSources; ++source) {
    for (std::size_t level = 0; level < kLevels; ++level) {
      for (std::size_t with = 0; with < 8; ++with) {
        for (std::size_t without = 0; without < 8; ++without) {
          for (std::uint32_t newest = 0; newest < 2; ++newest) {
            const std::uint32_t p = kOne * (typical[with] + 30 * newest + 2) /
                                    (typical[with] + typical[without] + escape[level]);
            cells_[at++].store(cell_of(std::clamp(p, 200U, 63500U)), kRelaxed);
          }
        }
      }
    }
  }
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    const std::size_t input = i % kWeights;
    const bool echo = input >= kInputs && input < kInputs + kEchoes;
    weights_[i].store(echo ? kFirstEchoWeight : kFirstWeight, kRelaxed);
  }
  for (std::size_t i = 0; i < refined_.size(); ++i)
    refined_[i].store(start_of(i % kBins), kRelaxed);
  for (std::size_t i = 0; i < settled_.size(); ++i)
    settled_[i].store(start_of(i % kBins), kRelaxed);
  for (Cell& cell : echoes_) cell.store(cell_of(kFirstEcho), kRelaxed);
}

void Model::judge(const Evidence& evidence, std::uint32_t depth, Token last,
                  std::vector<Trial>& trials) const {
  std::array<std::size_t, kSources> levels{};  // how many of each source have evidence
  for (std::size_t source = 0; source < kSources; ++source) {
    const int empty = std::countl_zero(evidence.total[source]) / 8;
    levels[source] = sizeof(std::uint64_t) - static_cast<std::size_t>(empty);
  }
  const std::size_t best = std::max(levels[0], levels[1]);
  const auto active =
      static_cast<std::uint16_t>(((1U << levels[0]) - 1) | ((1U << levels[1]) - 1) << kLevels);
  const std::size_t pair = levels[0] * (kLevels + 1) + levels[1];
  const std::size_t sets = pair * 4 + (evidence.tallies.size() > 1 ? 1U : 0U);
  const std::size_t context = std::min(depth, 7U) * kLevels;
  const std::size_t first = trials.size();
  trials.resize(first + evidence.tallies.size());
  std::uint32_t sum = 0;
  Trial* trial = trials.data() + first;
  for (const Tally& tally : evidence.tallies) {
    const std::size_t level = kLevelOf[tally.longest];
    const std::size_t set = sets + (level + 1 == best ? 2U : 0U);
    const auto* weights = &weights_[set * kWeights];
    trial->token = tally.token;
    trial->own = tally.own;
    trial->weights = static_cast<std::uint16_t>(set);
    trial->active = active;
    std::int64_t dot = std::int64_t{weights[kWeights - 1].load(kRelaxed)} * kBias;
    trial->echo = echo_cells(tally.token, last);
    for (std::size_t i = 0; i < kEchoes; ++i) {
      const std::uint32_t cell = echoes_[trial->echo[i]].load(kRelaxed);
      const std::int32_t input = kLogOdds[cell >> 20] * kTrust[cell & kSeen] >> 16;
      trial->echoed[i] = static_cast<std::int16_t>(input);
      dot += std::int64_t{weights[kInputs + i].load(kRelaxed)} * input;
    }
    std::size_t i = 0;
    for (std::size_t source = 0; source < kSources; ++source) {
      std::uint64_t with = tally.count[source];
      std::uint64_t without = evidence.total[source] - with;
      std::size_t base =
          source * kLevels * 128 + (evidence.newest[source] == tally.token ? 1U : 0U);
      const auto* weight = weights + source * kLevels;
      for (std::size_t k = 0; k < levels[source]; ++k, with >>= 8, without >>= 8, base += 128) {
        const std::size_t cell = base + kClassOf[with & 255] * 16U + kClassOf[without & 255] * 2U;
        const std::int32_t input = kLogOdds[cells_[cell].load(kRelaxed) >> 20];
        trial->cell[i] = static_cast<std::uint16_t>(cell);
        trial->input[i++] = static_cast<std::int16_t>(input);
        dot += std::int64_t{weight[k].load(kRelaxed)} * input;
      }
    }
    const auto log_odds =
        static_cast<std::int32_t>(std::clamp<std::int64_t>(dot >> 16, -2047, 2047));
    const Bin at = bin_of(log_odds);
    const std::size_t bins = (context + level) * kBins;
    trial->mixed = static_cast<std::uint16_t>(squash(log_odds));
    trial->refined = static_cast<std::uint16_t>(bins + at.nearest());
    trial->estimate = static_cast<std::uint16_t>((trial->mixed + read(&refined_[bins], at)) / 2);
    sum += trial->estimate;
    ++trial;
  }
  if (sum <= kMost) return;
  for (std::size_t i = first; i < trials.size(); ++i) {
    trials[i].estimate = static_cast<std::uint16_t>(
        std::max<std::uint64_t>(kLeast, std::uint64_t{trials[i].estimate} * kMost / sum));
  }
}

void Model::settle(std::span<Trial> trials, std::uint32_t depth,
                   std::uint32_t path) const noexcept {
  const std::uint32_t likely = path >> 16;
  const std::size_t sure = likely > 58982 ? 3 : likely > 39321 ? 2 : likely > 13107 ? 1 : 0;
  const std::size_t deep = depth < 3 ? depth : depth < 6 ? 3 : depth < 12 ? 4 : 5;
  const std::size_t bins = (sure * 6 + deep) * kBins;
  for (Trial& trial : trials) {
    const Bin at = bin_of(stretch(trial.estimate));
    trial.settled = static_cast<std::uint16_t>(bins + at.nearest());
    trial.confidence =
        static_cast<std::uint16_t>(std::clamp(read(&settled_[bins], at), kLeast, kMost));
  }
}

void Model::learn(const Trial* first, const Trial* last, Token truth) {
  for (const Trial* trial = first; trial != last; ++trial) {
    const bool right = trial->token == truth;
    const std::int64_t error = (right ? std::int64_t{kOne} : 0) - trial->mixed;
    auto* weights = &weights_[std::size_t{trial->weights} * kWeights];
    const auto nudge = [&](std::size_t slot, std::int64_t input) {
      auto& weight = weights[slot];
      const std::int64_t next = weight.load(kRelaxed) + ((input * error * kRate + (1 << 19)) >> 20);
      weight.store(static_cast<std::int32_t>(std::clamp(next, -kHeaviest, kHeaviest)), kRelaxed);
    };
    std::size_t i = 0;
    for (std::uint32_t active = trial->active; active != 0; active &= active - 1, ++i) {
      nudge(static_cast<std::size_t>(std::countr_zero(active)), trial->input[i]);
      move<6>(cells_[trial->cell[i]], right, kCellLimit);
    }
    for (std::size_t k = 0; k < kEchoes; ++k) {
      nudge(kInputs + k, trial->echoed[k]);
      move<2>(echoes_[trial->echo[k]], right, kEchoLimit);
    }
    nudge(kWeights - 1, kBias);
    move<20>(refined_[trial->refined], right, kRefineLimit);
  }
}

void Model::learn_choice(const Trial& trial, bool right) {
  move<20>(settled_[trial.settled], right, kSettleLimit);
}

std::vector<std::uint32_t> Model::words() const {
  std::vector<std::uint32_t> words;
  words.reserve(kWords);
  for (const auto& cell : cells_) words.push_back(cell.load(kRelaxed));
  for (const auto& weight : weights_) {
    words.push_back(static_cast<std::uint32_t>(weight.load(kRelaxed)));
  }
  for (const auto& cell : refined_) words.push_back(cell.load(kRelaxed));
  for (const auto& cell : settled_) words.push_back(cell.load(kRelaxed));
  for (const auto& cell : echoes_) words.push_back(cell.load(kRelaxed));
  return words;
}

void Model::restore(const std::uint32_t* words) noexcept {
  for (auto& cell : cells_) cell.store(*words++, kRelaxed);
  for (auto& weight : weights_) weight.store(static_cast<std::int32_t>(*words++), kRelaxed);
  for (auto& cell : refined_) cell.store(*words++, kRelaxed);
  for (auto& cell : settled_) cell.store(*words++, kRelaxed);
  for (auto& cell : echoes_) cell.store(*words++, kRelaxed);
}

}  // namespace draftwood::recall
