#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "draftwood/suffix_stream.h"
#include "draftwood/suffix_tree.h"
#include "draftwood/thread_pool.h"
#include "numpy_array.h"
#include "refusal.h"
#include "token_view.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

using draftwood::Counts;
using draftwood::Draft;
using draftwood::Shape;
using draftwood::SuffixDraft;
using draftwood::SuffixPolicy;
using draftwood::SuffixStream;
using draftwood::SuffixTree;
using draftwood::ThreadPool;
using draftwood::Token;
using draftwood::TokenView;

namespace {

template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

/// A getter of one of a draft's arrays. Most contexts are unknown: their empty arrays are all one.
template <class T>
auto field(std::vector<T> Draft::* member) {
  return [member](nb::handle_t<Draft> self) -> nb::object {
    static T nothing[1];
    static nb::handle empty;  // the GIL guards it
    std::vector<T>& values = nb::inst_ptr<Draft>(self)->*member;
    if (!values.empty()) return draftwood::numpy::view(std::span<T>(values), self);
    if (!empty.is_valid()) {
      empty = draftwood::numpy::view(std::span<T>(nothing, 0), nb::none()).release();
    }
    return nb::borrow(empty);
  };
}

/// A numpy array that owns what was a vector.
template <class T>
Array<T> owned(std::vector<T> values) {
  auto held = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = held->data();
  const std::size_t size = held->size();
  const nb::capsule owner(held.release(),
                          [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Array<T>(data, {size}, owner);
}

template <class T>
using Flat = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
std::span<const T> view_all(const Flat<T>& array, std::size_t size, const char* what) {
  if (array.size() != size) draftwood::refuse_option(what);
  return {array.data(), array.size()};
}

using Streams = nb::typed<nb::list, SuffixStream>;
/// What a draft is made of: tokens, parents, confidence, source [n], and the draft's witness.
using Parts = nb::typed<nb::tuple, Array<Token>, Array<std::int32_t>, Array<float>,
                        Array<std::uint8_t>, std::int64_t>;

/// Tokens after which a tree that grows lets others in, and Ctrl-C.
constexpr std::size_t kSlice = 1U << 14U;

constexpr std::size_t kMostNodes = 1U << 15U;

/// A draft's parts; nothing where it has no nodes. `owner` keeps the draft.
std::optional<Parts> parts(SuffixDraft& draft, nb::handle owner) {
  static const std::vector<std::uint8_t> sources[] = {std::vector<std::uint8_t>(kMostNodes, 0),
                                                      std::vector<std::uint8_t>(kMostNodes, 1)};
  const std::size_t size = draft.tokens.size();
  if (size > kMostNodes) throw std::length_error("a draft of more than 2^15 nodes");
  if (size == 0) return std::nullopt;
  using draftwood::numpy::view;
  const std::span<const std::uint8_t> source(sources[draft.shared ? 1 : 0].data(), size);
  return Parts(nb::make_tuple(
      view(std::span(draft.tokens), owner), view(std::span(draft.parents), owner),
      view(std::span(draft.confidence), owner), view(source, nb::none()), draft.witness));
}

void bind_stream(nb::module_& module) {
  using NoGil = nb::call_guard<draftwood::Unlocked>;
  nb::class_<ThreadPool>(module, "ThreadPool", "Threads that work on a batch.")
      .def(nb::init<unsigned>(), "threads"_a)
      .def_prop_ro("threads", &ThreadPool::threads);

  nb::class_<SuffixStream>(module, "SuffixStream",
                           "One request: its own tree, and its place in the shared one.")
      .def(
          "__init__",
          [](SuffixStream* self, std::shared_ptr<SuffixTree> shared, const TokenView& prompt,
             const SuffixPolicy& policy, const nb::typed<nb::list, TokenView>& predictions) {
            const std::span<const Token> ids = prompt.ids;
            std::vector<std::span<const Token>> likely;
            for (nb::handle prediction : predictions) {
              likely.push_back(nb::cast<TokenView>(prediction).ids);
            }
            const draftwood::Unlocked unlocked;
            new (self) SuffixStream(std::move(shared), ids, policy, draftwood::run_signal_handlers,
                                    likely);
          },
          "shared"_a, "prompt"_a.noconvert(), "policy"_a, "predictions"_a)
      .def(
          "propose",
          [](const SuffixStream& self, std::int32_t nodes, std::int32_t reach, float floor) {
            SuffixDraft draft;
            {
              const draftwood::Unlocked unlocked;
              draft = self.propose(nodes, reach, floor);
            }
            if (draft.tokens.empty()) return std::optional<Parts>();
            const nb::object owner = nb::cast(std::move(draft));
            return parts(nb::cast<SuffixDraft&>(owner), owner);
          },
          "nodes"_a, "reach"_a, "floor"_a,
          "The better of the two trees' drafts as tokens, parents, confidence, source [n] and its "
          "witness; None where both are empty.")
      .def("guess", &SuffixStream::propose, "nodes"_a, "reach"_a, "floor"_a, NoGil(),
           "The better of the two trees' drafts.")
      .def(
          "observe",
          [](SuffixStream& self, const TokenView& tokens) {
            draftwood::require_ids(tokens.ids);
            draftwood::in_slices(tokens.ids, kSlice,
                                 [&](std::span<const Token> part) { self.observe(part); });
          },
          "tokens"_a.noconvert(), "Move past what was generated (int32, contiguous).")
      .def("close", &SuffixStream::close, NoGil(), "Drop the own tree; the output stays shared.")
      .def_prop_ro("sequence", &SuffixStream::sequence)
      .def_prop_ro("generated", &SuffixStream::generated)
      .def_prop_ro("nbytes", &SuffixStream::nbytes);

  module.def(
      "suffix_propose_all",
      [](const Streams& streams, const Flat<Token>& nodes, const Flat<Token>& reach,
         const Flat<float>& floors, ThreadPool& pool) {
        const std::vector<SuffixStream*> all = draftwood::streams_of<SuffixStream>(streams);
        const auto most = view_all<Token>(nodes, all.size(), "nodes: one a stream");
        const auto deepest = view_all<Token>(reach, all.size(), "reach: one a stream");
        const auto floor = view_all<float>(floors, all.size(), "floors: one a stream");
        auto drafts = std::make_unique<std::vector<SuffixDraft>>();
        {
          const draftwood::Unlocked unlocked;
          *drafts = draftwood::propose_all(all, most, deepest, floor, pool);
        }
        std::vector<SuffixDraft>& kept = *drafts;
        const nb::capsule owner(drafts.release(), [](void* p) noexcept {
          delete static_cast<std::vector<SuffixDraft>*>(p);
        });
        nb::typed<nb::list, std::optional<Parts>> found;
        for (SuffixDraft& draft : kept) found.append(parts(draft, owner));
        return found;
      },
      "streams"_a, "nodes"_a.noconvert(), "reach"_a.noconvert(), "floors"_a.noconvert(), "pool"_a,
      "What `propose` gives for each stream: one call, many threads.");
  module.def(
      "suffix_observe_all",
      [](const Streams& streams, const TokenView& tokens, const Flat<std::int64_t>& offsets,
         ThreadPool& pool) {
        const std::vector<SuffixStream*> all = draftwood::streams_of<SuffixStream>(streams);
        const auto at =
            view_all<std::int64_t>(offsets, all.size() + 1, "offsets: one a stream, and the end");
        const std::span<const Token> ids = tokens.ids;
        std::vector<std::span<const Token>> parts;
        parts.reserve(all.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
          if (at[i] < 0 || at[i] > at[i + 1] || static_cast<std::size_t>(at[i + 1]) > ids.size()) {
            draftwood::refuse_option("offsets do not ascend from 0 to the number of tokens");
          }
          parts.push_back(ids.subspan(static_cast<std::size_t>(at[i]),
                                      static_cast<std::size_t>(at[i + 1] - at[i])));
        }
        const draftwood::Unlocked unlocked;
        draftwood::observe_all(all, parts, pool);
      },
      "streams"_a, "tokens"_a.noconvert(), "offsets"_a.noconvert(), "pool"_a,
      "Move streams past their tokens, which stand end to end.");
}

}  // namespace

#define DRAFT_ARRAY(name, type) \
  "def " name "(self) -> Annotated[NDArray[numpy." type "], dict(shape=(None,))]"

void bind_suffix_tree(nb::module_& module) {
  nb::class_<Draft>(
      module, "Draft",
      "What an index proposes: a token tree in flat arrays of n nodes, parents first.")
      .def_prop_ro("tokens", field(&Draft::tokens), nb::sig(DRAFT_ARRAY("tokens", "int32")),
                   "int32 [n]")
      .def_prop_ro("parents", field(&Draft::parents), nb::sig(DRAFT_ARRAY("parents", "int32")),
                   "int32 [n]; -1 or an earlier node")
      .def_prop_ro("confidence", field(&Draft::confidence),
                   nb::sig(DRAFT_ARRAY("confidence", "float32")),
                   "float32 [n]; P(accepted | parent accepted)")
      .def_prop_ro("probability", field(&Draft::probability),
                   nb::sig(DRAFT_ARRAY("probability", "float32")), "float32 [n]; P(accepted)")
      .def_ro("score", &Draft::score, "Sum of `probability`: expected accepted tokens")
      .def_ro("match", &Draft::match, "Tokens of context that the draft continues")
      .def("__len__", [](const Draft& draft) { return draft.tokens.size(); });

  nb::class_<SuffixDraft, Draft>(module, "SuffixDraft", "A draft and where it was found.")
      .def(nb::init<>(), "The empty draft.")
      .def_ro("witness", &SuffixDraft::witness, "A sequence that says it; -1: none that is left")
      .def_ro("shared", &SuffixDraft::shared, "Whether it is from the tree of all requests");

  nb::class_<SuffixPolicy>(module, "SuffixPolicy", "How a context is continued.")
      .def(
          "__init__",
          [](SuffixPolicy* self, float alpha, float offset, float floor, bool tree, bool paper,
             bool witness) {
            new (self) SuffixPolicy{alpha,
                                    offset,
                                    floor,
                                    tree ? Shape::kTree : Shape::kLinear,
                                    paper ? Counts::kPaper : Counts::kCode,
                                    witness};
          },
          nb::kw_only(), "alpha"_a, "offset"_a, "floor"_a, "tree"_a, "paper"_a, "witness"_a);

  using NoGil = nb::call_guard<draftwood::Unlocked>;
  nb::class_<SuffixTree>(module, "SuffixTree",
                         "Counts every suffix of every sequence, cut at `depth` tokens.")
      .def(nb::init<std::int32_t>(), "depth"_a)
      .def("begin", &SuffixTree::begin, NoGil(), "Open an empty sequence; returns its number.")
      .def(
          "extend",
          [](SuffixTree& self, SuffixTree::Sequence sequence, const TokenView& tokens) {
            draftwood::require_ids(tokens.ids);
            draftwood::in_slices(tokens.ids, kSlice,
                                 [&](std::span<const Token> part) { self.extend(sequence, part); });
          },
          "sequence"_a, "tokens"_a.noconvert(), "Append tokens (int32, contiguous) to a sequence.")
      .def("finish", &SuffixTree::finish, "sequence"_a, NoGil(),
           "Give back what only a growing sequence needs.")
      .def("compact", &SuffixTree::compact, "work"_a, NoGil(),
           "Look at about so many records to give memory back; True where nothing is left to do.")
      .def(
          "remove",
          [](SuffixTree& self, SuffixTree::Sequence sequence) {
            while (!self.evict(sequence, kSlice)) draftwood::run_signal_handlers();
          },
          "sequence"_a, NoGil(), "Take a sequence out.")
      .def("evict", &SuffixTree::evict, "sequence"_a, "work"_a, NoGil(),
           "Take about `work` suffixes of a sequence out; True when all are.")
      .def(
          "speculate",
          [](const SuffixTree& self, const TokenView& context, const SuffixPolicy& policy,
             std::int32_t nodes, std::int32_t reach) {
            const std::span<const Token> ids = context.ids;
            const SuffixPolicy values = policy;
            const draftwood::Unlocked unlocked;
            return self.speculate(ids, values, nodes, reach);
          },
          "context"_a.noconvert(), "policy"_a, "nodes"_a, "reach"_a,
          "The draft of the highest score over all suffixes of a context (int32, contiguous).")
      .def(
          "count",
          [](const SuffixTree& self, const TokenView& pattern) {
            const std::span<const Token> ids = pattern.ids;
            const draftwood::Unlocked unlocked;
            return self.count(ids);
          },
          "pattern"_a.noconvert(), "How many suffixes begin with a pattern (int32, contiguous).")
      .def(
          "extents",
          [](const SuffixTree& self) {
            std::vector<std::int64_t> flat;
            {
              const draftwood::Unlocked unlocked;
              for (const auto& extent : self.extents()) {
                flat.push_back(extent.sequence);
                flat.push_back(extent.tokens);
              }
            }
            return owned(std::move(flat));
          },
          "int64 [2 n]: each sequence and how many tokens it has, at one instant.")
      .def(
          "text",
          [](const SuffixTree& self, SuffixTree::Sequence sequence, std::uint32_t most) {
            std::vector<Token> tokens;
            {
              const draftwood::Unlocked unlocked;
              tokens = self.text(sequence, most);
            }
            return owned(std::move(tokens));
          },
          "sequence"_a, "most"_a, "The first tokens of a sequence, at most so many: int32 [n].")
      .def("check", &SuffixTree::check, NoGil(),
           "Walk the whole tree; empty where its invariants hold, else what does not.")
      .def_prop_ro("depth", &SuffixTree::depth)
      .def_prop_ro("tokens", &SuffixTree::tokens, NoGil())
      .def_prop_ro("sequences", &SuffixTree::sequences, NoGil())
      .def_prop_ro("nodes", &SuffixTree::nodes, NoGil())
      .def_prop_ro("nbytes", &SuffixTree::nbytes, NoGil())
      .def_prop_ro("idle", &SuffixTree::idle, NoGil());
  bind_stream(module);
}
