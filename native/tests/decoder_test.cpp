// The decoder's kernels, for each set of instructions that this machine has, against the same sums
// taken one after the other in double precision.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "decoder_kernels.h"
#include "expect.h"

namespace {

using draftwood::AttentionTask;
using draftwood::Kernels;
using draftwood::ProductTask;

std::mt19937 random_bits(7);

std::vector<float> numbers(std::size_t n, float spread = 1.0F) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> all(n);
  for (float& x : all) x = normal(random_bits);
  return all;
}

void expect_close(float found, double expected, double tolerance) {
  EXPECT(std::abs(static_cast<double>(found) - expected) <= tolerance * (1.0 + std::abs(expected)));
}

void products(const Kernels& kernels) {
  for (std::size_t rows : {1UL, 2UL, 3UL, 4UL, 7UL, 33UL}) {
    for (std::size_t inputs : {1UL, 15UL, 16UL, 48UL, 131UL}) {
      for (std::size_t outputs : {1UL, 5UL, 8UL, 14UL, 61UL}) {
        const auto weight = numbers(outputs * inputs), x = numbers(rows * inputs);
        const auto bias = numbers(outputs);
        const std::size_t width = outputs + 3;
        for (const bool add : {false, true}) {
          const float* const b = rows % 2 == 0 ? bias.data() : nullptr;
          auto y = numbers(rows * width);
          const auto before = y;
          kernels.multiply({weight.data(), b, inputs, outputs, x.data(), inputs, rows, y.data(),
                            width, add});
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t o = 0; o < width; ++o) {
              if (o >= outputs) {
                EXPECT(y[r * width + o] == before[r * width + o]);
                continue;
              }
              double sum = add ? static_cast<double>(before[r * width + o]) : 0.0;
              if (b != nullptr) sum += static_cast<double>(b[o]);
              for (std::size_t i = 0; i < inputs; ++i) {
                sum += static_cast<double>(weight[o * inputs + i]) * static_cast<double>(x[r * inputs + i]);
              }
              expect_close(y[r * width + o], sum, 1e-5);
            }
          }
          // Each row by itself is the same to the bit.
          for (std::size_t r = 0; r < rows; ++r) {
            std::vector<float> alone(before.begin() + static_cast<std::ptrdiff_t>(r * width),
                                     before.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
            kernels.multiply({weight.data(), b, inputs, outputs, x.data() + r * inputs, inputs, 1,
                              alone.data(), width, add});
            for (std::size_t o = 0; o < outputs; ++o) EXPECT(alone[o] == y[r * width + o]);
          }
        }
      }
    }
  }
}

void attention(const Kernels& kernels) {
  for (std::size_t rows : {1UL, 2UL, 5UL, 9UL}) {
    for (std::size_t each : {1UL, 3UL}) {
      for (std::size_t size : {8UL, 24UL, 64UL}) {
        for (std::size_t end : {9UL, 64UL, 65UL, 200UL}) {
          for (const bool masked : {false, true}) {
            const std::size_t width = each * size + 5, queries = rows * each;
            const auto q = numbers(rows * width), k = numbers(end * size), v = numbers(end * size);
            std::vector<std::uint8_t> visible(rows * end);
            for (std::size_t r = 0; r < rows; ++r) {
              for (std::size_t j = 0; j < end; ++j) {
                visible[r * end + j] = j <= end - rows + r && (!masked || (j + r) % 3 != 0);
              }
              visible[r * end + end - rows + r] = 1;
            }
            std::vector<float> scratch(draftwood::attention_scratch(queries, size));
            std::vector<float> out(rows * width);
            kernels.attend({q.data(), width, k.data(), v.data(), out.data(), width, rows, each, size,
                            end, 0.3F, masked ? visible.data() : nullptr, scratch.data()});
            for (std::size_t i = 0; i < queries; ++i) {
              const std::size_t r = i / each, at = r * width + i % each * size;
              std::vector<double> weights(end, 0.0);
              double most = -std::numeric_limits<double>::infinity(), total = 0.0;
              for (std::size_t j = 0; j < end; ++j) {
                double dot = 0.0;
                for (std::size_t d = 0; d < size; ++d) {
                  dot += static_cast<double>(q[at + d]) * static_cast<double>(k[j * size + d]);
                }
                weights[j] = visible[r * end + j] ? dot * 0.3 : -std::numeric_limits<double>::infinity();
                most = std::max(most, weights[j]);
              }
              for (double& weight : weights) total += weight = std::exp(weight - most);
              for (std::size_t d = 0; d < size; ++d) {
                double sum = 0.0;
                for (std::size_t j = 0; j < end; ++j) {
                  sum += weights[j] * static_cast<double>(v[j * size + d]);
                }
                expect_close(out[at + d], sum / total, 1e-5);
              }
            }
          }
        }
      }
    }
  }
}

void rest(const Kernels& kernels) {
  for (std::size_t n : {1UL, 16UL, 37UL}) {
    const auto x = numbers(n), weight = numbers(n);
    std::vector<float> out(n);
    kernels.norm(x.data(), weight.data(), 1e-5F, n, out.data());
    double squares = 0.0;
    for (float one : x) squares += static_cast<double>(one) * static_cast<double>(one);
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    for (std::size_t i = 0; i < n; ++i) {
      expect_close(out[i], static_cast<double>(x[i]) * scale * static_cast<double>(weight[i]), 1e-5);
    }
    for (const bool gelu : {false, true}) {
      auto gate = numbers(n, 8.0F);
      gate[0] = -200.0F;  // no overflow on the way
      const auto z = gate, up = numbers(n);
      kernels.activate(z.data(), up.data(), n, gelu, gate.data());
      for (std::size_t i = 0; i < n; ++i) {
        const double g = static_cast<double>(z[i]);
        const double y = gelu ? 2.0 * std::sqrt(2.0 / std::acos(-1.0)) * (g + 0.044715 * g * g * g) : g;
        expect_close(gate[i], g / (1.0 + std::exp(-y)) * static_cast<double>(up[i]), 1e-5);
      }
    }
  }
}

}  // namespace

int main() {
  std::vector<const Kernels*> all{draftwood::any_kernels()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    all.push_back(draftwood::avx2_kernels());
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    all.push_back(draftwood::avx512_kernels());
  }
#endif
  for (const Kernels* kernels : all) {
    if (kernels == nullptr) continue;
    products(*kernels);
    attention(*kernels);
    rest(*kernels);
  }
}
