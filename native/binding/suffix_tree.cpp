#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <span>
#include <utility>

#include "draftwood/suffix_tree.h"

namespace nb = nanobind;
using namespace nb::literals;

using draftwood::Counts;
using draftwood::Draft;
using draftwood::Shape;
using draftwood::SuffixPolicy;
using draftwood::SuffixTree;
using draftwood::Token;

namespace {

/// Token ids as they come from draftwood.as_tokens(): borrowed, never converted.
using Tokens = nb::ndarray<const Token, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const Token> view(const Tokens& tokens) {
  return {tokens.data(), tokens.size()};
}

template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> array(std::vector<T>& values, nb::handle owner) {
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(values.data(), {values.size()}, owner);
}

template <class T>
auto field(std::vector<T> Draft::* member) {
  return [member](nb::handle_t<Draft> self) { return array(nb::cast<Draft&>(self).*member, self); };
}

}  // namespace

void bind_suffix_tree(nb::module_& module) {
  nb::class_<Draft>(
      module, "Draft",
      "What an index proposes: a token tree in flat arrays of n nodes, parents first.")
      .def_prop_ro("tokens", field(&Draft::tokens), "int32 [n]")
      .def_prop_ro("parents", field(&Draft::parents), "int32 [n]; -1 or an earlier node")
      .def_prop_ro("confidence", field(&Draft::confidence),
                   "float32 [n]; P(accepted | parent accepted)")
      .def_prop_ro("probability", field(&Draft::probability), "float32 [n]; P(accepted)")
      .def_ro("score", &Draft::score, "Sum of `probability`: expected accepted tokens")
      .def_ro("match", &Draft::match, "Tokens of context that the draft continues")
      .def("__len__", [](const Draft& draft) { return draft.tokens.size(); });

  nb::class_<SuffixPolicy>(module, "SuffixPolicy", "How a context is continued.")
      .def(
          "__init__",
          [](SuffixPolicy* self, float alpha, float offset, float floor, bool tree, bool paper) {
            new (self) SuffixPolicy{alpha, offset, floor, tree ? Shape::kTree : Shape::kLinear,
                                    paper ? Counts::kPaper : Counts::kCode};
          },
          nb::kw_only(), "alpha"_a, "offset"_a, "floor"_a, "tree"_a, "paper"_a);

  using Unlocked = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<SuffixTree>(module, "SuffixTree",
                         "Counts every suffix of every sequence, cut at `depth` tokens.")
      .def(nb::init<std::int32_t>(), "depth"_a)
      .def("begin", &SuffixTree::begin, "Open an empty sequence; returns its number.")
      .def(
          "extend",
          [](SuffixTree& self, SuffixTree::Sequence sequence, const Tokens& tokens) {
            const std::span<const Token> ids = view(tokens);
            const nb::gil_scoped_release unlocked;
            self.extend(sequence, ids);
          },
          "sequence"_a, "tokens"_a.noconvert(), "Append tokens (int32, contiguous) to a sequence.")
      .def("finish", &SuffixTree::finish, "sequence"_a, Unlocked(),
           "Give back what only a growing sequence needs.")
      .def("remove", &SuffixTree::remove, "sequence"_a, Unlocked(), "Take a sequence out.")
      .def(
          "speculate",
          [](const SuffixTree& self, const Tokens& context, const SuffixPolicy& policy,
             std::int32_t nodes, std::int32_t reach) {
            const std::span<const Token> ids = view(context);
            const SuffixPolicy values = policy;
            const nb::gil_scoped_release unlocked;
            return self.speculate(ids, values, nodes, reach);
          },
          "context"_a.noconvert(), "policy"_a, "nodes"_a, "reach"_a,
          "The draft of the highest score over all suffixes of a context (int32, contiguous).")
      .def(
          "count",
          [](const SuffixTree& self, const Tokens& pattern) {
            const std::span<const Token> ids = view(pattern);
            const nb::gil_scoped_release unlocked;
            return self.count(ids);
          },
          "pattern"_a.noconvert(), "How many suffixes begin with a pattern (int32, contiguous).")
      .def("check", &SuffixTree::check, Unlocked(),
           "Walk the whole tree; empty where its invariants hold, else what does not.")
      .def_prop_ro("depth", &SuffixTree::depth)
      .def_prop_ro("tokens", &SuffixTree::tokens)
      .def_prop_ro("sequences", &SuffixTree::sequences)
      .def_prop_ro("nodes", &SuffixTree::nodes)
      .def_prop_ro("nbytes", &SuffixTree::nbytes);
}
