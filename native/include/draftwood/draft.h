// A draft: the token tree that an index proposes, in flat arrays.

#pragma once

#include <cstdint>
#include <vector>

namespace draftwood {

/// Called now and then by long calls; what it throws ends the call.
using Pause = void (*)();

using Token = std::int32_t;

/// Parent of a first token: the committed context.
inline constexpr std::int32_t kRoot = -1;

/// Parents stand before children, best first: any prefix of the arrays is a valid draft.
struct Draft {
  std::vector<Token> tokens;
  std::vector<std::int32_t> parents;  ///< kRoot or an earlier node
  std::vector<float> confidence;      ///< P(accepted | parent accepted)
  std::vector<float> probability;     ///< P(accepted): product of the confidences down the path
  float score = 0.0F;                 ///< expected accepted tokens: sum of `probability`
  std::int32_t match = 0;             ///< tokens of context that the draft continues
};

}  // namespace draftwood
