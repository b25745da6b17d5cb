#include "draftwood/draft.h"

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "numpy_array.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

/// Whether arrays are what draft.py says of a draft without proposal and evidence, with ids below
/// `limit` and no confidence above `sure`. Of arrays that numpy describes otherwise than usual it
/// says no; who wants to know why looks at them in Python.
bool is_sound(nb::handle tokens, nb::handle parents, nb::handle confidence, nb::handle source,
              std::int64_t limit, float sure) {
  const auto ids = draftwood::numpy::read<std::int32_t>(tokens);
  const auto above = draftwood::numpy::read<std::int32_t>(parents);
  const auto likely = draftwood::numpy::read<float>(confidence);
  const auto from = draftwood::numpy::read<std::uint8_t>(source);
  if (!ids || !above || !likely || !from) return false;
  const std::size_t n = ids->size();
  if (above->size() != n || likely->size() != n || from->size() != n) return false;
  for (std::size_t i = 0; i < n; ++i) {
    if ((*ids)[i] < 0 || (*ids)[i] >= limit) return false;
    if ((*above)[i] < draftwood::kRoot || (*above)[i] >= static_cast<std::int64_t>(i)) return false;
    if (!((*likely)[i] >= 0.0F && (*likely)[i] <= sure)) return false;  // NaN, too
  }
  return true;
}

}  // namespace

void bind_draft(nb::module_& module) {
  module.def("is_sound", &is_sound, "tokens"_a, "parents"_a, "confidence"_a, "source"_a, "limit"_a,
             "sure"_a, "Whether arrays are a draft's: a tree of ids below limit; False: look why.");
}
