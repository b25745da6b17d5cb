// The kernels, for vectors of LANES floats. Included by one file for each set of instructions, which
// defines KERNELS_NAME.

#pragma once

#include "decoder_kernels.h"
#include "decoder_lanes.h"

namespace draftwood {
namespace {

using std::size_t;

#if LANES == 16 || defined(__aarch64__)
constexpr int kOutputs = 6;  // of a tile of a product: 24 sums in 32 registers
constexpr int kAlone = 8;    // of one row
constexpr int kQueries = 6;
#else
constexpr int kOutputs = 3;
constexpr int kAlone = 6;
constexpr int kQueries = 2;
#endif
constexpr int kRows = 4;

/// What is left of a row's inputs where they do not fill vectors.
template <int O, int R>
void finish(const float* weight, const float* x, size_t width, size_t from, size_t inputs,
            float* out) {
  for (size_t r = 0; r < R; ++r) {
    for (size_t o = 0; o < O; ++o) {
      for (size_t i = from; i < inputs; ++i) out[r * O + o] += weight[o * inputs + i] * x[r * width + i];
    }
  }
}

/// O outputs of R rows. Meanwhile the floats [from, to) of the next O rows of the weight are fetched.
template <int O, int R>
DRAFTWOOD_INLINE void tile(const ProductTask& t, const float* weight, const float* x, size_t from,
                           size_t to, const float* bias, float* y) {
  constexpr int kSums = O * R;
  Floats acc[(kSums + kSummed - 1) / kSummed * kSummed] = {};
  const size_t inputs = t.inputs, whole = inputs / LANES * LANES, width = t.x_width;
  const auto step = [&](size_t k) __attribute__((always_inline)) {
    Floats w[O];
    DRAFTWOOD_UNROLL
    for (int o = 0; o < O; ++o) load(w[o], weight + static_cast<size_t>(o) * inputs + k);
    DRAFTWOOD_UNROLL
    for (int r = 0; r < R; ++r) {
      Floats v;
      load(v, x + static_cast<size_t>(r) * width + k);
      DRAFTWOOD_UNROLL
      for (int o = 0; o < O; ++o) acc[r * O + o] += w[o] * v;
    }
  };
  const float* const next = weight + static_cast<size_t>(O) * inputs;
  const size_t lines = (to - from + 15) / 16;
  const size_t every = lines == 0 ? whole + 1 : (whole / lines > LANES ? whole / lines : LANES);
  size_t k = 0, at = from, due = 0;
  for (; k < whole; k += LANES) {
    if (k >= due && at < to) {
      DRAFTWOOD_UNROLL
      for (int o = 0; o < O; ++o) {
        __builtin_prefetch(next + static_cast<size_t>(o) * inputs + at, 0, 2);
      }
      at += 16;
      due += every;
    }
    step(k);
  }
  float out[(kSums + kSummed - 1) / kSummed * kSummed];
  DRAFTWOOD_UNROLL
  for (size_t i = 0; i < (kSums + kSummed - 1) / kSummed * kSummed; i += kSummed) sums(acc + i, out + i);
  if (whole < inputs) finish<O, R>(weight, x, width, whole, inputs, out);
  if (bias != nullptr) {
    DRAFTWOOD_UNROLL
    for (int i = 0; i < kSums; ++i) out[i] += bias[i % O];
  }
  DRAFTWOOD_UNROLL
  for (int r = 0; r < R; ++r) {
    float* const to_row = y + static_cast<size_t>(r) * t.width;
    DRAFTWOOD_UNROLL
    for (int o = 0; o < O; ++o) to_row[o] = t.add ? to_row[o] + out[r * O + o] : out[r * O + o];
  }
}

/// O outputs of all rows, kRows at a time.
template <int O>
void outputs(const ProductTask& t, size_t first) {
  const float* const weight = t.weight + first * t.inputs;
  const float* const bias = t.bias == nullptr ? nullptr : t.bias + first;
  const size_t tiles = (t.rows + kRows - 1) / kRows;
  const size_t part = (t.inputs / tiles + 15) / 16 * 16;
  for (size_t i = 0; i < tiles; ++i) {
    const float* const x = t.x + i * kRows * t.x_width;
    float* const y = t.y + i * kRows * t.width + first;
    const size_t from = i * part < t.inputs ? i * part : t.inputs;
    const size_t to = from + part < t.inputs ? from + part : t.inputs;
    switch (t.rows - i * kRows) {
      case 1: tile<O, 1>(t, weight, x, from, to, bias, y); break;
      case 2: tile<O, 2>(t, weight, x, from, to, bias, y); break;
      case 3: tile<O, 3>(t, weight, x, from, to, bias, y); break;
      default: tile<O, kRows>(t, weight, x, from, to, bias, y);
    }
  }
}

void multiply(const ProductTask& t) {
  size_t done = 0;
  if (t.rows == 1) {
    for (; done + kAlone <= t.outputs; done += kAlone) {
      tile<kAlone, 1>(t, t.weight + done * t.inputs, t.x, 0, t.inputs,
                      t.bias == nullptr ? nullptr : t.bias + done, t.y + done);
    }
  }
  for (; done + kOutputs <= t.outputs; done += kOutputs) outputs<kOutputs>(t, done);
  for (; done < t.outputs; ++done) outputs<1>(t, done);
}

/// Scores of N keys against V vectors of queries: turned [size, padded], scores [., padded].
template <int N, int V>
DRAFTWOOD_INLINE void score(const float* keys, size_t size, const float* turned, size_t padded,
                            float* scores) {
  Floats acc[N][V] = {};
  for (size_t d = 0; d < size; ++d) {
    Floats q[V];
    DRAFTWOOD_UNROLL
    for (int v = 0; v < V; ++v) load(q[v], turned + d * padded + static_cast<size_t>(v) * LANES);
    DRAFTWOOD_UNROLL
    for (int n = 0; n < N; ++n) {
      const float key = keys[static_cast<size_t>(n) * size + d];
      DRAFTWOOD_UNROLL
      for (int v = 0; v < V; ++v) acc[n][v] += q[v] * key;
    }
  }
  for (int n = 0; n < N; ++n) {
    for (int v = 0; v < V; ++v) {
      store(scores + static_cast<size_t>(n) * padded + static_cast<size_t>(v) * LANES, acc[n][v]);
    }
  }
}

template <int V>
void score_block(const float* keys, size_t count, size_t size, const float* turned, size_t padded,
                 float* scores) {
  size_t j = 0;
  for (; j + 8 <= count; j += 8) {
    for (size_t i = 0; i < 8 * size; i += 16) {  // those of the next block
      __builtin_prefetch(keys + (j + kKeyBlock) * size + i, 0, 2);
    }
    score<8, V>(keys + j * size, size, turned, padded, scores + j * padded);
  }
  for (; j < count; ++j) score<1, V>(keys + j * size, size, turned, padded, scores + j * padded);
}

/// D vectors of the sums of Q queries: what there is times its correction, and the values by weight.
template <int Q, int D>
DRAFTWOOD_INLINE void weigh(const float* values, size_t count, size_t size, const float* weights,
                            size_t padded, const float* corrections, float* result) {
  Floats acc[Q][D];
  for (int q = 0; q < Q; ++q) {
    for (int d = 0; d < D; ++d) {
      load(acc[q][d], result + static_cast<size_t>(q) * size + static_cast<size_t>(d) * LANES);
      acc[q][d] *= corrections[q];
    }
  }
  for (size_t j = 0; j < count; ++j) {
    Floats v[D];
    DRAFTWOOD_UNROLL
    for (int d = 0; d < D; ++d) load(v[d], values + j * size + static_cast<size_t>(d) * LANES);
    DRAFTWOOD_UNROLL
    for (int q = 0; q < Q; ++q) {
      DRAFTWOOD_UNROLL
      for (int d = 0; d < D; ++d) acc[q][d] += v[d] * weights[j * padded + static_cast<size_t>(q)];
    }
  }
  for (int q = 0; q < Q; ++q) {
    for (int d = 0; d < D; ++d) {
      store(result + static_cast<size_t>(q) * size + static_cast<size_t>(d) * LANES, acc[q][d]);
    }
  }
}

template <int Q>
void weigh_all(const float* values, size_t count, size_t size, const float* weights, size_t padded,
               const float* corrections, float* result) {
  size_t d = 0;
  for (; d + 4 * LANES <= size; d += 4 * LANES) {
    weigh<Q, 4>(values + d, count, size, weights, padded, corrections, result + d);
  }
  for (; d + LANES <= size; d += LANES) {
    weigh<Q, 1>(values + d, count, size, weights, padded, corrections, result + d);
  }
  for (; d < size; ++d) {
    for (int q = 0; q < Q; ++q) {
      float sum = result[static_cast<size_t>(q) * size + d] * corrections[q];
      for (size_t j = 0; j < count; ++j) {
        sum += values[j * size + d] * weights[j * padded + static_cast<size_t>(q)];
      }
      result[static_cast<size_t>(q) * size + d] = sum;
    }
  }
}

/// Attention by blocks of keys, with a running maximum (FlashAttention, arXiv 2205.14135, algorithm
/// 1). A query is a lane: row * each + head of the group.
void attend(const AttentionTask& t) {
  const size_t queries = t.rows * t.each, size = t.size;
  const size_t padded = (queries + LANES - 1) / LANES * LANES;
  float* const turned = t.scratch;
  float* const scores = turned + size * padded;
  float* const largest = scores + kKeyBlock * padded;
  float* const total = largest + padded;
  float* const corrections = total + padded;
  float* const result = corrections + padded;
  const float lowest = -__builtin_inff();
  for (size_t i = 0; i < padded; ++i) {
    largest[i] = lowest;
    total[i] = 0.0F;
    const float* const query = t.queries + i / t.each * t.query_width + i % t.each * size;
    for (size_t d = 0; d < size; ++d) turned[d * padded + i] = i < queries ? query[d] * t.scale : 0.0F;
  }
  for (size_t i = 0; i < queries * size; ++i) result[i] = 0.0F;
  for (size_t first = 0; first < t.end; first += kKeyBlock) {
    const size_t count = t.end - first < kKeyBlock ? t.end - first : kKeyBlock;
    bool any = t.visible == nullptr, every = true;
    if (t.visible == nullptr) {
      every = first + count <= t.end - t.rows + 1;
    } else {
      for (size_t r = 0; r < t.rows; ++r) {
        const std::uint8_t* const row = t.visible + r * t.end + first;
        for (size_t j = 0; j < count; ++j) {
          any |= row[j] != 0;
          every &= row[j] != 0;
        }
      }
    }
    if (!any) continue;
    const float* const keys = t.keys + first * size;
    const float* const values = t.values + first * size;
    size_t q = 0;
    for (; q + 2 * LANES <= padded; q += 2 * LANES) {
      score_block<2>(keys, count, size, turned + q, padded, scores + q);
    }
    if (q < padded) score_block<1>(keys, count, size, turned + q, padded, scores + q);
    if (!every) {
      for (size_t r = 0; r < t.rows; ++r) {
        for (size_t j = 0; j < count; ++j) {
          const bool seen = t.visible == nullptr ? first + j <= t.end - t.rows + r
                                                 : t.visible[r * t.end + first + j] != 0;
          if (seen) continue;
          for (size_t e = 0; e < t.each; ++e) scores[j * padded + r * t.each + e] = lowest;
        }
      }
    }
    for (size_t lane = 0; lane < padded; lane += LANES) {
      Floats before, most, sum, x;
      load(before, largest + lane);
      most = before;
      for (size_t j = 0; j < count; ++j) {
        load(x, scores + j * padded + lane);
        most = x > most ? x : most;
      }
      store(largest + lane, most);
      const Floats none = Floats{} + lowest;
      most = most == none ? Floats{} : most;  // nothing was seen yet: weights are 0, not NaN
      x = before - most;
      exponential(x);
      store(corrections + lane, x);
      load(sum, total + lane);
      sum *= x;
      for (size_t j = 0; j < count; ++j) {
        load(x, scores + j * padded + lane);
        x -= most;
        exponential(x);
        store(scores + j * padded + lane, x);
        sum += x;
      }
      store(total + lane, sum);
    }
    for (size_t i = 0; i < count * size; i += 16) __builtin_prefetch(values + kKeyBlock * size + i, 0, 2);
    q = 0;
    for (; q + kQueries <= queries; q += kQueries) {
      weigh_all<kQueries>(values, count, size, scores + q, padded, corrections + q, result + q * size);
    }
    for (; q < queries; ++q) {
      weigh_all<1>(values, count, size, scores + q, padded, corrections + q, result + q * size);
    }
  }
  for (size_t i = 0; i < queries; ++i) {
    float* const out = t.out + i / t.each * t.out_width + i % t.each * size;
    for (size_t d = 0; d < size; ++d) out[d] = result[i * size + d] / total[i];
  }
}

void norm(const float* x, const float* weight, float epsilon, size_t n, float* out) {
  Floats acc[kSummed] = {}, v;
  const size_t whole = n / LANES * LANES;
  for (size_t i = 0; i < whole; i += LANES) {
    load(v, x + i);
    acc[0] += v * v;
  }
  float squares[kSummed];
  sums(acc, squares);
  for (size_t i = whole; i < n; ++i) squares[0] += x[i] * x[i];
  const float factor = 1.0F / __builtin_sqrtf(squares[0] / static_cast<float>(n) + epsilon);
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * factor * weight[i];
}

/// z / (1 + e^-y) with y = z for SiLU; GELU's tanh formula is the same with another y.
DRAFTWOOD_INLINE void activated(Floats& z, bool gelu) {
  Floats y = z;
  if (gelu) y = (z + z * z * z * 0.044715F) * 1.5957691216F;  // 2 sqrt(2 / pi)
  y = -y;
  exponential(y);
  z = z / (y + 1.0F);
}

void activate(const float* gate, const float* up, size_t n, bool gelu, float* out) {
  Floats z, u;
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    load(z, gate + i);
    load(u, up + i);
    activated(z, gelu);
    store(out + i, z * u);
  }
  if (i < n) {
    z = Floats{};
    for (size_t j = i; j < n; ++j) z[j - i] = gate[j];
    activated(z, gelu);
    for (size_t j = i; j < n; ++j) out[j] = z[j - i] * up[j];
  }
}

float likeliest(const float* logits, std::size_t n, std::size_t k, std::int32_t* tokens,
                float* found) {
  constexpr std::size_t kBlock = 8 * LANES;
  const float none = -__builtin_inff();
  std::size_t count = 0;
  const auto offer = [&](std::size_t id) {
    const float logit = logits[id];
    if (count == k ? !(logit > found[k - 1]) : logit != logit) return;
    std::size_t at = count == k ? k - 1 : count++;
    for (; at > 0 && found[at - 1] < logit; --at) {
      found[at] = found[at - 1];
      tokens[at] = tokens[at - 1];
    }
    found[at] = logit;
    tokens[at] = static_cast<std::int32_t>(id);
  };
  std::size_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    Floats most, x;
    load(most, logits + i);
    for (std::size_t j = LANES; j < kBlock; j += LANES) {
      load(x, logits + i + j);
      most = x > most ? x : most;
    }
    // Of a block that holds what is no number a lane may hide others: it is looked at in full.
    bool better = count < k;
    for (int lane = 0; lane < LANES; ++lane) better = better || !(most[lane] <= found[k - 1]);
    if (!better) continue;
    for (std::size_t j = 0; j < kBlock; ++j) offer(i + j);
  }
  for (; i < n; ++i) offer(i);
  for (i = count; i < k; ++i) {
    found[i] = none;
    tokens[i] = 0;
  }
  Floats sum = {};
  for (i = 0; i + LANES <= n; i += LANES) {
    Floats x;
    load(x, logits + i);
    x = x - found[0];
    exponential(x);
    sum += x;
  }
  if (i < n) {
    Floats x = Floats{} + none;
    for (int lane = 0; i < n; ++i, ++lane) x[lane] = logits[i] - found[0];
    exponential(x);
    sum += x;
  }
  float total = 0.0F;
  for (int lane = 0; lane < LANES; ++lane) total += sum[lane];
  return total;
}

constexpr Kernels kKernels{KERNELS_NAME, &multiply, &attend, &norm, &activate, &likeliest};

}  // namespace
}  // namespace draftwood
