// Arithmetic on rows of 16 words, for transforms and what is done between them.
//
// Loops are templates over a Word: u32 for one lane, for loops over the lanes that the compiler
// vectorises, or Words, a whole row, where AVX-512 is there (see lanes.hpp for why).
#pragma once

#include "lanes.hpp"
#include "tables.hpp"

// Lanes of a row that a Word does not hold are left to a loop.
#define UNDERSEAL_EACH_WORD(l) \
    UNDERSEAL_INDEPENDENT      \
    for (size_t l = 0; l < kLanes; l += sizeof(Word) / sizeof(u32))

// Before a loop whose rows should stay in registers.
#if defined(__GNUC__) && !defined(__clang__)
#define UNDERSEAL_UNROLL _Pragma("GCC unroll 16")
#else
#define UNDERSEAL_UNROLL _Pragma("unroll")
#endif

// Defines `name`, which calls the template `loop` in the best form for the processor.
#if UNDERSEAL_WIDE
#define UNDERSEAL_KERNEL(name, loop, parameters, arguments)                        \
    UNDERSEAL_NARROW_CLONES static void name##_plain parameters { loop<u32> arguments; } \
    UNDERSEAL_WIDE_TARGET static void name##_wide parameters { loop<Words> arguments; }  \
    void name parameters {                                                         \
        if (wide_lanes()) {                                                        \
            name##_wide arguments;                                                 \
        } else {                                                                   \
            name##_plain arguments;                                                \
        }                                                                          \
    }
#else
#define UNDERSEAL_KERNEL(name, loop, parameters, arguments)                        \
    UNDERSEAL_NARROW_CLONES static void name##_plain parameters { loop<u32> arguments; } \
    void name parameters { name##_plain arguments; }
#endif

namespace underseal {

template <class Word>
UNDERSEAL_INLINE Word load(const u32* from) {
    Word word;
    std::memcpy(&word, from, sizeof word);
    return word;
}

template <class Word>
UNDERSEAL_INLINE void store(u32* to, Word word) {
    std::memcpy(to, &word, sizeof word);
}

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

template <class Word>
UNDERSEAL_INLINE void transpose(const u32* from, u32* to) {
    for (size_t r = 0; r < kLanes; ++r) {
        for (size_t l = 0; l < kLanes; ++l) {
            to[r * kLanes + l] = from[l * kLanes + r];
        }
    }
}

#if UNDERSEAL_WIDE

using Words = u32 __attribute__((vector_size(64)));

UNDERSEAL_INLINE Words reduce_once(Words x, Words m) {
    const Words y = x - m;
    return x < y ? x : y;
}

// The high words of both, in turn.
UNDERSEAL_INLINE Words odd_words(Words even, Words odd) {
    return __builtin_shufflevector(even, odd, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29,
                                   15, 31);
}

UNDERSEAL_INLINE Words multiply_lazy(Words x, LaneFactor<Words> f, u32 p) {
    const Vector pairs = reinterpret_cast<Vector>(x);
    const Vector quotients = reinterpret_cast<Vector>(f.quotient);
    const Words even = reinterpret_cast<Words>(even_products(pairs, quotients));
    const Words odd = reinterpret_cast<Words>(even_products(pairs >> 32, quotients >> 32));
    return x * f.value - odd_words(even, odd) * p;
}

UNDERSEAL_INLINE Words multiply_lazy(Words x, Factor f, u32 p) {
    const Vector pairs = reinterpret_cast<Vector>(x);
    const Vector quotient = Vector{} + f.quotient;
    const Words even = reinterpret_cast<Words>(even_products(pairs, quotient));
    const Words odd = reinterpret_cast<Words>(even_products(pairs >> 32, quotient));
    return x * f.value - odd_words(even, odd) * p;
}

// See montgomery_lazy; the sums of even and of odd lanes.
UNDERSEAL_INLINE Words montgomery_words(Vector even, Vector odd, u32 p, u32 inverse) {
    const Vector prime = Vector{} + p, factor = Vector{} + inverse;
    const Vector m0 = even_products(even, factor), m1 = even_products(odd, factor);
    const Words high0 = reinterpret_cast<Words>(even_products(m0, prime));
    const Words high1 = reinterpret_cast<Words>(even_products(m1, prime));
    const Words sum0 = reinterpret_cast<Words>(even), sum1 = reinterpret_cast<Words>(odd);
    return odd_words(sum0, sum1) - odd_words(high0, high1) + p;
}

template <>
UNDERSEAL_INLINE void permute_row<Words>(const u32* from, const u32* lanes, u32* to) {
    store<Words>(to, __builtin_shuffle(load<Words>(from), load<Words>(lanes)));
}

// Rows r and r + distance exchange words in runs of `distance`.
#define UNDERSEAL_EXCHANGE(distance, ...)                                         \
    UNDERSEAL_UNROLL                                                              \
    for (size_t r = 0; r < kLanes; ++r) {                                         \
        if ((r & (distance)) == 0) {                                              \
            const Words a = rows[r], b = rows[r + (distance)];                    \
            rows[r] = __builtin_shufflevector(a, b, UNDERSEAL_LOW_##distance);    \
            rows[r + (distance)] = __builtin_shufflevector(a, b, UNDERSEAL_HIGH_##distance); \
        }                                                                         \
    }
#define UNDERSEAL_LOW_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define UNDERSEAL_HIGH_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define UNDERSEAL_LOW_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define UNDERSEAL_HIGH_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define UNDERSEAL_LOW_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define UNDERSEAL_HIGH_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define UNDERSEAL_LOW_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define UNDERSEAL_HIGH_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31

template <>
UNDERSEAL_INLINE void transpose<Words>(const u32* from, u32* to) {
    Words rows[kLanes];
    UNDERSEAL_UNROLL
    for (size_t r = 0; r < kLanes; ++r) {
        rows[r] = load<Words>(from + r * kLanes);
    }
    UNDERSEAL_EXCHANGE(8)
    UNDERSEAL_EXCHANGE(4)
    UNDERSEAL_EXCHANGE(2)
    UNDERSEAL_EXCHANGE(1)
    UNDERSEAL_UNROLL
    for (size_t r = 0; r < kLanes; ++r) {
        store<Words>(to + r * kLanes, rows[r]);
    }
}

#endif

}  // namespace underseal
