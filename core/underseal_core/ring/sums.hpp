// Sums of 64-bit products of rows.
#pragma once

#include "lanes.hpp"

namespace underseal {

// C sums for each of 16 lanes, by words in one register.
template <class Word, size_t C>
struct Sums;

template <size_t C>
struct Sums<u32, C> {
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

    // One row times each of two.
    UNDERSEAL_INLINE void add_products(const u32* row, const u32* first, const u32* second) {
        for (size_t l = 0; l < kLanes; ++l) {
            sums[0][l] += static_cast<u64>(row[l]) * first[l];
            sums[1][l] += static_cast<u64>(row[l]) * second[l];
        }
    }

    // Each sum = (high word) * factor + (low word): below 2^61 for a factor below 2^29.
    UNDERSEAL_INLINE void fold(u32 factor) {
        for (size_t c = 0; c < C; ++c) {
            for (size_t l = 0; l < kLanes; ++l) {
                sums[c][l] = (sums[c][l] >> 32) * factor + static_cast<u32>(sums[c][l]);
            }
        }
    }

    // See montgomery_lazy.
    UNDERSEAL_INLINE void montgomery(size_t c, u32 p, u32 inverse, u32* out) const {
        for (size_t l = 0; l < kLanes; ++l) {
            out[l] = montgomery_lazy(sums[c][l], p, inverse);
        }
    }
};

#if UNDERSEAL_LANES > 1

template <class Words, size_t C>
struct Sums {
    using Wide = Pairs<Words>;
    static constexpr size_t kSide = sizeof(Words) == sizeof(Words16) ? 2 : 1;
    static constexpr size_t kStep = sizeof(Words) / sizeof(u32), kParts = kLanes / kStep;

    // Words whose even ones are where even_products wants them, and the odd ones moved there.
    struct Split {
        Wide even, odd;

        UNDERSEAL_INLINE explicit Split(const u32* from) : even(load<Wide>(from)), odd(even >> 32) {}
    };

    Wide even[kParts][C] = {}, odd[kParts][C] = {};

    UNDERSEAL_INLINE void add_tensor(const u32* q0, const u32* q1, const u32* g0, const u32* g1) {
        for (size_t k = 0; k < kParts; ++k) {
            const size_t l = k * kStep;
            const Split a(q0 + l), b(q1 + l), c(g0 + l), d(g1 + l);
            even[k][0] += even_products(a.even, c.even);
            odd[k][0] += even_products(a.odd, c.odd);
            even[k][1] += even_products(a.even, d.even) + even_products(b.even, c.even);
            odd[k][1] += even_products(a.odd, d.odd) + even_products(b.odd, c.odd);
            even[k][2] += even_products(b.even, d.even);
            odd[k][2] += even_products(b.odd, d.odd);
        }
    }

    UNDERSEAL_INLINE void add_products(const u32* row, const u32* first, const u32* second) {
        for (size_t k = 0; k < kParts; ++k) {
            const Split a(row + k * kStep), b(first + k * kStep), c(second + k * kStep);
            even[k][0] += even_products(a.even, b.even);
            odd[k][0] += even_products(a.odd, b.odd);
            even[k][1] += even_products(a.even, c.even);
            odd[k][1] += even_products(a.odd, c.odd);
        }
    }

    UNDERSEAL_INLINE void fold(u32 factor) {
        const Wide f = Wide{} + factor;
        for (size_t k = 0; k < kParts; ++k) {
            for (size_t c = 0; c < C; ++c) {
                even[k][c] = even_products(even[k][c] >> 32, f) + (even[k][c] & 0xffffffffu);
                odd[k][c] = even_products(odd[k][c] >> 32, f) + (odd[k][c] & 0xffffffffu);
            }
        }
    }

    UNDERSEAL_INLINE void montgomery(size_t c, u32 p, u32 inverse, u32* out) const {
        for (size_t k = 0; k < kParts; ++k) {
            store(out + k * kStep, montgomery_words<Words>(even[k][c], odd[k][c], p, inverse));
        }
    }
};

#endif

}  // namespace underseal
