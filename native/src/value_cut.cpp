#include <algorithm>
#include <cstddef>
#include <vector>

#include "draftwood/sequences.h"

namespace draftwood {
namespace {

struct Valued {
  double value;
  std::uint32_t node;  ///< among the nodes of all drafts
};

constexpr auto kDearer = [](const Valued& a, const Valued& b) { return a.value > b.value; };

/// Merges neighboring runs until one is left. Of equals the earlier stays first.
void merge(std::vector<Valued>& nodes, std::vector<std::size_t>& ends) {
  thread_local std::vector<Valued> other;
  other.resize(nodes.size());
  while (ends.size() > 2) {
    std::size_t kept = 1;
    for (std::size_t i = 0; i + 1 < ends.size(); i += 2) {
      const auto at = [&](std::size_t end) {
        return nodes.begin() + static_cast<std::ptrdiff_t>(end);
      };
      const std::size_t middle = ends[i + 1];
      const std::size_t last = i + 2 < ends.size() ? ends[i + 2] : middle;
      std::merge(at(ends[i]), at(middle), at(middle), at(last),
                 other.begin() + static_cast<std::ptrdiff_t>(ends[i]), kDearer);
      ends[kept++] = last;
    }
    ends.resize(kept);
    nodes.swap(other);
  }
}

}  // namespace

void cut_by_value(std::span<const RecallDraft* const> drafts, const ValueCut& cut,
                  std::vector<std::uint8_t>& keep) {
  thread_local std::vector<Valued> nodes;
  thread_local std::vector<std::size_t> ends;
  thread_local std::vector<double> paths;
  thread_local std::vector<std::uint32_t> depths;
  nodes.clear();
  ends.assign(1, 0);
  for (const RecallDraft* draft : drafts) {
    const std::size_t count = draft->tokens.size();
    if (count == 0) continue;
    paths.resize(count);
    depths.resize(count);
    double last = 1.0;
    bool falling = true;
    for (std::size_t i = 0; i < count; ++i) {
      const auto sure = static_cast<double>(draft->confidence[i]);
      // What is no number is worth nothing.
      double value = sure >= 0.0 && sure <= 1.0 ? sure : sure > 1.0 ? 1.0 : 0.0;
      std::uint32_t depth = 0;
      if (draft->parents[i] != kRoot) {
        const auto parent = static_cast<std::size_t>(draft->parents[i]);
        value *= paths[parent];
        depth = depths[parent] + 1;
      }
      paths[i] = value;
      depths[i] = depth;
      if (!cut.discounts.empty()) {
        value *= cut.discounts[std::min<std::size_t>(depth, cut.discounts.size() - 1)];
      }
      falling = falling && value <= last;
      last = value;
      nodes.push_back({value, static_cast<std::uint32_t>(nodes.size())});
    }
    if (!falling) {
      std::stable_sort(nodes.begin() + static_cast<std::ptrdiff_t>(ends.back()), nodes.end(),
                       kDearer);
    }
    ends.push_back(nodes.size());
  }
  keep.assign(nodes.size(), 0);
  if (nodes.empty() || cut.rises.empty()) return;
  merge(nodes, ends);
  const std::size_t most = std::min(nodes.size(), cut.rises.size() - 1);
  double best = -cut.rises[0];
  double worth = 0.0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < most; ++i) {
    worth += nodes[i].value;
    if (const double gain = worth - cut.rises[i + 1]; gain > best) {
      best = gain;
      count = i + 1;
    }
  }
  for (std::size_t i = 0; i < count; ++i) keep[nodes[i].node] = 1;
}

}  // namespace draftwood
