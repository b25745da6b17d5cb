// Vectors of LANES floats, in the manner of GCC and Clang. For files that are compiled for more
// instructions than the rest: all of it is private to such a file, and nothing of the standard library
// is used, lest the linker keep their copy of a shared function for everybody.

#pragma once

#include <cstddef>
#include <cstdint>

#ifndef LANES
#error "define LANES, the floats of a vector: 16, 8 or 4"
#endif

namespace draftwood {
namespace {

using Floats = float __attribute__((vector_size(LANES * 4)));
using Ints = std::int32_t __attribute__((vector_size(LANES * 4)));
using Unaligned = float __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define DRAFTWOOD_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define DRAFTWOOD_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define DRAFTWOOD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define DRAFTWOOD_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Ints{__VA_ARGS__})
#define DRAFTWOOD_UNROLL _Pragma("GCC unroll 32")
#endif

DRAFTWOOD_INLINE void load(Floats& to, const float* from) {
  to = *reinterpret_cast<const Unaligned*>(from);
}
DRAFTWOOD_INLINE void store(float* to, const Floats& from) {
  *reinterpret_cast<Unaligned*>(to) = from;
}

/// How many vectors `sums` adds up at a time.
constexpr std::size_t kSummed = LANES / 4;

/// The sum of each of kSummed vectors, always in the same order: halves, then within fours.
DRAFTWOOD_INLINE void sums(const Floats* of, float* to) {
#if LANES == 16
  const Floats ab = DRAFTWOOD_SHUFFLE(of[0], of[1], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    DRAFTWOOD_SHUFFLE(of[0], of[1], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  const Floats cd = DRAFTWOOD_SHUFFLE(of[2], of[3], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                    DRAFTWOOD_SHUFFLE(of[2], of[3], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  Floats s = DRAFTWOOD_SHUFFLE(ab, cd, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
             DRAFTWOOD_SHUFFLE(ab, cd, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  s += DRAFTWOOD_SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  s += DRAFTWOOD_SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  to[0] = s[0], to[1] = s[4], to[2] = s[8], to[3] = s[12];
#elif LANES == 8
  Floats s = DRAFTWOOD_SHUFFLE(of[0], of[1], 0, 1, 2, 3, 8, 9, 10, 11) +
             DRAFTWOOD_SHUFFLE(of[0], of[1], 4, 5, 6, 7, 12, 13, 14, 15);
  s += DRAFTWOOD_SHUFFLE(s, s, 2, 3, 0, 1, 6, 7, 4, 5);
  s += DRAFTWOOD_SHUFFLE(s, s, 1, 0, 3, 2, 5, 4, 7, 6);
  to[0] = s[0], to[1] = s[4];
#else
  Floats s = of[0];
  s += DRAFTWOOD_SHUFFLE(s, s, 2, 3, 0, 1);
  s += DRAFTWOOD_SHUFFLE(s, s, 1, 0, 3, 2);
  to[0] = s[0];
#endif
}

/// e to the power of x, 0 below -87.3; about two units in the last place. The polynomial is
/// Cephes' (S. Moshier), after Cody and Waite's reduction.
DRAFTWOOD_INLINE void exponential(Floats& x) {
  const Floats least = Floats{} - 87.33654F, most = Floats{} + 88.37626F;
  const Ints gone = x < least;
  Floats y = x < least ? least : x;
  y = y > most ? most : y;
  const Floats shift = Floats{} + 12582912.0F;  // 1.5 * 2^23: what is added is rounded
  const Floats n = (y * 1.44269504F + shift) - shift;
  y = y - n * 0.693359375F;
  y = y - n * -2.12194440e-4F;
  Floats p = y * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * y + 8.3334519073e-3F;
  p = p * y + 4.1665795894e-2F;
  p = p * y + 1.6666665459e-1F;
  p = p * y + 5.0000001201e-1F;
  p = p * (y * y) + y + 1.0F;
  const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  const Ints kept = ~gone & reinterpret_cast<Ints>(p);
  x = reinterpret_cast<Floats>(kept) * reinterpret_cast<Floats>(power);
}

}  // namespace
}  // namespace draftwood
