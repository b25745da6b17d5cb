#include "recall_model.h"

#include <algorithm>
#include <bit>

#include "recall_odds.h"

namespace draftwood::recall {
namespace {

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

/// A weighted sum as log-odds.
std::int32_t log_odds_of(std::int64_t dot) noexcept {
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(dot >> 16, -2047, 2047));
}

/// Where log-odds fall among 33 bins: the lower bin, and the share (of 128) of the one above.
struct Bin {
  std::uint32_t low;
  std::uint32_t part;
  [[nodiscard]] std::uint32_t nearest() const noexcept { return low + (part >> 6); }
};

Bin bin_of(std::int32_t log_odds) noexcept {
  const auto at = static_cast<std::uint32_t>(log_odds + 2048);
  return {at >> 7, at & 127};
}

std::uint32_t corrected(const std::atomic<std::uint32_t>* bins, Bin at) noexcept {
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
constexpr std::uint32_t kFirstUnlisted = kOne / 50;
constexpr std::int32_t kFirstHint = 65536 * 6 / 10;
constexpr std::int32_t kFirstSecondHint = 65536 * 2 / 10;
constexpr std::int32_t kFirstUnplaced = 65536 / 10;
constexpr std::int32_t kBias = 77;  ///< the input of the weight that stands alone
constexpr std::int64_t kHeaviest = 1 << 24;
/// Of the weights, and of the small sets: 2^-18 a unit of error and input.
constexpr std::int32_t kRate = 10;
constexpr std::int32_t kLeaningRate = 15;

/// What an echo counts for, in 2^-16, after n outcomes.
constexpr auto kTrust = [] {
  std::array<std::int32_t, kSeen + 1> table{};
  for (std::int32_t n = 0; n < static_cast<std::int32_t>(table.size()); ++n) {
    table[static_cast<std::size_t>(n)] = 65536 * 2 * n / (2 * n + 3);
  }
  return table;
}();

/// The log-odds that an echo counts for.
std::int32_t heard(const std::atomic<std::uint32_t>& echo) noexcept {
  const std::uint32_t cell = echo.load(kRelaxed);
  return kLogOdds[cell >> 20] * kTrust[cell & kSeen] >> 16;
}

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

constexpr std::uint16_t leaning_set(Token of, std::uint32_t table) noexcept {
  return static_cast<std::uint16_t>(table << kLeaningBits |
                                    (static_cast<std::uint32_t>(of) * 0x9E3779B1U) >>
                                        (32 - kLeaningBits));
}

/// By how much an input moves its weight: input x push / 2^18, rounded; `push` is error x rate.
std::int32_t nudge_of(std::int32_t input, std::int32_t push) noexcept {
  static_assert(2047 * std::int64_t{kMost} * kLeaningRate + (1 << 17) < std::int64_t{1} << 31);
  return (input * push + (1 << 17)) >> 18;
}

void nudge(std::atomic<std::int32_t>& weight, std::int32_t by) noexcept {
  const std::int64_t next = std::int64_t{weight.load(kRelaxed)} + by;
  weight.store(static_cast<std::int32_t>(std::clamp(next, -kHeaviest, kHeaviest)), kRelaxed);
}

/// The inputs of a trial's small sets.
std::array<std::int32_t, kLeaning> leaning_inputs(const Reading& reading,
                                                  const Trial& trial) noexcept {
  return {reading.sum[0], reading.sum[1], trial.echoed[0], trial.echoed[1], kBias};
}

/// Among the classes of shares: a token that the row does not name.
constexpr std::size_t kUnlisted = 16;

/// The cell of what a row says about a token. placed: 0: no place at the node, 1: none of them goes
/// on with it, 2: some do.
std::uint16_t hint_cell(std::size_t order, const Likely& row, Token token,
                        std::size_t placed) noexcept {
  const std::size_t at = row.find(token);
  const std::size_t share =
      at == kLikely ? kUnlisted
                    : static_cast<std::size_t>(kLogOdds[row.share[at] >> 4] + 2048) >> 8;
  return static_cast<std::uint16_t>(
      (((order * (kUnlisted + 1) + share) * 2 + (at == 0 ? 1U : 0U)) * 2 + (row.again ? 1U : 0U)) *
          3 +
      placed);
}

std::uint32_t start_of(std::size_t bin) noexcept {
  return cell_of(std::clamp(static_cast<std::uint32_t>(kCurve[bin]), kLeast, kMost));
}

}  // namespace

Model::Model(std::uint32_t row_bits) : rows(row_bits) {
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
  begin_hints();
  for (std::size_t i = 0; i < refined_.size(); ++i)
    refined_[i].store(start_of(i % kBins), kRelaxed);
  for (std::size_t i = 0; i < settled_.size(); ++i)
    settled_[i].store(start_of(i % kBins), kRelaxed);
  forget();
}

void Model::forget() noexcept {
  for (Cell& cell : echoes_) cell.store(cell_of(kFirstEcho), kRelaxed);
  for (auto& weight : leanings_) weight.store(0, kRelaxed);
  rows.forget();
}

/// What rows are worth before anything was learned: about what they say.
void Model::begin_hints() noexcept {
  std::size_t at = 0;
  for (std::size_t order = 0; order < kHints; ++order) {
    for (std::size_t share = 0; share <= kUnlisted; ++share) {
      for (std::size_t rest = 0; rest < 2 * 2 * 3; ++rest) {
        const std::uint32_t p = share == kUnlisted
                                    ? kFirstUnlisted
                                    : curve(static_cast<std::int32_t>(share) * 256 + 128 - 2048);
        hint_cells_[at++].store(cell_of(std::clamp(p, 200U, 63500U)), kRelaxed);
      }
    }
  }
  for (std::size_t i = 0; i < hint_weights_.size(); ++i) {
    const std::size_t seen = i / (kHints * kSets) + 1;
    const bool pair = i % kHints == 1;
    hint_weights_[i].store(seen == 3 && !pair ? kFirstSecondHint : kFirstHint, kRelaxed);
  }
  // Places that go on with other tokens say less about one that the target named.
  for (std::size_t set = kSets; set < kSets + kHintedSets; ++set) {
    if (set % 2 != 0) continue;
    for (std::size_t input = 0; input < kWeights; ++input) {
      weights_[set * kWeights + input].store(kFirstUnplaced, kRelaxed);
    }
  }
}

void Model::read(const Sight& sight, Reading& reading) const noexcept {
  std::array<std::size_t, kSources> levels{};  // how many of each source have evidence
  std::size_t reached = 0;                     // how many the candidate has itself
  for (std::size_t source = 0; source < kSources; ++source) {
    const auto filled = [](std::uint64_t bytes) {
      return sizeof(bytes) - static_cast<std::size_t>(std::countl_zero(bytes)) / 8;
    };
    levels[source] = filled(sight.with[source] | sight.without[source]);
    reached = std::max(reached, filled(sight.with[source]));
  }
  const std::size_t pair = levels[0] * (kLevels + 1) + levels[1];
  const std::size_t seen = sight.newest >> 3;
  // Beside rows a token has rivals; there it counts whether it has places.
  const std::size_t other = seen == 0 ? sight.newest >> 2 & 1 : reached != 0 ? 1U : 0U;
  const std::size_t set =
      seen * kSets + pair * 4 + other + (reached == std::max(levels[0], levels[1]) ? 2U : 0U);
  reading.sight = sight;
  reading.weights = static_cast<std::uint16_t>(set);
  reading.level = static_cast<std::uint16_t>(reached == 0 ? kLevels : reached - 1);
  reading.active =
      static_cast<std::uint16_t>(((1U << levels[0]) - 1) | ((1U << levels[1]) - 1) << kLevels);
  const auto* weights = &weights_[set * kWeights];
  std::int64_t dot = std::int64_t{weights[kWeights - 1].load(kRelaxed)} * kBias;
  std::size_t i = 0;
  for (std::size_t source = 0; source < kSources; ++source) {
    std::uint64_t with = sight.with[source];
    std::uint64_t without = sight.without[source];
    std::size_t base = source * kLevels * 128 + (sight.newest >> source & 1);
    const auto* weight = weights + source * kLevels;
    std::int64_t sum = 0;
    for (std::size_t k = 0; k < levels[source]; ++k, with >>= 8, without >>= 8, base += 128) {
      const std::size_t cell = base + kClassOf[with & 255] * 16U + kClassOf[without & 255] * 2U;
      const std::int32_t input = kLogOdds[cells_[cell].load(kRelaxed) >> 20];
      reading.cell[i] = static_cast<std::uint16_t>(cell);
      reading.input[i++] = static_cast<std::int16_t>(input);
      sum += std::int64_t{weight[k].load(kRelaxed)} * input;
    }
    reading.sum[source] = static_cast<std::int16_t>(log_odds_of(sum));
    dot += sum;
  }
  reading.dot = dot;
}

void Model::judge(std::span<Trial> trials, std::span<const Reading> readings,
                  const Spot& spot) const noexcept {
  const std::size_t near = std::min(spot.depth, 7U);
  const std::size_t deep = spot.hints == nullptr ? near * kLevels : kRefined + near * (kLevels + 1);
  const std::uint16_t behind_last = leaning_set(spot.last, 1);
  std::array<std::int64_t, kLeaning> leaning;
  for (std::size_t i = 0; i < kLeaning; ++i) {
    leaning[i] = leanings_[std::size_t{behind_last} * kLeaning + i].load(kRelaxed);
  }
  std::uint32_t sum = 0;
  for (Trial& trial : trials) {
    const Reading& reading = readings[trial.reading];
    const auto* weights = &weights_[std::size_t{reading.weights} * kWeights + kInputs];
    trial.echo = echo_cells(trial.token, spot.last);
    const std::int32_t alone = heard(echoes_[trial.echo[0]]);
    const std::int32_t behind = heard(echoes_[trial.echo[1]]);
    trial.echoed = {static_cast<std::int16_t>(alone), static_cast<std::int16_t>(behind)};
    trial.leaning = {leaning_set(trial.token, 0), behind_last};
    const auto* own = &leanings_[std::size_t{trial.leaning[0]} * kLeaning];
    std::int64_t dot = reading.dot + (own[0].load(kRelaxed) + leaning[0]) * reading.sum[0] +
                       (own[1].load(kRelaxed) + leaning[1]) * reading.sum[1] +
                       (weights[0].load(kRelaxed) + (own[2].load(kRelaxed) + leaning[2])) * alone +
                       (weights[1].load(kRelaxed) + (own[3].load(kRelaxed) + leaning[3])) * behind +
                       (own[4].load(kRelaxed) + leaning[4]) * kBias;
    if (spot.hints != nullptr) dot += hear(*spot.hints, reading, trial);
    const std::int32_t log_odds = log_odds_of(dot);
    const Bin at = bin_of(log_odds);
    const std::size_t bins = (deep + reading.level) * kBins;
    trial.mixed = kMixed[static_cast<std::size_t>(log_odds + 2048)];
    trial.refined = static_cast<std::uint16_t>(bins + at.nearest());
    trial.estimate = static_cast<std::uint16_t>((trial.mixed + corrected(&refined_[bins], at)) / 2);
    sum += trial.estimate;
  }
  if (sum > kMost) {
    for (Trial& trial : trials) {
      trial.estimate = static_cast<std::uint16_t>(
          std::max<std::uint64_t>(kLeast, std::uint64_t{trial.estimate} * kMost / sum));
    }
  }
  const std::uint32_t likely = spot.path >> 16;
  const std::size_t sure = likely > 58982 ? 3 : likely > 39321 ? 2 : likely > 13107 ? 1 : 0;
  const std::uint32_t depth = spot.depth;
  const std::size_t far = depth < 3 ? depth : depth < 6 ? 3 : depth < 12 ? 4 : 5;
  const std::size_t bins = (sure * 6 + far) * kBins;
  for (Trial& trial : trials) {
    const Bin at = bin_of(kLogOdds[trial.estimate >> 4]);
    std::size_t own = bins;
    if (spot.hints != nullptr) own += (trial.places == 0 ? 2 : 1) * kSettled * kBins;
    trial.settled = static_cast<std::uint16_t>(own + at.nearest());
    trial.confidence =
        static_cast<std::uint16_t>(std::clamp(corrected(&settled_[own], at), kLeast, kMost));
  }
}

/// Fills in what the rows say about a trial's token; returns what that adds to the sum.
std::int64_t Model::hear(const Hints& hints, const Reading& reading, Trial& trial) const noexcept {
  const Sight& sight = reading.sight;
  const std::size_t placed = trial.places != 0                            ? 2
                             : (sight.without[0] | sight.without[1]) != 0 ? 1
                                                                          : 0;
  const auto* weights = &hint_weights_[(reading.weights - kSets) * kHints];
  std::int64_t dot = 0;
  for (std::size_t order = 0; order < kHints; ++order) {
    if (hints[order].count == 0) continue;
    const std::uint16_t cell = hint_cell(order, hints[order], trial.token, placed);
    const std::int32_t input = kLogOdds[hint_cells_[cell].load(kRelaxed) >> 20];
    trial.hint[order] = cell;
    trial.hinted[order] = static_cast<std::int16_t>(input);
    dot += std::int64_t{weights[order].load(kRelaxed)} * input;
  }
  return dot;
}

void Model::learn(std::span<const Trial> trials, std::span<const Reading> readings, Token truth) {
  for (const Trial& trial : trials) {
    const Reading& reading = readings[trial.reading];
    const bool right = trial.token == truth;
    const std::int32_t error = (right ? static_cast<std::int32_t>(kOne) : 0) - trial.mixed;
    const std::int32_t push = error * kRate;
    auto* weights = &weights_[std::size_t{reading.weights} * kWeights];
    std::size_t i = 0;
    for (std::uint32_t active = reading.active; active != 0; active &= active - 1, ++i) {
      nudge(weights[std::countr_zero(active)], nudge_of(reading.input[i], push));
      move<6, kCellLimit>(cells_[reading.cell[i]], right);
    }
    for (std::size_t k = 0; k < kEchoes; ++k) {
      nudge(weights[kInputs + k], nudge_of(trial.echoed[k], push));
      move<2, kEchoLimit>(echoes_[trial.echo[k]], right);
    }
    nudge(weights[kWeights - 1], nudge_of(kBias, push));
    for (std::size_t order = 0, seen = reading.sight.newest >> 3; seen != 0; seen >>= 1, ++order) {
      if ((seen & 1) == 0) continue;
      nudge(hint_weights_[(reading.weights - kSets) * kHints + order],
            nudge_of(trial.hinted[order], push));
      move<6, kCellLimit>(hint_cells_[trial.hint[order]], right);
    }
    const auto inputs = leaning_inputs(reading, trial);
    auto* own = &leanings_[std::size_t{trial.leaning[0]} * kLeaning];
    auto* last = &leanings_[std::size_t{trial.leaning[1]} * kLeaning];
    for (std::size_t k = 0; k < kLeaning; ++k) {
      const std::int32_t by = nudge_of(inputs[k], error * kLeaningRate);
      nudge(own[k], by);
      nudge(last[k], by);
    }
    move<20, kRefineLimit>(refined_[trial.refined], right);
  }
}

void Model::learn_choice(const Trial& trial, bool right) {
  move<20, kSettleLimit>(settled_[trial.settled], right);
}

std::vector<std::uint32_t> Model::words() const {
  std::vector<std::uint32_t> words;
  words.reserve(kWords);
  for (const auto& cell : cells_) words.push_back(cell.load(kRelaxed));
  for (const auto& weight : std::span(weights_).first(kSets * kWeights)) {
    words.push_back(static_cast<std::uint32_t>(weight.load(kRelaxed)));
  }
  for (const auto& cell : std::span(refined_).first(kRefined * kBins)) {
    words.push_back(cell.load(kRelaxed));
  }
  for (const auto& cell : std::span(settled_).first(kSettled * kBins)) {
    words.push_back(cell.load(kRelaxed));
  }
  for (const auto& cell : echoes_) words.push_back(cell.load(kRelaxed));
  for (const auto& weight : leanings_) {
    words.push_back(static_cast<std::uint32_t>(weight.load(kRelaxed)));
  }
  return words;
}

void Model::restore(const std::uint32_t* words) noexcept {
  for (auto& cell : cells_) cell.store(*words++, kRelaxed);
  for (auto& weight : std::span(weights_).first(kSets * kWeights)) {
    weight.store(static_cast<std::int32_t>(*words++), kRelaxed);
  }
  for (auto& cell : std::span(refined_).first(kRefined * kBins)) cell.store(*words++, kRelaxed);
  for (auto& cell : std::span(settled_).first(kSettled * kBins)) cell.store(*words++, kRelaxed);
  for (auto& cell : echoes_) cell.store(*words++, kRelaxed);
  for (auto& weight : leanings_) weight.store(static_cast<std::int32_t>(*words++), kRelaxed);
}

}  // namespace draftwood::recall
