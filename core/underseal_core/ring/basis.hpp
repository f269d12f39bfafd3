// A degree and a chain of primes, with the operations on ciphertexts that switch keys or divide.
//
// Layout of a ciphertext: [component][prime][N], transformed, residues below their prime.
// Layout of a key-switching key: [digit][component][prime, the last one special][N], transformed,
// in Montgomery form (times 2^32), from scale_key.
//
// Results equal SEAL's residue for residue: digits are the plain residues of each prime, division
// adds half of the divisor first (native/src/seal/evaluator.cpp, switch_key_inplace;
// util/rns.cpp, divide_and_round_q_last_ntt_inplace).
#pragma once

#include <vector>

#include "ntt.hpp"
#include "products.hpp"

namespace underseal {

// Multiplication by a power of X under each of the first `level` primes: see monomial.
struct Monomials {
    std::vector<std::vector<Row>> primes;
};

// One level of the expansion tree: s, the automorphism of c switched back, with X^-(nodes of the level) for (c - s).
struct ExpansionStep {
    const u32* key;
    Automorphism automorphism;
    Monomials monomials;
};

class Basis {
  public:
    // Throws std::invalid_argument unless every prime is usable and they lie within a factor of 3
    // of each other (so that residues of one prime are valid lazy values of another).
    Basis(size_t degree, std::vector<u32> primes);

    size_t degree() const { return degree_; }
    size_t size() const { return primes_.size(); }
    u32 prime(size_t i) const { return primes_[i]; }
    const PrimeTables& tables(size_t i) const { return *tables_[i]; }

    // Words of memory for a polynomial: whole blocks.
    size_t plane() const { return degree_ < kBlock ? kBlock : degree_; }
    size_t blocks() const { return plane() / kBlock; }
    size_t block_words() const { return degree_ < kBlock ? degree_ : kBlock; }

    Monomials monomials(size_t level, u64 power) const;

    // to = to + monomial * from, one prime.
    void add_product(const u32* from, const std::vector<Row>& monomial, size_t prime,
                     u32* to) const;

    // key (rows, primes, N) to Montgomery form.
    void scale_key(const u32* key, size_t rows, u32* out) const;

    // out (2 components) = c0 + ks0(c1), ks1(c1): from the key's secret to the basis secret.
    void switch_key(const u32* in, size_t level, const u32* key, u32* out) const;

    // out (2 components) = c0 + ks0(c2), c1 + ks1(c2).
    void relinearise(const u32* in, size_t level, const u32* key, u32* out) const;

    // The children of a node c: sum = c + s and difference = (c - s) * monomial. All three are
    // different memory.
    void expand(const u32* in, size_t level, const ExpansionStep& step, u32* sum,
                u32* difference) const;

    // Divide by the last of `level` primes.
    void rescale(const u32* in, size_t components, size_t level, u32* out) const;

  private:
    // Switch a polynomial to the basis secret. source(j) returns it under prime j;
    // consume(prime, at, first, second) gets the components of the result, a block of each from
    // word `at` on. memory holds switch_planes(level) planes.
    template <class Source, class Consume>
    void switch_target(size_t level, const u32* key, u32* memory, Source source,
                       Consume consume) const;
    static size_t switch_planes(size_t level) { return 2 * level + 4; }
    void key_products(size_t level, size_t prime, const u32* key, const u32* const* digits,
                      size_t at, u32* out0, u32* out1) const;
    void round(const u32* value, u32* remainder, size_t divisor) const;
    u32 minus_half(size_t divisor, size_t prime) const;
    Factor divisor_inverse(size_t divisor, size_t prime) const {
        return divisor_inverses_[divisor * size() + prime];
    }

    size_t degree_;
    std::vector<u32> primes_;
    std::vector<std::shared_ptr<const PrimeTables>> tables_;
    std::vector<Factor> divisor_inverses_;  // [divisor][prime]
};

}  // namespace underseal
