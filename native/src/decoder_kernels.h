// What a pass computes, compiled once for each set of instructions.

#pragma once

#include <cstddef>
#include <cstdint>

namespace draftwood {

/// The outputs of a linear layer that one thread computes. y [rows, .] gets `outputs` columns, of
/// which `width` would be a row; `add`: they are added to what is there.
struct ProductTask {
  const float* weight;
  const float* bias;
  std::size_t inputs;
  std::size_t outputs;
  const float* x;
  std::size_t x_width;
  std::size_t rows;
  float* y;
  std::size_t width;
  bool add;
};

/// The attention of one sequence's rows to one group of heads. Queries [rows, each, size] lie with
/// `query_width` floats from row to row; keys and values [end, size]. `out` lies as the queries.
/// `visible`: [rows, end] or null. `scratch`: `attention_scratch` floats.
struct AttentionTask {
  const float* queries;
  std::size_t query_width;
  const float* keys;
  const float* values;
  float* out;
  std::size_t out_width;
  std::size_t rows;
  std::size_t each;
  std::size_t size;
  std::size_t end;
  float scale;
  const std::uint8_t* visible;
  float* scratch;
};

/// Keys that are scored before their values are added up.
inline constexpr std::size_t kKeyBlock = 64;

/// Floats that attention needs beside its result, for queries = rows * each.
constexpr std::size_t attention_scratch(std::size_t queries, std::size_t size) {
  const std::size_t padded = (queries + 15) / 16 * 16;
  return padded * (size + kKeyBlock + 3 + size) + 16;
}

struct Kernels {
  const char* name;
  void (*multiply)(const ProductTask&);
  void (*attend)(const AttentionTask&);
  /// out [n] = x / rms(x) * weight; both may be one array.
  void (*norm)(const float* x, const float* weight, float epsilon, std::size_t n, float* out);
  /// out [n] = activation(gate) * up; gelu: by tanh, else SiLU.
  void (*activate)(const float* gate, const float* up, std::size_t n, bool gelu, float* out);
  /// The k largest of n logits, the largest first, equals by the lower id; k <= n. Returns the sum of
  /// e^(logit - the largest) over all. Of logits that are no numbers there are fewer, and the sum is none.
  float (*likeliest)(const float* logits, std::size_t n, std::size_t k, std::int32_t* tokens,
                     float* found);
};

/// Null where they were not built.
const Kernels* avx512_kernels();
const Kernels* avx2_kernels();
const Kernels* any_kernels();

}  // namespace draftwood
