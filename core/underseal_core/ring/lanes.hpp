// Arithmetic that needs 64-bit products of 16 lanes, in two forms with one interface.
//
// The plain form (u32, PlainSums) is loops for the compiler to vectorise. Compilers widen
// 16 words in order, which on AVX-512 costs more shuffles than multiplications. The wide form
// (Words, WideSums) keeps even and odd lanes apart instead: both halves of a 64-bit lane
// are already where they are needed. It is used where 64-bit lanes multiply in one instruction,
// and is written with the vector types of GCC and Clang.
#pragma once

#include <cstring>

#include "modular.hpp"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(UNDERSEAL_NARROW)
#define UNDERSEAL_WIDE 1
#define UNDERSEAL_WIDE_TARGET __attribute__((target("arch=x86-64-v4")))
#else
#define UNDERSEAL_WIDE 0
#endif
#if UNDERSEAL_WIDE && !defined(UNDERSEAL_PLAIN)
#define UNDERSEAL_NARROW_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define UNDERSEAL_NARROW_CLONES
#endif

namespace underseal {

// C sums for each of 16 lanes.
template <size_t C>
struct PlainSums {
    // Rows of as many probes and as many blocks are multiplied at once: what registers hold.
    static constexpr size_t kSide = 1;

    u64 sums[C][kLanes] = {};

    // The tensor product of two two-component rows: q0 g0, q0 g1 + q1 g0, q1 g1.
    UNDERSEAL_INLINE void add_tensor(const u32* q0, const u32* q1, const u32* g0, const u32* g1) {
        for (size_t l = 0; l < kLanes; ++l) {
            const u64 a = q0[l], b = q1[l], c = g0[l], d = g1[l];
            sums[0][l] += a * c;
            sums[1][l] += a * d + b * c;
            sums[2][l] += b * d;
        }
    }

    // One row times a constant, to sum c.
    UNDERSEAL_INLINE void add_scaled(size_t c, const u32* row, u32 factor) {
        for (size_t l = 0; l < kLanes; ++l) {
            sums[c][l] += static_cast<u64>(row[l]) * factor;
        }
    }

    // Sum c = (high word) * factor + (low word): below 2^61 for a factor below 2^29.
    UNDERSEAL_INLINE void fold(size_t c, u32 factor) {
        for (size_t l = 0; l < kLanes; ++l) {
            sums[c][l] = (sums[c][l] >> 32) * factor + static_cast<u32>(sums[c][l]);
        }
    }

    // See montgomery_lazy.
    UNDERSEAL_INLINE void montgomery(size_t c, u32 p, u32 inverse, u32* out) const {
        for (size_t l = 0; l < kLanes; ++l) {
            out[l] = montgomery_lazy(sums[c][l], p, inverse);
        }
    }
};

#if UNDERSEAL_WIDE

using Vector = u64 __attribute__((vector_size(64)));
using LoadedVector = u64 __attribute__((vector_size(64), aligned(4), may_alias));

// The products of even words. Compilers would take a multiplication of 64-bit words instead.
UNDERSEAL_INLINE Vector even_products(Vector a, Vector b) {
    Vector product;
    asm("vpmuludq %2, %1, %0" : "=v"(product) : "v"(a), "v"(b));
    return product;
}

// A row whose even words are where even_products wants them, and its odd words moved there.
struct WideRow {
    Vector even, odd;

    UNDERSEAL_INLINE explicit WideRow(const u32* from)
        : even(*reinterpret_cast<const LoadedVector*>(from)), odd(even >> 32) {}
};

template <size_t C>
struct WideSums {
    static constexpr size_t kSide = 2;

    Vector even[C] = {}, odd[C] = {};

    UNDERSEAL_INLINE void add_tensor(const u32* q0, const u32* q1, const u32* g0, const u32* g1) {
        const WideRow a(q0), b(q1), c(g0), d(g1);
        even[0] += even_products(a.even, c.even);
        odd[0] += even_products(a.odd, c.odd);
        even[1] += even_products(a.even, d.even) + even_products(b.even, c.even);
        odd[1] += even_products(a.odd, d.odd) + even_products(b.odd, c.odd);
        even[2] += even_products(b.even, d.even);
        odd[2] += even_products(b.odd, d.odd);
    }

    UNDERSEAL_INLINE void add_scaled(size_t c, const u32* row, u32 factor) {
        const WideRow a(row);
        const Vector f = Vector{} + factor;
        even[c] += even_products(a.even, f);
        odd[c] += even_products(a.odd, f);
    }

    UNDERSEAL_INLINE void fold(size_t c, u32 factor) {
        const Vector f = Vector{} + factor;
        even[c] = even_products(even[c] >> 32, f) + (even[c] & 0xffffffffu);
        odd[c] = even_products(odd[c] >> 32, f) + (odd[c] & 0xffffffffu);
    }

    UNDERSEAL_INLINE void montgomery(size_t c, u32 p, u32 inverse, u32* out) const {
        const Vector factor = Vector{} + inverse, prime = Vector{} + p;
        const Vector m0 = even_products(even_products(even[c], factor), prime);
        const Vector m1 = even_products(even_products(odd[c], factor), prime);
        const Vector r0 = (even[c] >> 32) - (m0 >> 32) + p;
        const Vector r1 = (odd[c] >> 32) - (m1 >> 32) + p;
        const Vector packed = r0 | (r1 << 32);
        std::memcpy(out, &packed, sizeof packed);
    }
};

inline bool wide_lanes() {
    static const bool supported = __builtin_cpu_supports("avx512f") &&
                                  __builtin_cpu_supports("avx512bw") &&
                                  __builtin_cpu_supports("avx512cd") &&
                                  __builtin_cpu_supports("avx512dq") &&
                                  __builtin_cpu_supports("avx512vl");
    return supported;
}

#endif

}  // namespace underseal
