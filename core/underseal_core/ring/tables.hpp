// Constants of one prime: roots of unity in SEAL's order, and what reductions need.
#pragma once

#include <memory>
#include <vector>

#include "modular.hpp"

namespace underseal {

// Reverse the low `bits` bits of x.
inline u32 reverse_bits(u32 x, unsigned bits) {
    u32 result = 0;
    for (unsigned i = 0; i < bits; ++i) {
        result = (result << 1) | ((x >> i) & 1);
    }
    return result;
}

struct PrimeTables {
    size_t degree;
    unsigned log_degree;
    u32 prime;
    u32 montgomery_inverse;       // p^-1 mod 2^32
    Factor montgomery_one;        // 2^32 mod p
    Factor degree_inverse;        // N^-1 mod p
    std::vector<Factor> roots;    // psi^brv(i): root of butterfly node i
    std::vector<Factor> inverse_roots;
    std::vector<u32> exponents;   // 2 * brv(i) + 1: position i is the value at psi^that
};

// Tables of (degree, prime), computed once per process. psi is the smallest primitive 2N-th root
// of unity, as in SEAL (native/src/seal/util/ntt.cpp). Throws std::invalid_argument.
std::shared_ptr<const PrimeTables> prime_tables(size_t degree, u32 prime);

// psi^(power * (2 brv(i) + 1)) for all i: multiplication by X^power in the transformed domain.
std::vector<Factor> monomial(const PrimeTables& tables, u64 power);

// out[i] = in[permutation[i]] applies X -> X^element in the transformed domain.
std::vector<u32> galois_permutation(const PrimeTables& tables, u64 element);

}  // namespace underseal
