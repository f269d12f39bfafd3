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

// 16 words of a polynomial, on a cache line.
struct alignas(64) Row {
    u32 words[kLanes];
};

// The four last steps of a transform act within rows, so that every lane has roots of its own.
// For each block of 16 rows: 15 factors, as a row of values and a row of quotients each. Lane l is
// row l of the block; factors 3k, 3k + 1 and 3k + 2 are the roots of node n and of its children,
// where n is the row's node for k = 0 and its grandchild k - 1 for k > 0.
inline constexpr size_t kBlockRows = 16;
inline constexpr size_t kBlock = kBlockRows * kLanes;
inline constexpr size_t kBlockFactors = 15;

struct PrimeTables {
    size_t degree;
    unsigned log_degree;
    u32 prime;
    u32 montgomery_inverse;       // p^-1 mod 2^32
    Factor montgomery_one;        // 2^32 mod p
    Factor degree_inverse;        // N^-1 mod p
    std::vector<Factor> roots;    // psi^brv(i): root of butterfly node i
    std::vector<Factor> inverse_roots;
    std::vector<Row> lane_roots;  // see above
    std::vector<Row> inverse_lane_roots;
    std::vector<u32> exponents;   // 2 * brv(i) + 1: position i is the value at psi^that
};

// Tables of (degree, prime), computed once per process. psi is the smallest primitive 2N-th root
// of unity, as in SEAL (native/src/seal/util/ntt.cpp). Throws std::invalid_argument.
std::shared_ptr<const PrimeTables> prime_tables(size_t degree, u32 prime);

// psi^(power * (2 brv(i) + 1)) for all i: multiplication by X^power in the transformed domain.
// power counts modulo 2N. For each row of a polynomial a row of values and one of quotients.
std::vector<Row> monomial(const PrimeTables& tables, u64 power);

// X -> X^element in the transformed domain. The lanes of a row come from one row: their low bits
// are the high bits of what the element multiplies, so only those of the result depend on them.
class Automorphism {
  public:
    // Throws std::invalid_argument for an even element.
    Automorphism(const PrimeTables& tables, u64 element);

    size_t rows() const { return sources_.size(); }
    // Word l of row x of the image is word lanes(x)[l] of row source(x).
    u32 source(size_t x) const { return sources_[x]; }
    const u32* lanes(size_t x) const { return lanes_[turns_[x]].words; }

  private:
    std::vector<u32> sources_;
    std::vector<unsigned char> turns_;
    std::vector<Row> lanes_;
};

}  // namespace underseal
