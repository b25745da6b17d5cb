// Token ids as they come from draftwood.as_tokens(): a contiguous int32 array, borrowed, never
// converted. What numpy made is read as it lies; nanobind's look through the buffer protocol, which
// takes longer than many a draft, is for all others.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "draftwood/draft.h"
#include "numpy_array.h"

namespace draftwood {

struct TokenView {
  using Other =
      nanobind::ndarray<const Token, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;
  std::span<const Token> ids;
  std::optional<Other> other;  ///< keeps an array that is not numpy's
};

}  // namespace draftwood

namespace nanobind::detail {

template <>
struct type_caster<draftwood::TokenView> {
  using Other = draftwood::TokenView::Other;
  NB_TYPE_CASTER(draftwood::TokenView, make_caster<Other>::Name)

  bool from_python(handle source, std::uint8_t flags, cleanup_list* cleanup) noexcept {
    if (const auto ids = draftwood::numpy::read(source)) {
      value.ids = *ids;
      return true;
    }
    make_caster<Other> caster;
    if (!caster.from_python(source, flags & ~static_cast<std::uint8_t>(cast_flags::convert),
                            cleanup)) {
      return false;
    }
    value.other = std::move(caster.value);
    value.ids = {value.other->data(), value.other->size()};
    return true;
  }
};

}  // namespace nanobind::detail
