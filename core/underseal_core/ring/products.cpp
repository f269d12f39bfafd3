#include "products.hpp"

#include "sums.hpp"

namespace underseal {
namespace {

// A sum of kMaxDigits products of values below 8p and p is below 56 p^2 < 2^64, and
// 56 p^2 / 2^32 + p <= 8p.
template <class Word>
UNDERSEAL_INLINE void multiply_keys_loop(const KeyProducts& k, size_t at, size_t words, u32* out0,
                                         u32* out1) {
    for (size_t x = 0; x < words; x += kLanes) {
        Sums<Word, 2> sums;
        for (size_t j = 0; j < k.count; ++j) {
            sums.add_products(k.digits[j] + at + x, k.keys[0][j] + at + x, k.keys[1][j] + at + x);
        }
        sums.montgomery(0, k.p, k.inverse, out0 + x);
        sums.montgomery(1, k.p, k.inverse, out1 + x);
    }
}

}  // namespace

UNDERSEAL_KERNEL(multiply_keys, multiply_keys_loop,
                 (const KeyProducts& k, size_t at, size_t words, u32* out0, u32* out1),
                 (k, at, words, out0, out1))

}  // namespace underseal
