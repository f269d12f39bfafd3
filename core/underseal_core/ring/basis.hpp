// A degree and a chain of primes, with the operations on groups of 16 interleaved ciphertexts.
//
// Layout of a group: [component][prime][row x][16 lanes], transformed, residues below their prime.
// Layout of a key-switching key: [digit][component][prime, the last one special][N], transformed,
// in Montgomery form (times 2^32), from scale_key.
//
// Results equal SEAL's residue for residue: digits are the plain residues of each prime, division
// adds half of the divisor first (native/src/seal/evaluator.cpp, switch_key_inplace;
// util/rns.cpp, divide_and_round_q_last_ntt_inplace).
#pragma once

#include <vector>

#include "ntt.hpp"

namespace underseal {

// Most data primes of a basis: 8 digits of lazy products fit into 64 bits.
inline constexpr size_t kMaxDigits = 7;

class Basis {
  public:
    // Throws std::invalid_argument unless every prime is usable and they lie within a factor of 3
    // of each other (so that residues of one prime are valid lazy values of another).
    Basis(size_t degree, std::vector<u32> primes);

    size_t degree() const { return degree_; }
    size_t size() const { return primes_.size(); }
    u32 prime(size_t i) const { return primes_[i]; }
    const PrimeTables& tables(size_t i) const { return *tables_[i]; }
    size_t plane() const { return degree_ * kLanes; }

    // key (rows, primes, N) to Montgomery form.
    void scale_key(const u32* key, size_t rows, u32* out) const;

    // (count <= 16, rows, N) to (rows, N, 16), missing lanes zero; and back.
    void interleave(const u32* from, size_t count, size_t rows, u32* to) const;
    void deinterleave(const u32* from, size_t count, size_t rows, u32* to) const;

    // One node of the expansion tree per lane, `lanes` of them in use:
    //   s = apply_galois(c, element); nodes = c + s; difference = (c - s) X^shift.
    // With fewer than 16 lanes, the difference goes to lane i + lanes of `nodes` instead.
    void expand(u32* nodes, size_t level, size_t lanes, const u32* key, u64 element, u64 shift,
                u32* difference) const;

    // out = apply_galois(in, element).
    void apply_galois(const u32* in, size_t level, const u32* key, u64 element, u32* out) const;

    // out (2 components) = c0 + ks0(c1), ks1(c1): from the key's secret to the basis secret.
    void switch_key(const u32* in, size_t level, const u32* key, u32* out) const;

    // out (2 components) = c0 + ks0(c2), c1 + ks1(c2).
    void relinearise(const u32* in, size_t level, const u32* key, u32* out) const;

    // Divide by the last of `level` primes.
    void rescale(const u32* in, size_t components, size_t level, u32* out) const;

  private:
    template <class Load, class Source, class Consume>
    void switch_target(size_t level, const u32* key, u32* memory, Load load, Source source,
                       Consume consume) const;
    void key_products(size_t level, size_t prime, const u32* key, const u32* const* digits,
                      size_t part, u32* out0, u32* out1) const;
    void round(u32* remainder, size_t divisor) const;
    u32 minus_half(size_t divisor, size_t prime) const;
    Factor divisor_inverse(size_t divisor, size_t prime) const;
    // Coefficients and scratch; remainders, corrections and results of two components.
    static size_t switch_planes(size_t level) { return 2 * level + 6; }

    size_t degree_;
    std::vector<u32> primes_;
    std::vector<std::shared_ptr<const PrimeTables>> tables_;
};

}  // namespace underseal
