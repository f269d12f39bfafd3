// Arithmetic on rows of 16 words, for transforms and what is done between them.
#pragma once

#include <utility>

#include "lanes.hpp"
#include "tables.hpp"

namespace underseal {

// A factor for each lane.
template <class Word>
struct LaneFactor {
    Word value;
    Word quotient;

    // From a row of values and the row of quotients behind it.
    UNDERSEAL_INLINE static LaneFactor at(const u32* rows) {
        return {load<Word>(rows), load<Word>(rows + kLanes)};
    }
};

UNDERSEAL_INLINE u32 multiply_lazy(u32 x, Factor f, u32 p) {
    return multiply_lazy(x, f.value, f.quotient, p);
}

UNDERSEAL_INLINE u32 multiply_lazy(u32 x, LaneFactor<u32> f, u32 p) {
    return multiply_lazy(x, f.value, f.quotient, p);
}

// Word l of the result is word from[lanes[l]].
template <class Word>
UNDERSEAL_INLINE void permute_row(const u32* from, const u32* lanes, u32* to) {
    for (size_t l = 0; l < kLanes; ++l) {
        to[l] = from[lanes[l]];
    }
}

// Not in place.
template <class Word>
UNDERSEAL_INLINE void transpose(const u32* from, u32* to) {
    for (size_t r = 0; r < kLanes; ++r) {
        for (size_t l = 0; l < kLanes; ++l) {
            to[r * kLanes + l] = from[l * kLanes + r];
        }
    }
}

#if UNDERSEAL_LANES > 1

template <class Words>
UNDERSEAL_INLINE Words reduce_once(Words x, Words m) {
    const Words y = x - m;
    return x < y ? x : y;
}

template <class Words>
UNDERSEAL_INLINE Words multiply_lazy(Words x, LaneFactor<Words> f, u32 p) {
    using Wide = Pairs<Words>;
    const Wide pairs = reinterpret_cast<Wide>(x), quotients = reinterpret_cast<Wide>(f.quotient);
    const Words even = reinterpret_cast<Words>(even_products(pairs, quotients));
    const Words odd = reinterpret_cast<Words>(even_products(pairs >> 32, quotients >> 32));
    return x * f.value - odd_words(even, odd) * p;
}

template <class Words>
UNDERSEAL_INLINE Words multiply_lazy(Words x, Factor f, u32 p) {
    using Wide = Pairs<Words>;
    const Wide pairs = reinterpret_cast<Wide>(x), quotient = Wide{} + f.quotient;
    const Words even = reinterpret_cast<Words>(even_products(pairs, quotient));
    const Words odd = reinterpret_cast<Words>(even_products(pairs >> 32, quotient));
    return x * f.value - odd_words(even, odd) * p;
}

// Word l of the result is word lanes[l] of x, modulo their number.
template <class Words>
UNDERSEAL_INLINE Words permuted(Words x, Words lanes) {
#if defined(__clang__)
    return __builtin_shufflevector(x, lanes);
#else
    return __builtin_shuffle(x, lanes);
#endif
}

template <>
UNDERSEAL_INLINE void permute_row<Words16>(const u32* from, const u32* lanes, u32* to) {
    store(to, permuted(load<Words16>(from), load<Words16>(lanes)));
}

template <>
UNDERSEAL_INLINE void permute_row<Words8>(const u32* from, const u32* lanes, u32* to) {
    const Words8 low = load<Words8>(from), high = load<Words8>(from + 8);
    for (size_t half = 0; half < kLanes; half += 8) {
        const Words8 at = load<Words8>(lanes + half);
        store(to + half, at < 8 ? permuted(low, at) : permuted(high, at));
    }
}

// Rows r and r + kDistance of a square exchange words in runs of kDistance.
template <size_t kDistance, class Words, size_t... l>
UNDERSEAL_INLINE void exchange(Words* rows, std::index_sequence<l...>) {
    constexpr size_t kSide = sizeof...(l);
    UNDERSEAL_UNROLL
    for (size_t r = 0; r < kSide; ++r) {
        if ((r & kDistance) == 0) {
            const Words a = rows[r], b = rows[r + kDistance];
            rows[r] = __builtin_shufflevector(
                a, b, ((l & kDistance) == 0 ? l : kSide + l - kDistance)...);
            rows[r + kDistance] = __builtin_shufflevector(
                a, b, ((l & kDistance) == 0 ? l + kDistance : kSide + l)...);
        }
    }
}

// In squares as wide as a register.
template <class Words>
UNDERSEAL_INLINE void transpose_squares(const u32* from, u32* to) {
    constexpr size_t kSide = sizeof(Words) / sizeof(u32);
    constexpr std::make_index_sequence<kSide> kWords{};
    for (size_t i = 0; i < kLanes; i += kSide) {
        for (size_t j = 0; j < kLanes; j += kSide) {
            Words rows[kSide];
            UNDERSEAL_UNROLL
            for (size_t r = 0; r < kSide; ++r) {
                rows[r] = load<Words>(from + (i + r) * kLanes + j);
            }
            if constexpr (kSide == 16) {
                exchange<8>(rows, kWords);
            }
            exchange<4>(rows, kWords);
            exchange<2>(rows, kWords);
            exchange<1>(rows, kWords);
            UNDERSEAL_UNROLL
            for (size_t r = 0; r < kSide; ++r) {
                store(to + (j + r) * kLanes + i, rows[r]);
            }
        }
    }
}

template <>
UNDERSEAL_INLINE void transpose<Words16>(const u32* from, u32* to) {
    transpose_squares<Words16>(from, to);
}

template <>
UNDERSEAL_INLINE void transpose<Words8>(const u32* from, u32* to) {
    transpose_squares<Words8>(from, to);
}

#endif

// From words below 8p to words below p.
template <class Word>
UNDERSEAL_INLINE Word canonical_word(Word x, u32 p) {
    return reduce_once(reduce_once(reduce_once(x, Word{} + 4 * p), Word{} + 2 * p), Word{} + p);
}

// to = to + factors * from, below p; a row of values, and the row of quotients behind it.
template <class Word>
UNDERSEAL_INLINE void add_product_row(const u32* from, const Row* factors, u32 p, u32* to) {
    const Word one = Word{} + p;
    UNDERSEAL_EACH_WORD(l) {
        const auto factor = LaneFactor<Word>::at(factors->words + l);
        const Word moved = multiply_lazy(load<Word>(from + l), factor, p);
        store<Word>(to + l, reduce_once(load<Word>(to + l) + reduce_once(moved, one), one));
    }
}

}  // namespace underseal
