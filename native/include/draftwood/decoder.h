// The layers of a decoder (Llama and its relatives) over a few rows on a CPU, in float32.
//
// A pass over a draft has to read every weight once, and the arithmetic for eight rows fits into the
// time that the reading takes. General matrix products do not get there: they are made for many
// rows. Here a few rows of a weight are read for all rows of the pass while the next ones are on
// their way from memory, from the weight as it is stored: nothing is laid out anew.
//
// Every row is computed by the same operations in the same order, whatever other rows the pass has:
// a chain's rows are to the bit those of passes of one row each. A tree's rows are too, but for the
// order in which keys come.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace draftwood {

class ThreadPool;

/// A linear layer as PyTorch stores it: weight [outputs, inputs], bias [outputs] or null. Borrowed.
struct Linear {
  const float* weight = nullptr;
  std::size_t outputs = 0;
  std::size_t inputs = 0;
  const float* bias = nullptr;
};

/// An RMS norm; no weight: there is none.
struct Norm {
  const float* weight = nullptr;
  float epsilon = 0.0F;
};

/// What is between gate and up: SiLU, or GELU by its formula with tanh.
enum class Activation : std::uint8_t { kSilu, kGeluTanh };

/// One decoder layer. `heads_in`: queries, keys and values, or one layer that gives all three;
/// `gate_up`: gate and up, or one that gives both. `attended`, `fed`: norms of what attention and the
/// feed-forward part add (Gemma 2 and 3). `query`, `key`: norms of single heads (Qwen 3, Gemma 3).
/// `kind`: which of a pass's turns and masks are this layer's.
struct DecoderLayer {
  Norm before, between, attended, fed, query, key;
  std::vector<Linear> heads_in, gate_up;
  Linear heads_out, down;
  std::size_t kind = 0;
};

/// What the layers of a model have in common. `size`: of a head. `scale`: of attention scores.
struct DecoderShape {
  std::size_t hidden = 0;
  std::size_t heads = 0;
  std::size_t groups = 0;
  std::size_t size = 0;
  std::size_t inner = 0;
  float scale = 1.0F;
  Activation activation = Activation::kSilu;
};

/// Where rows are turned: cosine and sine [rows, width] of each row's position, width <= a head's
/// size. The first half of the sine has its sign turned.
struct Turns {
  const float* cosine = nullptr;
  const float* sine = nullptr;
  std::size_t width = 0;
};

/// The rows of one sequence in a pass. `first`: among the pass's rows. `end`: keys, its own rows'
/// included, which stand last, from `end - rows`. `visible`: for each kind of layer, [rows, end]: which
/// keys a row sees; null: all up to its own, a chain.
struct DecoderSpan {
  std::size_t first = 0;
  std::size_t rows = 0;
  std::size_t end = 0;
  std::size_t slot = 0;
  std::vector<const std::uint8_t*> visible;
};

/// Keys and values of one layer, [slots, groups, capacity, size], written and read by a pass. The
/// strides count floats.
struct LayerCache {
  float* keys = nullptr;
  float* values = nullptr;
  std::size_t slot_stride = 0;
  std::size_t group_stride = 0;
};

/// A model's layers; weights are borrowed. Any number of threads may run passes at a time.
class Decoder {
 public:
  explicit Decoder(const DecoderShape& shape) : shape_(shape) {}

  /// Adds the next layer; none while a pass runs.
  void add(DecoderLayer layer);

  /// Passes `x` [rows, hidden], of all spans one after the other, through all layers, in place. The
  /// rows' keys and values are written to the caches first: of `caches.size()` layers, with room for
  /// each span's `end`. `turns`: of each kind.
  void run(float* x, std::span<const Turns> turns, std::span<const DecoderSpan> spans,
           std::span<const LayerCache> caches, ThreadPool& pool) const;

  [[nodiscard]] const DecoderShape& shape() const { return shape_; }
  [[nodiscard]] std::size_t layers() const { return layers_.size(); }

 private:
  DecoderShape shape_;
  std::vector<DecoderLayer> layers_;
};

/// y [rows, outputs] = x [rows, inputs] W^T + b, after `norm` of the rows of x where that has a weight.
void multiply(const Linear& linear, const Norm& norm, const float* x, std::size_t rows, float* y,
              ThreadPool& pool);

/// The k likeliest tokens of each row of logits [rows, vocab], the likeliest first, equals by the
/// lower id, and their log-probabilities: both [rows, k], 1 <= k <= vocab. Of a row that holds what is
/// no number all log-probabilities are none.
void likeliest(const float* logits, std::size_t rows, std::size_t vocab, std::size_t k,
               std::int32_t* tokens, float* logprobs);

/// The instructions that all this uses here: "avx512", "avx2", or "any" (what every processor of the
/// kind has).
[[nodiscard]] const char* decoder_instructions();

}  // namespace draftwood
