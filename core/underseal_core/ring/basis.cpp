#include "basis.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "rows.hpp"
#include "workspace.hpp"

namespace underseal {
namespace {

// out = (value - lazy) * factor, below p; both below 8p. out may equal value.
template <class Word>
UNDERSEAL_INLINE void divide_loop(const u32* value, const u32* lazy, size_t words, Factor f, u32 p,
                                  u32* out) {
    const Word one = Word{} + p, four = Word{} + 4 * p;
    for (size_t x = 0; x < words; x += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word v = reduce_once(load<Word>(value + x + l), four);
            const Word w = reduce_once(load<Word>(lazy + x + l), four);
            store<Word>(out + x + l, reduce_once(multiply_lazy(v + 4 * p - w, f, p), one));
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void add_loop(const u32* a, const u32* b, size_t words, u32 p, u32* out) {
    const Word one = Word{} + p;
    for (size_t x = 0; x < words; x += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word sum = load<Word>(a + x + l) + load<Word>(b + x + l);
            store<Word>(out + x + l, reduce_once(sum, one));
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void permute_loop(const u32* from, const Automorphism& turn, size_t begin,
                                   size_t end, u32* to) {
    for (size_t x = begin; x < end; ++x, to += kLanes) {
        permute_row<Word>(from + turn.source(x) * kLanes, turn.lanes(x), to);
    }
}

// Rows of one component and prime of an expansion node c, with its switched image s.
template <class Word>
UNDERSEAL_INLINE void butterfly_loop(const u32* c, const u32* s, const Row* monomials,
                                     size_t words, u32 p, u32* sum, u32* difference) {
    const Word one = Word{} + p;
    for (size_t x = 0; x < words; x += kLanes, monomials += 2) {
        const u32* m = monomials[0].words;
        UNDERSEAL_EACH_WORD(l) {
            const Word a = load<Word>(c + x + l), b = load<Word>(s + x + l);
            const Word d = multiply_lazy(a + p - b, LaneFactor<Word>::at(m + l), p);
            store<Word>(sum + x + l, reduce_once(a + b, one));
            store<Word>(difference + x + l, reduce_once(d, one));
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void add_product_loop(const u32* from, const Row* monomials, size_t words, u32 p,
                                       u32* to) {
    for (size_t x = 0; x < words; x += kLanes, monomials += 2) {
        add_product_row<Word>(from + x, monomials, p, to + x);
    }
}

UNDERSEAL_KERNEL(divide, divide_loop,
                 (const u32* value, const u32* lazy, size_t words, Factor f, u32 p, u32* out),
                 (value, lazy, words, f, p, out))
UNDERSEAL_KERNEL(add, add_loop,
                 (const u32* a, const u32* b, size_t words, u32 p, u32* out),
                 (a, b, words, p, out))
UNDERSEAL_KERNEL(permute, permute_loop,
                 (const u32* from, const Automorphism& turn, size_t begin, size_t end, u32* to),
                 (from, turn, begin, end, to))
UNDERSEAL_KERNEL(butterfly, butterfly_loop,
                 (const u32* c, const u32* s, const Row* monomials, size_t words, u32 p,
                  u32* sum, u32* difference),
                 (c, s, monomials, words, p, sum, difference))

UNDERSEAL_KERNEL(add_products, add_product_loop,
                 (const u32* from, const Row* monomials, size_t words, u32 p, u32* to),
                 (from, monomials, words, p, to))

UNDERSEAL_CLONES
void add_half(u32* data, size_t words, u32 p) {
    for (size_t i = 0; i < words; ++i) {
        data[i] = reduce_once(data[i] + (p >> 1), p);
    }
}

}  // namespace

Basis::Basis(size_t degree, std::vector<u32> primes) : degree_(degree), primes_(std::move(primes)) {
    if (primes_.empty() || primes_.size() > kMaxDigits + 1) {
        throw std::invalid_argument("a basis has 1 to 8 primes");
    }
    for (const u32 p : primes_) {
        tables_.push_back(prime_tables(degree, p));
    }
    const auto [low, high] = std::minmax_element(primes_.begin(), primes_.end());
    if (*high / 3 >= *low) {
        throw std::invalid_argument("primes of a basis must lie within a factor of 3");
    }
    for (size_t i = 0; i < primes_.size(); ++i) {
        if (std::count(primes_.begin(), primes_.end(), primes_[i]) != 1) {
            throw std::invalid_argument("primes of a basis must differ");
        }
    }
    for (const u32 divisor : primes_) {
        for (const u32 p : primes_) {
            divisor_inverses_.push_back(factor(underseal::inverse(divisor % p, p), p));
        }
    }
}

Monomials Basis::monomials(size_t level, u64 power) const {
    Monomials result;
    for (size_t i = 0; i < level; ++i) {
        result.primes.push_back(monomial(tables(i), power));
    }
    return result;
}

void Basis::add_product(const u32* from, const std::vector<Row>& monomial, size_t prime_index,
                        u32* to) const {
    add_products(from, monomial.data(), degree_, prime(prime_index), to);
}

void Basis::scale_key(const u32* key, size_t rows, u32* out) const {
    for (size_t r = 0; r < rows; ++r) {
        for (size_t i = 0; i < size(); ++i) {
            const Factor one = tables(i).montgomery_one;
            const u32 p = prime(i);
            for (size_t x = 0; x < degree_; ++x, ++key, ++out) {
                *out = reduce_once(multiply_lazy(*key, one.value, one.quotient, p), p);
            }
        }
    }
}


void Basis::key_products(size_t level, size_t prime_index, const u32* key,
                         const u32* const* digits, size_t at, u32* out0, u32* out1) const {
    const PrimeTables& t = tables(prime_index);
    KeyProducts products{digits, {}, level, t.prime, t.montgomery_inverse};
    for (size_t j = 0; j < level; ++j) {
        products.keys[0][j] = key + (2 * j * size() + prime_index) * degree_;
        products.keys[1][j] = products.keys[0][j] + size() * degree_;
    }
    multiply_keys(products, at, block_words(), out0, out1);
}

// Residues of the divisor, transformed, to (value + half) mod divisor, coefficients.
void Basis::round(const u32* value, u32* remainder, size_t divisor) const {
    inverse(value, remainder, tables(divisor));
    add_half(remainder, degree_, prime(divisor));
}

// What must be added to rounded values to undo the half, under another prime.
u32 Basis::minus_half(size_t divisor, size_t prime_index) const {
    return prime(prime_index) - (prime(divisor) >> 1) % prime(prime_index);
}

template <class Source, class Consume>
void Basis::switch_target(size_t level, const u32* key, u32* memory, Source source,
                          Consume consume) const {
    const size_t special = size() - 1, words = block_words();
    u32* coefficients = memory;
    u32* scratch = coefficients + level * plane();
    u32* rounded[2] = {scratch + level * plane(), scratch + (level + 1) * plane()};
    u32* correction[2] = {rounded[1] + plane(), rounded[1] + 2 * plane()};
    for (size_t j = 0; j < level; ++j) {
        inverse(source(j), coefficients + j * plane(), tables(j));
    }
    // The special prime comes first: the others need its remainder.
    for (size_t step = 0; step <= level; ++step) {
        const size_t i = step == 0 ? special : step - 1;
        const PrimeTables& t = tables(i);
        const u32* digits[kMaxDigits];
        for (size_t j = 0; j < level; ++j) {
            digits[j] = j == i ? source(i) : scratch + j * plane();
            if (j != i) {
                forward_rows(coefficients + j * plane(), 0, scratch + j * plane(), t);
            }
        }
        const Factor inverse_of_special = i == special ? Factor{} : divisor_inverse(special, i);
        for (size_t c = 0; c < 2 && i != special; ++c) {
            forward_rows(rounded[c], minus_half(special, i), correction[c], t);
        }
        for (size_t block = 0; block < blocks(); ++block) {
            const size_t at = block * kBlock;
            for (size_t j = 0; j < level; ++j) {
                if (j != i) {
                    forward_block(scratch + j * plane() + at, block, t);
                }
            }
            if (i == special) {
                key_products(level, i, key, digits, at, rounded[0] + at, rounded[1] + at);
                canonical(rounded[0] + at, words, t.prime);
                canonical(rounded[1] + at, words, t.prime);
                continue;
            }
            Row result[2][kBlockRows];
            u32* parts[2] = {result[0][0].words, result[1][0].words};
            key_products(level, i, key, digits, at, parts[0], parts[1]);
            for (size_t c = 0; c < 2; ++c) {
                forward_block(correction[c] + at, block, t);
                divide(parts[c], correction[c] + at, words, inverse_of_special, t.prime, parts[c]);
            }
            consume(i, at, parts[0], parts[1]);
        }
        if (i == special) {
            round(rounded[0], rounded[0], special);
            round(rounded[1], rounded[1], special);
        }
    }
}

void Basis::expand(const u32* in, size_t level, const ExpansionStep& step, u32* sum,
                   u32* difference) const {
    const Automorphism& turn = step.automorphism;
    const size_t words = block_words();
    u32* memory = workspace().get((switch_planes(level) + level) * plane());
    u32* moved = memory + switch_planes(level) * plane();
    for (size_t j = 0; j < level; ++j) {
        permute(in + (level + j) * degree_, turn, 0, turn.rows(), moved + j * plane());
    }
    switch_target(
        level, step.key, memory, [&](size_t j) { return moved + j * plane(); },
        [&](size_t i, size_t at, u32* s0, u32* s1) {
            Row image[kBlockRows];
            const Row* monomials = step.monomials.primes[i].data() + 2 * at / kLanes;
            const size_t at0 = i * degree_ + at, at1 = at0 + level * degree_;
            permute(in + i * degree_, turn, at / kLanes, (at + words) / kLanes, image[0].words);
            add(s0, image[0].words, words, prime(i), s0);
            butterfly(in + at0, s0, monomials, words, prime(i), sum + at0, difference + at0);
            butterfly(in + at1, s1, monomials, words, prime(i), sum + at1, difference + at1);
        });
}

void Basis::switch_key(const u32* in, size_t level, const u32* key, u32* out) const {
    const u32* target = in + level * degree_;
    switch_target(
        level, key, workspace().get(switch_planes(level) * plane()),
        [&](size_t j) { return target + j * degree_; },
        [&](size_t i, size_t at, const u32* s0, const u32* s1) {
            u32* to = out + i * degree_ + at;
            add(in + i * degree_ + at, s0, block_words(), prime(i), to);
            std::memcpy(to + level * degree_, s1, block_words() * sizeof(u32));
        });
}

void Basis::relinearise(const u32* in, size_t level, const u32* key, u32* out) const {
    const u32* target = in + 2 * level * degree_;
    switch_target(
        level, key, workspace().get(switch_planes(level) * plane()),
        [&](size_t j) { return target + j * degree_; },
        [&](size_t i, size_t at, const u32* s0, const u32* s1) {
            const size_t at0 = i * degree_ + at, at1 = at0 + level * degree_;
            add(in + at0, s0, block_words(), prime(i), out + at0);
            add(in + at1, s1, block_words(), prime(i), out + at1);
        });
}

void Basis::rescale(const u32* in, size_t components, size_t level, u32* out) const {
    const size_t last = level - 1;
    u32* rounded = workspace().get(2 * plane());
    u32* scratch = rounded + plane();
    for (size_t c = 0; c < components; ++c) {
        const u32* from = in + c * level * degree_;
        round(from + last * degree_, rounded, last);
        for (size_t i = 0; i < last; ++i) {
            const Factor f = divisor_inverse(last, i);
            forward_rows(rounded, minus_half(last, i), scratch, tables(i));
            for (size_t block = 0; block < blocks(); ++block) {
                const size_t at = block * kBlock;
                forward_block(scratch + at, block, tables(i));
                divide(from + i * degree_ + at, scratch + at, block_words(), f, prime(i),
                       out + (c * last + i) * degree_ + at);
            }
        }
    }
}

}  // namespace underseal
