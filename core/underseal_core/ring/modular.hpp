// Arithmetic modulo primes below 2^29 on 32-bit words, written so that plain loops vectorise.
#pragma once

#include <cstddef>
#include <cstdint>

// Hot functions are compiled once per instruction set and picked at load time. Sanitisers cannot
// instrument the resolvers this needs, so their build is plain, like every other platform's.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(UNDERSEAL_PLAIN)
#define UNDERSEAL_CLONES \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define UNDERSEAL_CLONES
#endif

#if defined(__GNUC__)
#define UNDERSEAL_INLINE inline __attribute__((always_inline))
#define UNDERSEAL_RESTRICT __restrict__
#define UNDERSEAL_PREFETCH(address) __builtin_prefetch(address)
#else
#define UNDERSEAL_INLINE inline
#define UNDERSEAL_RESTRICT
#define UNDERSEAL_PREFETCH(address) static_cast<void>(address)
#endif

// Before a loop whose iterations touch different words, though its arrays may be the same one.
#if defined(__clang__)
#define UNDERSEAL_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define UNDERSEAL_INDEPENDENT _Pragma("GCC ivdep")
#else
#define UNDERSEAL_INDEPENDENT
#endif

namespace underseal {

using u32 = std::uint32_t;
using u64 = std::uint64_t;
using std::size_t;

// Words of a row, and columns of a tile: what the widest registers hold.
inline constexpr size_t kLanes = 16;

// Lazy butterflies hold values below 8p in 32 bits, hence this bound on every prime.
inline constexpr u32 kPrimeLimit = u32{1} << 29;

// floor(w * 2^32 / p), the quotient of Shoup's multiplication by a constant w < p.
inline u32 shoup_quotient(u32 w, u32 p) {
    return static_cast<u32>((static_cast<u64>(w) << 32) / p);
}

// x * w mod p in [0, 2p), for any 32-bit x (Harvey, "Faster arithmetic for number-theoretic
// transforms", 2014, section 2).
UNDERSEAL_INLINE u32 multiply_lazy(u32 x, u32 w, u32 quotient, u32 p) {
    const u32 q = static_cast<u32>((static_cast<u64>(x) * quotient) >> 32);
    return x * w - q * p;
}

// x in [0, 2m) to [0, m). The unsigned minimum is one instruction where a comparison is three.
UNDERSEAL_INLINE u32 reduce_once(u32 x, u32 m) {
    const u32 y = x - m;
    return x < y ? x : y;
}

// Montgomery reduction with inverse = p^-1 mod 2^32: x / 2^32 mod p in (0, x / 2^32 + p].
UNDERSEAL_INLINE u32 montgomery_lazy(u64 x, u32 p, u32 inverse) {
    const u32 m = static_cast<u32>(x) * inverse;
    const u32 high = static_cast<u32>((static_cast<u64>(m) * p) >> 32);
    return static_cast<u32>(x >> 32) - high + p;
}

inline u32 multiply(u32 a, u32 b, u32 p) {
    return static_cast<u32>(static_cast<u64>(a) * b % p);
}

inline u32 power(u32 base, u64 exponent, u32 p) {
    u32 result = 1;
    for (; exponent != 0; exponent >>= 1) {
        if ((exponent & 1) != 0) {
            result = multiply(result, base, p);
        }
        base = multiply(base, base, p);
    }
    return result;
}

inline u32 inverse(u32 a, u32 p) {
    return power(a % p, p - 2, p);
}

// A constant to multiply by, with its Shoup quotient.
struct Factor {
    u32 value;
    u32 quotient;
};

inline Factor factor(u32 value, u32 p) {
    return {value, shoup_quotient(value, p)};
}

}  // namespace underseal
