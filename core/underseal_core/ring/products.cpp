#include "products.hpp"

#include "rows.hpp"

namespace underseal {
namespace {

// Both components of one row. A sum of kMaxDigits products of values below 8p and p is below
// 56 p^2 < 2^64, and 56 p^2 / 2^32 + p <= 8p.
template <class Word>
struct KeySums {
    u64 sums[2][kLanes] = {};

    UNDERSEAL_INLINE void add(const u32* digit, const u32* key0, const u32* key1) {
        for (size_t l = 0; l < kLanes; ++l) {
            sums[0][l] += static_cast<u64>(digit[l]) * key0[l];
            sums[1][l] += static_cast<u64>(digit[l]) * key1[l];
        }
    }

    UNDERSEAL_INLINE void reduce(size_t c, u32 p, u32 inverse, u32* out) const {
        for (size_t l = 0; l < kLanes; ++l) {
            out[l] = montgomery_lazy(sums[c][l], p, inverse);
        }
    }
};

#if UNDERSEAL_WIDE

template <>
struct KeySums<Words> {
    Vector even[2] = {}, odd[2] = {};

    UNDERSEAL_INLINE void add(const u32* digit, const u32* key0, const u32* key1) {
        const Vector d = load<Vector>(digit), k0 = load<Vector>(key0), k1 = load<Vector>(key1);
        even[0] += even_products(d, k0);
        odd[0] += even_products(d >> 32, k0 >> 32);
        even[1] += even_products(d, k1);
        odd[1] += even_products(d >> 32, k1 >> 32);
    }

    UNDERSEAL_INLINE void reduce(size_t c, u32 p, u32 inverse, u32* out) const {
        store<Words>(out, montgomery_words(even[c], odd[c], p, inverse));
    }
};

#endif

template <class Word>
UNDERSEAL_INLINE void multiply_keys_loop(const KeyProducts& k, size_t at, size_t words, u32* out0,
                                         u32* out1) {
    for (size_t x = 0; x < words; x += kLanes) {
        KeySums<Word> sums;
        for (size_t j = 0; j < k.count; ++j) {
            sums.add(k.digits[j] + at + x, k.keys[0][j] + at + x, k.keys[1][j] + at + x);
        }
        sums.reduce(0, k.p, k.inverse, out0 + x);
        sums.reduce(1, k.p, k.inverse, out1 + x);
    }
}

}  // namespace

UNDERSEAL_KERNEL(multiply_keys, multiply_keys_loop,
                 (const KeyProducts& k, size_t at, size_t words, u32* out0, u32* out1),
                 (k, at, words, out0, out1))

}  // namespace underseal
