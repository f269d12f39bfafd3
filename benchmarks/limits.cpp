// What this machine could do at most: reading memory in order, and multiplying words that are in
// registers. Compiled by limits.py for this machine.

#include "core/underseal_core/ring/lanes.hpp"

using namespace underseal;

extern "C" u64 stream(const u64* from, size_t words) {
    u64 all = 0;
    for (size_t i = 0; i < words; ++i) {
        all |= from[i];
    }
    return all;
}

// Products of 32-bit words, each added to a 64-bit sum; returns how many.
extern "C" size_t multiply(size_t rounds) {
#if defined(__AVX2__) && UNDERSEAL_LANES > 1
#if defined(__AVX512F__)
    using Wide = Pairs<Words16>;
    constexpr size_t kSums = 24;
#else
    using Wide = Pairs<Words8>;
    constexpr size_t kSums = 12;
#endif
    Wide sums[kSums] = {}, x = Wide{} + 3, y = Wide{} + 5;
    for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
        for (size_t k = 0; k < kSums; ++k) {
            Wide product;
            asm volatile("vpmuludq %2, %1, %0" : "=v"(product) : "v"(x), "v"(y));
            sums[k] += product;
        }
    }
    for (size_t k = 0; k < kSums; ++k) {
        asm volatile("" : : "v"(sums[k]));
    }
    return rounds * kSums * sizeof(Wide) / sizeof(u64);
#else
    constexpr size_t kWords = 64;
    u32 x[kWords];
    u64 sums[kWords] = {}, all = 0;
    for (size_t k = 0; k < kWords; ++k) {
        x[k] = static_cast<u32>(k * 2654435761u);
    }
    for (size_t i = 0; i < rounds; ++i) {
        const u32 y = static_cast<u32>(i) | 1;
        for (size_t k = 0; k < kWords; ++k) {
            sums[k] += static_cast<u64>(x[k]) * y;
        }
    }
    for (const u64 sum : sums) {
        all ^= sum;
    }
    volatile u64 kept = all;
    static_cast<void>(kept);
    return rounds * kWords;
#endif
}
