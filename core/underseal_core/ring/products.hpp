// Sums of products of digits and a key-switching key.
#pragma once

#include "modular.hpp"

namespace underseal {

// Most digits: 8 lazy products fit into 64 bits.
inline constexpr size_t kMaxDigits = 7;

struct KeyProducts {
    const u32* const* digits;  // values below 8p
    const u32* keys[2][kMaxDigits];
    size_t count;
    u32 p;
    u32 inverse;
};

// out_c[x] = sum_j digit_j[at + x] * key_{j,c}[at + x] for x < words, below 8p.
void multiply_keys(const KeyProducts& k, size_t at, size_t words, u32* out0, u32* out1);

}  // namespace underseal
