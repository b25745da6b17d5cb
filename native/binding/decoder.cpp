#include "draftwood/decoder.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "draftwood/thread_pool.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

using draftwood::Activation;
using draftwood::Decoder;
using draftwood::DecoderLayer;
using draftwood::DecoderShape;
using draftwood::DecoderSpan;
using draftwood::LayerCache;
using draftwood::Linear;
using draftwood::Norm;
using draftwood::ThreadPool;
using draftwood::Turns;
using draftwood::Unlocked;

namespace {

template <class T, std::size_t Dimensions>
using Array = nb::ndarray<T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
using Weight = std::tuple<Array<const float, 2>, std::optional<Array<const float, 1>>>;
using Scale = std::optional<std::tuple<Array<const float, 1>, float>>;
using Turn = std::tuple<Array<const float, 2>, Array<const float, 2>>;
using Mask = std::optional<Array<const std::uint8_t, 2>>;
using Span = std::tuple<std::size_t, std::size_t, std::size_t, std::vector<Mask>>;
using Kept = std::tuple<Array<float, 4>, Array<float, 4>>;

void require(bool holds, const char* what) {
  if (!holds) throw std::invalid_argument(what);
}

Linear linear_of(const Weight& weight) {
  const auto& [matrix, bias] = weight;
  require(!bias || bias->shape(0) == matrix.shape(0), "a bias has one number for each output");
  return {matrix.data(), matrix.shape(0), matrix.shape(1), bias ? bias->data() : nullptr};
}

Norm norm_of(const Scale& norm, std::size_t size) {
  if (!norm) return {};
  const auto& [weight, epsilon] = *norm;
  require(weight.shape(0) == size, "a norm has one number for each of a row");
  return {weight.data(), epsilon};
}

std::vector<Linear> linears_of(const std::vector<Weight>& weights, std::size_t inputs,
                               std::size_t outputs) {
  std::vector<Linear> all;
  std::size_t sum = 0;
  for (const Weight& weight : weights) {
    all.push_back(linear_of(weight));
    require(all.back().inputs == inputs, "a weight has as many inputs as a row has numbers");
    sum += all.back().outputs;
  }
  require(sum == outputs, "weights of one input have the outputs of its next step in all");
  return all;
}

/// Threads for calls of so many, made when first asked for; the GIL guards them.
class Pools {
 public:
  ThreadPool& of(unsigned threads) {
    require(threads > 0, "a pass needs a thread");
    std::unique_ptr<ThreadPool>& pool = pools_[threads];
    if (!pool) pool = std::make_unique<ThreadPool>(threads);
    return *pool;
  }

 private:
  std::map<unsigned, std::unique_ptr<ThreadPool>> pools_;
};

/// The layers of a model, and the arrays that they are read from.
class Layers {
 public:
  Layers(std::size_t hidden, std::size_t heads, std::size_t groups, std::size_t size,
         std::size_t inner, float scale, bool gelu)
      : decoder_({hidden, heads, groups, size, inner, scale,
                  gelu ? Activation::kGeluTanh : Activation::kSilu}) {
    require(hidden > 0 && size > 0 && inner > 0 && groups > 0 && heads % groups == 0,
            "sizes are positive, and heads a multiple of groups");
  }
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  void add(std::size_t kind, const Scale& before, const std::vector<Weight>& heads_in,
           const Weight& heads_out, const Scale& attended, const Scale& between,
           const std::vector<Weight>& gate_up, const Weight& down, const Scale& fed,
           const Scale& query, const Scale& key) {
    const DecoderShape& shape = decoder_.shape();
    require(before.has_value() && between.has_value(), "a layer norms its rows twice");
    DecoderLayer layer;
    layer.kind = kind;
    layer.before = norm_of(before, shape.hidden);
    layer.between = norm_of(between, shape.hidden);
    layer.attended = norm_of(attended, shape.hidden);
    layer.fed = norm_of(fed, shape.hidden);
    layer.query = norm_of(query, shape.size);
    layer.key = norm_of(key, shape.size);
    layer.heads_in =
        linears_of(heads_in, shape.hidden, (shape.heads + 2 * shape.groups) * shape.size);
    layer.gate_up = linears_of(gate_up, shape.hidden, 2 * shape.inner);
    layer.heads_out = linears_of({heads_out}, shape.heads * shape.size, shape.hidden)[0];
    layer.down = linears_of({down}, shape.inner, shape.hidden)[0];
    decoder_.add(std::move(layer));
    kept_.emplace_back(before, heads_in, heads_out, attended, between, gate_up, down, fed, query,
                       key);
    kinds_ = std::max(kinds_, kind + 1);
  }

  void run(const Array<float, 2>& x, const std::vector<Turn>& turns, const std::vector<Span>& spans,
           const std::vector<Kept>& caches, unsigned threads) {
    const DecoderShape& shape = decoder_.shape();
    require(x.shape(1) == shape.hidden, "a row is as wide as the model");
    require(turns.size() == kinds_ && caches.size() == decoder_.layers(),
            "turns are given for each kind of layer, caches for each layer");
    std::vector<DecoderSpan> all_spans;
    std::size_t rows = 0, end = 0, slot = 0;
    for (const auto& [at, count, keys, masks] : spans) {
      require(count > 0 && keys >= count && masks.size() == kinds_,
              "a span has rows, keys at least as many, and a mask or None for each kind");
      DecoderSpan span{rows, count, keys, at, {}};
      for (const Mask& mask : masks) {
        require(!mask || (mask->shape(0) == count && mask->shape(1) == keys),
                "a mask is of a span's rows and keys");
        span.visible.push_back(mask ? mask->data() : nullptr);
      }
      all_spans.push_back(std::move(span));
      rows += count;
      end = std::max(end, keys);
      slot = std::max(slot, at);
    }
    require(rows == x.shape(0), "the rows of a pass are those of its spans");
    std::vector<Turns> all_turns;
    for (const auto& [cosine, sine] : turns) {
      require(cosine.shape(0) == rows && sine.shape(0) == rows &&
                  cosine.shape(1) == sine.shape(1) && cosine.shape(1) <= shape.size,
              "turns are of each row, no wider than a head");
      all_turns.push_back({cosine.data(), sine.data(), cosine.shape(1)});
    }
    std::vector<LayerCache> all_caches;
    for (const auto& [keys, values] : caches) {
      for (const Array<float, 4>* part : {&keys, &values}) {
        require(part->shape(0) > slot && part->shape(1) == shape.groups &&
                    part->shape(2) >= end && part->shape(2) == keys.shape(2) &&
                    part->shape(3) == shape.size,
                "a cache is [slots, groups, capacity, size], with room for the pass");
      }
      const std::size_t group = keys.shape(2) * shape.size;
      all_caches.push_back({keys.data(), values.data(), group * shape.groups, group});
    }
    ThreadPool& pool = pools_.of(threads);
    const Unlocked unlocked;
    decoder_.run(x.data(), all_turns, all_spans, all_caches, pool);
  }

  /// y [rows, outputs] of a linear layer, normed before where there is a norm.
  void multiply(const Array<const float, 2>& x, const Weight& weight, const Scale& norm,
                const Array<float, 2>& y, unsigned threads) {
    const Linear linear = linear_of(weight);
    require(x.shape(1) == linear.inputs && y.shape(0) == x.shape(0) &&
                y.shape(1) == linear.outputs,
            "a product is [rows, inputs] by [outputs, inputs] into [rows, outputs]");
    const Norm normed = norm_of(norm, linear.inputs);
    ThreadPool& pool = pools_.of(threads);
    const Unlocked unlocked;
    draftwood::multiply(linear, normed, x.data(), x.shape(0), y.data(), pool);
  }

 private:
  using Arrays = std::tuple<Scale, std::vector<Weight>, Weight, Scale, Scale, std::vector<Weight>,
                            Weight, Scale, Scale, Scale>;
  Decoder decoder_;
  std::vector<Arrays> kept_;
  std::size_t kinds_ = 0;
  Pools pools_;
};

}  // namespace

void bind_decoder(nb::module_& module) {
  nb::class_<Layers>(module, "Decoder", "A model's layers over few rows, in float32 on a CPU.")
      .def(nb::init<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t, float, bool>(),
           nb::kw_only(), "hidden"_a, "heads"_a, "groups"_a, "size"_a, "inner"_a, "scale"_a,
           "gelu"_a)
      .def("add", &Layers::add, nb::kw_only(), "kind"_a, "before"_a.none(),
           "heads_in"_a.noconvert(), "heads_out"_a.noconvert(), "attended"_a.none(),
           "between"_a.none(), "gate_up"_a.noconvert(), "down"_a.noconvert(), "fed"_a.none(),
           "query"_a.none(), "key"_a.none(),
           "Add a layer; weights are (weight, bias or None), norms (weight, epsilon) or None. Arrays "
           "are borrowed and kept alive. ValueError where shapes do not fit.")
      .def("run", &Layers::run, "x"_a.noconvert(), "turns"_a, "spans"_a, "caches"_a, "threads"_a,
           "Pass x [rows, hidden] through all layers in place; the rows' keys and values are cached. "
           "turns: (cosine, sine) of each row by kind of layer. spans: (slot, rows, keys, masks by "
           "kind). caches: (keys, values) by layer.")
      .def("multiply", &Layers::multiply, "x"_a.noconvert(), "weight"_a, "norm"_a.none(),
           "y"_a.noconvert(), "threads"_a,
           "y = norm(x) W^T + b for few rows; ValueError where shapes do not fit.");
  module.def(
      "likeliest",
      [](const Array<const float, 2>& logits, const Array<std::int32_t, 2>& tokens,
         const Array<float, 2>& logprobs) {
        const std::size_t rows = logits.shape(0), k = tokens.shape(1);
        require(tokens.shape(0) == rows && logprobs.shape(0) == rows && logprobs.shape(1) == k,
                "tokens and logprobs have k columns and a row for each row of logits");
        require(1 <= k && k <= logits.shape(1), "k is at least 1 and at most the vocabulary");
        const Unlocked unlocked;
        draftwood::likeliest(logits.data(), rows, logits.shape(1), k, tokens.data(),
                             logprobs.data());
      },
      "logits"_a.noconvert(), "tokens"_a.noconvert(), "logprobs"_a.noconvert(),
      "Writes each row's k likeliest tokens, the likeliest first, and their log-probabilities.");
  module.def("decoder_instructions", &draftwood::decoder_instructions,
             "The instructions that Decoder uses here: avx512, avx2 or any.");
}
