// Token trees in an engine's layout: a fixed number of slots a row, and an attention mask.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace draftwood {

/// Fills [slots, slots] of `mask` and [slots] of `depths` for one tree of parents.size() <= slots
/// (with `root`: < slots) nodes. Entry (i, j) of the mask: slot i sees slot j, that is itself and
/// its ancestors. `root`: slot 0 is the last committed token, which every node sees. A slot beyond
/// the tree sees itself and the root. `depths`: tokens from the committed text (0: the root's).
void fill_tree_mask(std::span<const std::int32_t> parents, std::size_t slots, bool root,
                    std::uint8_t* mask, std::int32_t* depths);

}  // namespace draftwood
