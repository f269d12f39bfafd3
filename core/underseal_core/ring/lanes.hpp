// Rows of 16 words, and the forms that loops over them take.
//
// Loops are templates over a Word. With u32 they go from lane to lane and are left to the compiler,
// which widens 16 words in order to multiply them: more shuffles than multiplications. The vectors
// of GCC and Clang, Words16 and Words8, are as wide as the registers of AVX-512 and AVX2. They keep
// even and odd lanes apart instead: both halves of a 64-bit lane are already where they are needed.
#pragma once

#include <cstring>

#include "modular.hpp"

// Words of the widest vectors that are compiled: 16, 8, or 1 for the plain loops alone. The
// processor decides which of them run; tests ask for less.
#if !defined(UNDERSEAL_LANES)
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define UNDERSEAL_LANES 16
#else
#define UNDERSEAL_LANES 1
#endif
#endif

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
#if UNDERSEAL_LANES > 1
#define UNDERSEAL_KERNEL(name, loop, parameters, arguments)             \
    static void name##_plain parameters { loop<u32> arguments; }        \
    __attribute__((target("arch=x86-64-v3"))) static void name##_words8 \
        parameters { loop<Words8> arguments; }                          \
    __attribute__((target("arch=x86-64-v4"))) static void name##_words16 \
        parameters { loop<Words16> arguments; }                         \
    void name parameters {                                              \
        switch (vector_words()) {                                              \
            case 16:                                                    \
                return name##_words16 arguments;                        \
            case 8:                                                     \
                return name##_words8 arguments;                         \
            default:                                                    \
                return name##_plain arguments;                          \
        }                                                               \
    }
#else
#define UNDERSEAL_KERNEL(name, loop, parameters, arguments) \
    void name parameters { loop<u32> arguments; }
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

#if UNDERSEAL_LANES > 1

using Words16 = u32 __attribute__((vector_size(64)));
using Words8 = u32 __attribute__((vector_size(32)));

// The 64-bit lanes of a register.
template <class Words>
struct PairsOf;
template <>
struct PairsOf<Words16> {
    using Type = u64 __attribute__((vector_size(64)));
};
template <>
struct PairsOf<Words8> {
    using Type = u64 __attribute__((vector_size(32)));
};
template <class Words>
using Pairs = typename PairsOf<Words>::Type;

// Words of the vectors to use.
inline size_t vector_words() {
    static const size_t found = [] {
        const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
        const bool v4 = v3 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        return v4 && UNDERSEAL_LANES >= 16 ? 16 : v3 ? 8 : 1;
    }();
    return found;
}

// The products of even words. Compilers would take a multiplication of 64-bit words instead.
template <class Wide>
UNDERSEAL_INLINE Wide even_products(Wide a, Wide b) {
    Wide product;
    asm("vpmuludq %2, %1, %0" : "=v"(product) : "v"(a), "v"(b));
    return product;
}

// The high words of both, in turn.
UNDERSEAL_INLINE Words16 odd_words(Words16 even, Words16 odd) {
    return __builtin_shufflevector(even, odd, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29,
                                   15, 31);
}

UNDERSEAL_INLINE Words8 odd_words(Words8 even, Words8 odd) {
    return __builtin_shufflevector(even, odd, 1, 9, 3, 11, 5, 13, 7, 15);
}

// See montgomery_lazy; the sums of even and of odd lanes.
template <class Words>
UNDERSEAL_INLINE Words montgomery_words(Pairs<Words> even, Pairs<Words> odd, u32 p, u32 inverse) {
    using Wide = Pairs<Words>;
    const Wide prime = Wide{} + p, factor = Wide{} + inverse;
    const Wide m0 = even_products(even, factor), m1 = even_products(odd, factor);
    const Words high0 = reinterpret_cast<Words>(even_products(m0, prime));
    const Words high1 = reinterpret_cast<Words>(even_products(m1, prime));
    const Words sum0 = reinterpret_cast<Words>(even), sum1 = reinterpret_cast<Words>(odd);
    return odd_words(sum0, sum1) - odd_words(high0, high1) + p;
}

#endif

}  // namespace underseal
