#include "draftwood/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "crew.h"
#include "decoder_kernels.h"
#include "draftwood/thread_pool.h"

namespace draftwood {
namespace {

const Kernels& kernels() {
  static const Kernels* const best = [] {
#if defined(__x86_64__)
    if (avx512_kernels() != nullptr && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return avx512_kernels();
    }
    if (avx2_kernels() != nullptr && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma")) {
      return avx2_kernels();
    }
#endif
    return any_kernels();
  }();
  return *best;
}

constexpr std::size_t kPart = std::size_t{1} << 16;  // floats of a weight that are worth a thread's turn
constexpr std::size_t kStep = 24;                    // outputs that fill whole tiles

using Buffer = std::unique_ptr<float[]>;

Buffer buffer(std::size_t floats) { return std::make_unique_for_overwrite<float[]>(floats); }

/// Sends those who follow home, where the leader throws, too.
struct CrewEnd {
  Crew& crew;
  ~CrewEnd() { crew.done(); }
};

/// Lets the threads of a pool work on the steps that `lead` makes.
template <class Lead>
void with_crew(ThreadPool& pool, const Lead& lead) {
  Crew crew;
  if (pool.threads() < 2) return lead(crew);
  pool.run(pool.threads(), [&](std::size_t item) {
    if (item > 0) return crew.follow();
    const CrewEnd end{crew};
    lead(crew);
  });
}

/// Products of one input, side by side in rows of y. `add`: to what is there.
void products(Crew& crew, std::size_t threads, std::span<const Linear> linears, const float* x,
              std::size_t rows, float* y, std::size_t width, bool add) {
  std::size_t column = 0;
  std::vector<ProductTask> tasks;
  for (const Linear& linear : linears) {
    std::size_t part = linear.outputs;
    if (threads > 1) {
      const std::size_t least = (kPart / linear.inputs + kStep) / kStep * kStep;
      part = std::max(least, (linear.outputs / (4 * threads) + kStep) / kStep * kStep);
    }
    for (std::size_t first = 0; first < linear.outputs; first += part) {
      const float* const bias = linear.bias == nullptr ? nullptr : linear.bias + first;
      tasks.push_back({linear.weight + first * linear.inputs, bias, linear.inputs,
                       std::min(part, linear.outputs - first), x, linear.inputs, rows,
                       y + column + first, width, add});
    }
    column += linear.outputs;
  }
  crew.step(tasks.size(), [&](std::size_t i) { kernels().multiply(tasks[i]); });
}

/// Rows [rows, n] by a norm. `out` and `x` may be one.
void norm_rows(const Norm& norm, const float* x, std::size_t rows, std::size_t n, float* out) {
  for (std::size_t i = 0; i < rows; ++i) {
    kernels().norm(x + i * n, norm.weight, norm.epsilon, n, out + i * n);
  }
}

/// Rotary positions, halves apart (RoFormer, arXiv 2104.09864, as Llama lays it out).
void turn(float* head, const float* cosine, const float* sine, std::size_t width) {
  const std::size_t half = width / 2;
  for (std::size_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosine[i] + b * sine[i];
    head[i + half] = b * cosine[i + half] + a * sine[i + half];
  }
}

/// One pass: its buffers, and its steps for each layer.
class Pass {
 public:
  Pass(const DecoderShape& shape, float* x, std::span<const Turns> turns,
       std::span<const DecoderSpan> spans, std::size_t threads, Crew& crew)
      : shape_(shape), x_(x), turns_(turns), spans_(spans), threads_(threads), crew_(crew) {
    for (const DecoderSpan& span : spans) {
      rows_ = std::max(rows_, span.first + span.rows);
      most_ = std::max(most_, span.rows);
    }
    normed_ = buffer(rows_ * shape.hidden);
    heads_ = buffer(rows_ * heads_width());
    attended_ = buffer(rows_ * shape.heads * shape.size);
    fed_ = buffer(rows_ * 2 * shape.inner);
    inner_ = buffer(rows_ * shape.inner);
    scratch_width_ = attention_scratch(most_ * (shape.heads / shape.groups), shape.size);
    scratch_ = buffer(scratch_width_ * spans.size() * shape.groups);
  }

  void layer(const DecoderLayer& layer, const LayerCache& cache) {
    const std::size_t hidden = shape_.hidden, inner = shape_.inner;
    norm_rows(layer.before, x_, rows_, hidden, normed_.get());
    products(crew_, threads_, layer.heads_in, normed_.get(), rows_, heads_.get(), heads_width(), false);
    place_heads(layer, cache);
    attend(layer, cache);
    add(layer.heads_out, attended_.get(), layer.attended);
    norm_rows(layer.between, x_, rows_, hidden, normed_.get());
    products(crew_, threads_, layer.gate_up, normed_.get(), rows_, fed_.get(), 2 * inner, false);
    for (std::size_t i = 0; i < rows_; ++i) {
      const float* const gate = fed_.get() + i * 2 * inner;
      const bool gelu = shape_.activation == Activation::kGeluTanh;
      kernels().activate(gate, gate + inner, inner, gelu, inner_.get() + i * inner);
    }
    add(layer.down, inner_.get(), layer.fed);
  }

 private:
  [[nodiscard]] std::size_t heads_width() const {
    return (shape_.heads + 2 * shape_.groups) * shape_.size;
  }

  /// Norms and turns queries and keys, and writes keys and values to the cache.
  void place_heads(const DecoderLayer& layer, const LayerCache& cache) {
    const Turns& turns = turns_[layer.kind];
    const std::size_t size = shape_.size;
    for (const DecoderSpan& span : spans_) {
      for (std::size_t i = 0; i < span.rows; ++i) {
        const std::size_t row = span.first + i, at = span.end - span.rows + i;
        float* head = heads_.get() + row * heads_width();
        const float* const cosine = turns.cosine + row * turns.width;
        const float* const sine = turns.sine + row * turns.width;
        for (std::size_t h = 0; h < shape_.heads + shape_.groups; ++h, head += size) {
          const Norm& norm = h < shape_.heads ? layer.query : layer.key;
          if (norm.weight != nullptr) kernels().norm(head, norm.weight, norm.epsilon, size, head);
          turn(head, cosine, sine, turns.width);
          if (h < shape_.heads) continue;
          const std::size_t group = h - shape_.heads;
          const std::size_t place = span.slot * cache.slot_stride + group * cache.group_stride + at * size;
          std::memcpy(cache.keys + place, head, size * sizeof(float));
          std::memcpy(cache.values + place, head + shape_.groups * size, size * sizeof(float));
        }
      }
    }
  }

  void attend(const DecoderLayer& layer, const LayerCache& cache) {
    const std::size_t size = shape_.size, each = shape_.heads / shape_.groups;
    crew_.step(spans_.size() * shape_.groups, [&](std::size_t i) {
      const DecoderSpan& span = spans_[i / shape_.groups];
      const std::size_t group = i % shape_.groups, head = group * each * size;
      const std::size_t place = span.slot * cache.slot_stride + group * cache.group_stride;
      kernels().attend({heads_.get() + span.first * heads_width() + head, heads_width(),
                        cache.keys + place, cache.values + place,
                        attended_.get() + span.first * shape_.heads * size + head,
                        shape_.heads * size, span.rows, each, size, span.end, shape_.scale,
                        span.visible[layer.kind], scratch_.get() + i * scratch_width_});
    });
  }

  /// x += norm(y W + b), or without a norm.
  void add(const Linear& linear, const float* y, const Norm& norm) {
    const bool at_once = norm.weight == nullptr;
    float* const to = at_once ? x_ : normed_.get();
    products(crew_, threads_, {&linear, 1}, y, rows_, to, shape_.hidden, at_once);
    if (at_once) return;
    norm_rows(norm, to, rows_, shape_.hidden, to);
    for (std::size_t i = 0; i < rows_ * shape_.hidden; ++i) x_[i] += to[i];
  }

  const DecoderShape& shape_;
  float* x_;
  std::span<const Turns> turns_;
  std::span<const DecoderSpan> spans_;
  std::size_t threads_;
  Crew& crew_;
  std::size_t rows_ = 0, most_ = 0, scratch_width_ = 0;
  Buffer normed_, heads_, attended_, fed_, inner_, scratch_;
};

}  // namespace

void Decoder::add(DecoderLayer layer) { layers_.push_back(std::move(layer)); }

void Decoder::run(float* x, std::span<const Turns> turns, std::span<const DecoderSpan> spans,
                  std::span<const LayerCache> caches, ThreadPool& pool) const {
  with_crew(pool, [&](Crew& crew) {
    Pass pass(shape_, x, turns, spans, pool.threads(), crew);
    for (std::size_t i = 0; i < layers_.size(); ++i) pass.layer(layers_[i], caches[i]);
  });
}

void multiply(const Linear& linear, const Norm& norm, const float* x, std::size_t rows, float* y,
              ThreadPool& pool) {
  Buffer normed;
  if (norm.weight != nullptr) {
    normed = buffer(rows * linear.inputs);
    norm_rows(norm, x, rows, linear.inputs, normed.get());
    x = normed.get();
  }
  with_crew(pool, [&](Crew& crew) {
    products(crew, pool.threads(), {&linear, 1}, x, rows, y, linear.outputs, false);
  });
}

void likeliest(const float* logits, std::size_t rows, std::size_t vocab, std::size_t k,
               std::int32_t* tokens, float* logprobs) {
  for (std::size_t row = 0; row < rows; ++row, tokens += k, logprobs += k) {
    const float total = kernels().likeliest(logits + row * vocab, vocab, k, tokens, logprobs);
    const float least = logprobs[0] + std::log(total);
    for (std::size_t i = 0; i < k; ++i) logprobs[i] -= least;
  }
}

const char* decoder_instructions() { return kernels().name; }

}  // namespace draftwood
