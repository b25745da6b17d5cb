#include "draftwood/tree_mask.h"

#include <algorithm>
#include <cstring>

namespace draftwood {

void fill_tree_mask(std::span<const std::int32_t> parents, std::size_t slots, bool root,
                    std::uint8_t* mask, std::int32_t* depths) {
  std::memset(mask, 0, slots * slots);
  const std::size_t first = root ? 1 : 0;
  for (std::size_t slot = 0; slot < slots; ++slot) {
    std::uint8_t* const row = mask + slot * slots;
    depths[slot] = slot < first ? 0 : 1;
    if (slot >= first && slot - first < parents.size() && parents[slot - first] >= 0) {
      const std::size_t parent = static_cast<std::size_t>(parents[slot - first]) + first;
      std::memcpy(row, mask + parent * slots, slots);
      depths[slot] = depths[parent] + 1;
    }
    if (root) row[0] = 1;
    row[slot] = 1;
  }
}

}  // namespace draftwood
