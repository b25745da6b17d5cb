#include "draftwood/sequences.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "draftwood/tree_mask.h"
#include "numpy_array.h"
#include "token_view.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

using draftwood::RecallRequest;
using draftwood::Sequences;
using draftwood::StepDrafts;
using draftwood::StepFault;
using draftwood::StepLimits;
using draftwood::StepRow;
using draftwood::Token;
using draftwood::TokenView;
using draftwood::ValueCut;

namespace {

using Slots = nb::typed<nb::list, int>;
using Rows = nb::typed<nb::list, nb::any>;
using Parts = nb::typed<nb::tuple, nb::any, nb::ellipsis>;
using Matrix = nb::ndarray<const Token, nb::ndim<2>, nb::device::cpu>;
template <class T>
using Column = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<Sequences::Slot> slots_of(const Slots& slots) {
  std::vector<Sequences::Slot> all;
  all.reserve(slots.size());
  for (nb::handle slot : slots) all.push_back(nb::cast<Sequences::Slot>(slot));
  return all;
}

/// One integer as a token; false for what is none (bool among it).
bool read_token(PyObject* source, Token& token) {
  if (PyBool_Check(source)) return false;
  int overflow = 0;
  long value = -1;
  if (PyLong_Check(source)) {
    value = PyLong_AsLongAndOverflow(source, &overflow);
  } else if (PyIndex_Check(source)) {
    const nb::object number = nb::steal(PyNumber_Index(source));
    if (number.is_valid()) value = PyLong_AsLongAndOverflow(number.ptr(), &overflow);
  } else {
    return false;
  }
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return false;
  }
  if (overflow != 0 || value < 0 || value > 0x7FFFFFFF) return false;
  token = static_cast<Token>(value);
  return true;
}

/// Rows as Python has them: int32 arrays are read where they lie, other sequences of integers are
/// copied into `kept`. Rows that are neither are marked.
std::vector<StepRow> rows_of(const Rows& rows, std::deque<std::vector<Token>>& kept) {
  std::vector<StepRow> all;
  all.reserve(rows.size());
  for (nb::handle row : rows) {
    if (const auto ids = draftwood::numpy::read(row)) {
      all.push_back({*ids});
      continue;
    }
    const nb::object items =
        PyList_Check(row.ptr()) ? nb::borrow(row) : nb::steal(PySequence_List(row.ptr()));
    if (!items.is_valid()) {
      PyErr_Clear();
      all.push_back({{}, false});
      continue;
    }
    std::vector<Token>& tokens = kept.emplace_back();
    const Py_ssize_t count = PyList_Size(items.ptr());
    tokens.resize(static_cast<std::size_t>(count));
    bool valid = true;
    for (Py_ssize_t i = 0; valid && i < count; ++i) {
      valid = read_token(PyList_GetItem(items.ptr(), i), tokens[static_cast<std::size_t>(i)]);
    }
    all.push_back({tokens, valid});
  }
  return all;
}

/// Rows of a matrix, from `starts` (null: from the beginning) up to `ends`.
std::vector<StepRow> rows_of(const Matrix& matrix, const Column<std::int64_t>* starts,
                             const Column<std::int64_t>& ends, std::size_t count) {
  const auto width = static_cast<std::int64_t>(matrix.shape(1));
  std::vector<StepRow> all;
  all.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const bool given = i < matrix.shape(0) && i < ends.size() &&
                       (starts == nullptr || i < starts->size()) &&
                       (matrix.stride(1) == 1 || width < 2);
    const std::int64_t first = given && starts != nullptr ? starts->data()[i] : 0;
    const std::int64_t last = given ? ends.data()[i] : -1;
    if (first < 0 || last < first || last > width) {
      all.push_back({{}, false});
      continue;
    }
    const Token* const row =
        matrix.data() + static_cast<std::int64_t>(i) * matrix.stride(0) + first;
    all.push_back({{row, static_cast<std::size_t>(last - first)}});
  }
  return all;
}

/// The cut of a step; no rises: none.
std::optional<ValueCut> cut_of(const std::optional<Column<double>>& rises,
                               const std::optional<Column<double>>& discounts) {
  if (!rises) return std::nullopt;
  ValueCut cut{{rises->data(), rises->size()}, {}};
  if (discounts) cut.discounts = {discounts->data(), discounts->size()};
  return cut;
}

Parts stepped(Sequences& self, const std::vector<Sequences::Slot>& slots,
              const std::vector<StepRow>& rows, bool whole, const std::vector<std::int64_t>& rooms,
              const StepLimits& limits, const std::optional<ValueCut>& cut) {
  if (rows.size() != slots.size() || (!rooms.empty() && rooms.size() != slots.size())) {
    throw std::invalid_argument("one row of new tokens, and one room, for each key");
  }
  auto drafts = std::make_unique<StepDrafts>();
  {
    const draftwood::Unlocked unlocked;
    self.step(slots, rows, whole, rooms, limits, cut ? &*cut : nullptr, *drafts);
  }
  StepDrafts& made = *drafts;
  const nb::capsule owner(drafts.release(),
                          [](void* p) noexcept { delete static_cast<StepDrafts*>(p); });
  const auto view = [&](auto& values) {
    return draftwood::numpy::view(std::span(values.data(), values.size()), owner);
  };
  nb::object faults = nb::none();
  if (made.faulty) {
    nb::list kinds;
    for (const StepFault fault : made.faults) kinds.append(static_cast<int>(fault));
    faults = std::move(kinds);
  }
  return Parts(nb::make_tuple(view(made.tokens), view(made.parents), view(made.confidence),
                              view(made.sources), view(made.offsets), view(made.last),
                              view(made.came), faults));
}

}  // namespace

void bind_sequences(nb::module_& module) {
  nb::class_<Sequences>(module, "Sequences", "Texts of sequences that an engine decodes.")
      .def(nb::init<Token, std::size_t>(), "vocab_size"_a, "context_limit"_a)
      .def(
          "open",
          [](Sequences& self, const TokenView& text, std::shared_ptr<RecallRequest> request) {
            return self.open(text.ids, std::move(request));
          },
          "text"_a.noconvert(), "request"_a.none(), "A slot for a sequence that stands after text.")
      .def("close", &Sequences::close, "slot"_a)
      .def("mute", &Sequences::mute, "slot"_a, "Draft no more for the sequence.")
      .def(
          "length",
          [](const Sequences& self, Sequences::Slot slot) { return self.text(slot).size(); },
          "slot"_a)
      .def(
          "end",
          [](const Sequences& self, Sequences::Slot slot, std::size_t count) {
            const auto text = self.text(slot);
            auto* kept = new std::vector<Token>(
                text.end() - static_cast<std::ptrdiff_t>(std::min(count, text.size())), text.end());
            const nb::capsule owner(
                kept, [](void* p) noexcept { delete static_cast<std::vector<Token>*>(p); });
            return nb::ndarray<nb::numpy, Token, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
          },
          "slot"_a, "count"_a, "int32: the last tokens of the text.")
      .def(
          "step",
          [](Sequences& self, const Slots& slots, const Rows& rows, bool whole,
             const std::vector<std::int64_t>& rooms, std::uint32_t nodes, std::uint32_t depth,
             float floor, bool chain, std::uint32_t threads,
             const std::optional<Column<double>>& rises,
             const std::optional<Column<double>>& discounts) {
            std::deque<std::vector<Token>> kept;
            return stepped(self, slots_of(slots), rows_of(rows, kept), whole, rooms,
                           {nodes, depth, floor, chain, threads}, cut_of(rises, discounts));
          },
          "slots"_a, "rows"_a, "whole"_a, "rooms"_a, "nodes"_a, "depth"_a, "floor"_a, "chain"_a,
          "threads"_a, "rises"_a.none(), "discounts"_a.none(),
          "Move, draft and cut: tokens, parents, confidence, sources, offsets, last, came, faults.")
      .def(
          "step_matrix",
          [](Sequences& self, const Slots& slots, const Matrix& matrix,
             const std::optional<Column<std::int64_t>>& starts, const Column<std::int64_t>& ends,
             const std::vector<std::int64_t>& rooms, std::uint32_t nodes, std::uint32_t depth,
             float floor, bool chain, std::uint32_t threads,
             const std::optional<Column<double>>& rises,
             const std::optional<Column<double>>& discounts) {
            return stepped(self, slots_of(slots),
                           rows_of(matrix, starts ? &*starts : nullptr, ends, slots.size()),
                           !starts, rooms, {nodes, depth, floor, chain, threads},
                           cut_of(rises, discounts));
          },
          "slots"_a, "matrix"_a.noconvert(), "starts"_a.none(), "ends"_a, "rooms"_a, "nodes"_a,
          "depth"_a, "floor"_a, "chain"_a, "threads"_a, "rises"_a.none(), "discounts"_a.none(),
          "The same for rows of a matrix; without starts the rows are whole texts.")
      .def(
          "recognize",
          [](Sequences& self, const Rows& rows, std::size_t leap, std::uint64_t patience) {
            std::deque<std::vector<Token>> kept;
            std::vector<Sequences::Slot> missed;
            auto found = self.recognize(rows_of(rows, kept), leap, patience, missed);
            return std::pair(std::move(found), std::move(missed));
          },
          "rows"_a, "leap"_a, "patience"_a,
          "Slots that rows continue (-1: none); slots long missed.")
      .def(
          "recognize_matrix",
          [](Sequences& self, const Matrix& matrix, const Column<std::int64_t>& ends,
             std::size_t leap, std::uint64_t patience) {
            std::vector<Sequences::Slot> missed;
            auto found =
                self.recognize(rows_of(matrix, nullptr, ends, ends.size()), leap, patience, missed);
            return std::pair(std::move(found), std::move(missed));
          },
          "matrix"_a.noconvert(), "ends"_a, "leap"_a, "patience"_a)
      .def("hand_out", &Sequences::hand_out, "drafted"_a, "accepted"_a,
           "Count drafts that were made elsewhere.")
      .def_prop_ro("drafted", &Sequences::drafted)
      .def_prop_ro("accepted", &Sequences::accepted)
      .def_prop_ro("longest", &Sequences::longest)
      .def_prop_ro("total", &Sequences::total)
      .def_prop_ro("nbytes", &Sequences::nbytes);

  module.def(
      "fill_tree_masks",
      [](const TokenView& parents, const TokenView& offsets, std::size_t slots, bool root,
         const nb::ndarray<bool, nb::ndim<3>, nb::c_contig, nb::device::cpu>& mask,
         const nb::ndarray<std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& depths) {
        const std::size_t rows = mask.shape(0);
        if (offsets.ids.size() != rows + 1 || depths.shape(0) != rows || depths.shape(1) != slots ||
            mask.shape(1) != slots || mask.shape(2) != slots) {
          throw std::invalid_argument("mask [rows, slots, slots], depths [rows, slots]");
        }
        for (std::size_t row = 0; row < rows; ++row) {
          const auto first = static_cast<std::size_t>(offsets.ids[row]);
          const auto last = static_cast<std::size_t>(offsets.ids[row + 1]);
          if (first > last || last > parents.ids.size() || last - first + (root ? 1 : 0) > slots) {
            throw std::invalid_argument("a tree has more nodes than slots");
          }
          draftwood::fill_tree_mask(
              parents.ids.subspan(first, last - first), slots, root,
              reinterpret_cast<std::uint8_t*>(mask.data()) + row * slots * slots,
              depths.data() + row * slots);
        }
      },
      "parents"_a, "offsets"_a, "slots"_a, "root"_a, "mask"_a.noconvert(), "depths"_a.noconvert(),
      "Fill masks [rows, slots, slots] and depths [rows, slots] of trees that stand end to end.");
}
