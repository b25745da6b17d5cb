#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "draftwood/recall.h"
#include "refusal.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

using draftwood::Draft;
using draftwood::Recall;
using draftwood::RecallBudget;
using draftwood::RecallDraft;
using draftwood::RecallError;
using draftwood::RecallFault;
using draftwood::RecallPolicy;
using draftwood::RecallRequest;
using draftwood::Token;
using draftwood::TokenizerPrint;

namespace {

/// Token ids as they come from draftwood.as_tokens(): borrowed, never converted.
using Tokens = nb::ndarray<const Token, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Parents = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
/// [n + 1, k]
using Likely = nb::ndarray<const Token, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Logprobs = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Offsets = nb::ndarray<const std::int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
/// A value for each stream.
template <class T>
using Each = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using NoGil = nb::call_guard<draftwood::Unlocked>;

/// Tokens of one move that are taken in between two looks at signals; more than any draft is long.
constexpr std::size_t kObserved = std::size_t{1} << 17;

std::span<const Token> view(const Tokens& tokens) {
  return {tokens.data(), tokens.size()};
}

template <class T>
using Array = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

/// An array that owns its values.
template <class T>
Array<T> array(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return Array<T>(kept->data(), {kept->size()}, owner);
}

using Streams = nb::typed<nb::list, RecallRequest>;

std::vector<RecallRequest*> streams_of(const Streams& streams) {
  std::vector<RecallRequest*> all = draftwood::streams_of<RecallRequest>(streams);
  for (const RecallRequest* stream : all) {
    if (&stream->history() != &all.front()->history()) {
      draftwood::refuse_option("the batch holds streams of several histories; ask each by itself");
    }
  }
  return all;
}

/// All drafts end to end: tokens, parents, confidence, sources, and where each one begins.
using Joined = std::tuple<Array<Token>, Array<std::int32_t>, Array<float>, Array<std::uint8_t>,
                          Array<std::int64_t>>;

Joined joined(const std::vector<RecallRequest*>& streams) {
  std::vector<std::int64_t> offsets{0};
  std::size_t total = 0;
  for (const RecallRequest* stream : streams) {
    offsets.push_back(static_cast<std::int64_t>(total += stream->last().tokens.size()));
  }
  std::vector<Token> tokens;
  std::vector<std::int32_t> parents;
  std::vector<float> confidence;
  std::vector<std::uint8_t> sources;
  tokens.reserve(total);
  parents.reserve(total);
  confidence.reserve(total);
  sources.reserve(total);
  for (const RecallRequest* stream : streams) {
    const RecallDraft& draft = stream->last();
    tokens.insert(tokens.end(), draft.tokens.begin(), draft.tokens.end());
    parents.insert(parents.end(), draft.parents.begin(), draft.parents.end());
    confidence.insert(confidence.end(), draft.confidence.begin(), draft.confidence.end());
    sources.insert(sources.end(), draft.sources.begin(), draft.sources.end());
  }
  return {array(std::move(tokens)), array(std::move(parents)), array(std::move(confidence)),
          array(std::move(sources)), array(std::move(offsets))};
}

TokenizerPrint print_of(const nb::object& fingerprint) {
  TokenizerPrint print{};
  if (fingerprint.is_none()) return print;
  const auto bytes = nb::cast<nb::bytes>(fingerprint);
  if (bytes.size() != print.size()) throw std::invalid_argument("a fingerprint has 32 bytes");
  std::memcpy(print.data(), bytes.c_str(), print.size());
  return print;
}

const char* error_name(RecallFault fault) {
  switch (fault) {
    case RecallFault::kNotARecall:
      return "NotAHistory";
    case RecallFault::kNewer:
      return "HistoryTooNew";
    case RecallFault::kTruncated:
      return "HistoryTruncated";
    case RecallFault::kMalformed:
      return "HistoryMalformed";
    case RecallFault::kFingerprint:
      return "TokenizerMismatch";
    case RecallFault::kBusy:
      return "HistoryBusy";
    case RecallFault::kReplaced:
      return "HistoryReplaced";
  }
  return "HistoryError";
}

}  // namespace

void bind_recall(nb::module_& module) {
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const RecallError& error) {
      draftwood::set_error(error_name(error.fault()), error.what());
    }
  });

  nb::class_<RecallDraft, Draft>(module, "RecallDraft", "A draft and where its nodes were found.")
      .def_prop_ro(
          "sources",
          [](nb::handle_t<RecallDraft> self) {
            auto& sources = nb::cast<RecallDraft&>(self).sources;
            return nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<1>>(sources.data(),
                                                                     {sources.size()}, self);
          },
          "uint8 [n]; 0: the request's own text, 1: shared history, 2: a prediction, 9: the target's own rows");

  nb::class_<Recall>(module, "Recall", "History that requests share: a ring of tokens.")
      .def(nb::init<std::size_t, std::uint64_t, std::size_t>(), "max_tokens"_a, "seed"_a = 0,
           "quota"_a = 0)
      .def_static(
          "open",
          [](const nb::bytes& path, bool write, std::size_t max_tokens,
             const nb::object& fingerprint, std::uint64_t seed, std::size_t quota) {
            const std::string name = draftwood::path_of(path);
            const TokenizerPrint print = print_of(fingerprint);
            const draftwood::Unlocked unlocked;
            return std::shared_ptr<Recall>(Recall::open(name, write, max_tokens, print, seed, quota,
                                                        draftwood::run_signal_handlers)
                                               .release(),
                                           draftwood::UnlockedDelete<Recall>());
          },
          "path"_a, "write"_a, "max_tokens"_a, "fingerprint"_a.none(), "seed"_a = 0, "quota"_a = 0)
      .def("begin", &Recall::begin, NoGil(), "A name for a sequence that is to be added.")
      .def(
          "add",
          [](Recall& self, Recall::Sequence sequence, draftwood::NamespaceKey name,
             const Tokens& context, const Tokens& tokens) {
            // Parts of this size lie in the history as they would without slices.
            auto before = view(context);
            draftwood::in_slices(view(tokens), self.part(), [&](std::span<const Token> part) {
              self.add(sequence, name, before, part);
              before = part;
            });
          },
          "sequence"_a, "name"_a, "context"_a.noconvert(), "tokens"_a.noconvert(),
          "Add tokens to a sequence, behind context that is not drafted.")
      .def(
          "remove",
          [](Recall& self, Recall::Sequence sequence) {
            return self.remove(sequence, draftwood::run_signal_handlers);
          },
          "sequence"_a, NoGil(), "Blank a sequence; returns how many tokens that were.")
      .def(
          "remove_namespace",
          [](Recall& self, draftwood::NamespaceKey name) {
            return self.remove_namespace(name, draftwood::run_signal_handlers);
          },
          "name"_a, NoGil(), "Blank a namespace; returns how many tokens that were.")
      .def(
          "flush", [](Recall& self) { self.flush(draftwood::run_signal_handlers); }, NoGil(),
          "Hand what was written to the disk.")
      .def("held", &Recall::held, "name"_a, NoGil(), "Slots in blocks of a namespace.")
      .def_prop_ro("capacity", &Recall::capacity)
      .def_prop_ro("written", &Recall::written)
      .def_prop_ro("nbytes", &Recall::nbytes, NoGil())
      .def_prop_ro("writable", &Recall::writable)
      .def_prop_ro("clean", &Recall::clean);

  nb::class_<draftwood::TokenTexts>(module, "TokenTexts", "The bytes that token ids stand for.")
      .def(
          "__init__",
          [](draftwood::TokenTexts* self, const nb::bytes& names, const Tokens& ids) {
            const std::string_view all(names.c_str(), names.size());
            const auto tokens = view(ids);
            const draftwood::Unlocked unlocked;
            new (self) draftwood::TokenTexts(all, tokens);
          },
          "names"_a, "ids"_a.noconvert(), "Tokens as the vocabulary writes them, each ended by 0.")
      .def(
          "of",
          [](const draftwood::TokenTexts& self, draftwood::Token token) {
            const std::string_view text = self.of(token);
            return nb::bytes(text.data(), text.size());
          },
          "token"_a, "The bytes of a token; none: a special one, or not known.")
      .def(
          "token",
          [](const draftwood::TokenTexts& self, const nb::bytes& text) {
            return self.token({text.c_str(), text.size()});
          },
          "text"_a, "The token of a text; -1: there is none.")
      .def_prop_ro("nbytes", &draftwood::TokenTexts::nbytes);

  nb::class_<RecallRequest>(module, "RecallRequest", "One request: its own ring and its drafts.")
      .def(
          "__init__",
          [](RecallRequest* self, const std::shared_ptr<Recall>& shared, const Tokens& prompt,
             draftwood::NamespaceKey name, bool chain, float floor, std::uint32_t share,
             const std::vector<Tokens>& predictions, std::shared_ptr<draftwood::TokenTexts> texts) {
            const auto ids = view(prompt);
            std::vector<std::span<const Token>> likely;
            for (const Tokens& prediction : predictions) likely.push_back(view(prediction));
            const draftwood::Unlocked unlocked;
            new (self) RecallRequest(shared, ids, name, RecallPolicy{chain, floor, share}, likely,
                                     std::move(texts), draftwood::run_signal_handlers);
          },
          "shared"_a, "prompt"_a.noconvert(), nb::kw_only(), "name"_a, "chain"_a, "floor"_a,
          "share"_a, "predictions"_a, "texts"_a.none() = nb::none())
      .def(
          "propose",
          [](RecallRequest& self, std::uint32_t nodes, std::uint32_t reach, float floor) {
            const draftwood::Unlocked unlocked;
            return RecallDraft(self.propose({nodes, reach, floor}));
          },
          "nodes"_a, "reach"_a, "floor"_a = 0.0F,
          "At most `nodes` nodes, no path longer than `reach`, none less likely than `floor`.")
      .def(
          "observe",
          [](RecallRequest& self, const Tokens& tokens) {
            draftwood::in_slices(view(tokens), kObserved,
                                 [&](std::span<const Token> part) { self.observe(part); });
          },
          "tokens"_a.noconvert(), "Move past tokens and learn from them.")
      .def(
          "keep_rows",
          [](RecallRequest& self, const Tokens& tokens, const Parents& parents,
             const Likely& likely, const Logprobs& logprobs) {
            if (likely.shape(0) != logprobs.shape(0) || likely.shape(1) != logprobs.shape(1)) {
              draftwood::refuse_option("rows: a log-probability a token");
            }
            const draftwood::Unlocked unlocked;
            self.keep_rows({view(tokens),
                            {parents.data(), parents.size()},
                            likely.shape(1),
                            {likely.data(), likely.size()},
                            {logprobs.data(), logprobs.size()}});
          },
          "tokens"_a.noconvert(), "parents"_a.noconvert(), "likely"_a.noconvert(),
          "logprobs"_a.noconvert(),
          "Keep the target's k likeliest tokens after the context and each node of a draft.")
      .def("close", &RecallRequest::close, NoGil(), "Share what is left; give the memory back.")
      .def("abandon", &RecallRequest::abandon, NoGil(), "Give the memory back; share nothing more.")
      .def_prop_ro("length", &RecallRequest::length)
      .def_prop_ro("nbytes", &RecallRequest::nbytes)
      .def_prop_ro("sequence", &RecallRequest::sequence);

  module.def(
      "propose_all",
      [](const Streams& streams, const Each<std::uint32_t>& nodes, const Each<std::uint32_t>& reach,
         const Each<float>& floor, std::uint32_t threads) {
        const std::vector<RecallRequest*> all = streams_of(streams);
        if (nodes.size() != all.size() || reach.size() != all.size() || floor.size() != all.size())
          draftwood::refuse_option("nodes, reach and floor: one a stream");
        std::vector<RecallBudget> budgets;
        budgets.reserve(all.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
          budgets.push_back({nodes.data()[i], reach.data()[i], floor.data()[i]});
        }
        {
          const draftwood::Unlocked unlocked;
          draftwood::propose_all(all, budgets, threads);
        }
        return joined(all);
      },
      "streams"_a, "nodes"_a.noconvert(), "reach"_a.noconvert(), "floor"_a.noconvert(), "threads"_a,
      "Drafts of many streams, end to end: tokens, parents, confidence, sources, offsets [n + 1].");
  module.def(
      "observe_all",
      [](const Streams& streams, const Tokens& tokens, const Offsets& offsets,
         std::uint32_t threads) {
        const std::vector<RecallRequest*> all = streams_of(streams);
        const auto ids = view(tokens);
        std::vector<std::span<const Token>> parts;
        if (offsets.size() != all.size() + 1)
          draftwood::refuse_option("offsets: one a stream, and the end");
        for (std::size_t i = 0; i < all.size(); ++i) {
          const auto first = static_cast<std::size_t>(offsets.data()[i]);
          const auto last = static_cast<std::size_t>(offsets.data()[i + 1]);
          if (first > last || last > ids.size()) draftwood::refuse_option("offsets do not ascend");
          parts.push_back(ids.subspan(first, last - first));
        }
        const draftwood::Unlocked unlocked;
        draftwood::observe_all(all, parts, threads);
      },
      "streams"_a, "tokens"_a.noconvert(), "offsets"_a.noconvert(), "threads"_a,
      "Move many streams past their tokens, which stand end to end.");
}
