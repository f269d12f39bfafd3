#include "basis.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "lanes.hpp"
#include "workspace.hpp"

namespace underseal {
namespace {

struct KeyProducts {
    const u32* const* digits;  // planes, values below 8p
    const u32* keys[2][kMaxDigits];
    size_t count;
    u32 p;
    u32 inverse;

    // out_c[x] = sum_j digit_j[x] * key_{j,c}[x], canonical. A sum of kMaxDigits products of
    // values below 8p and p is below 56 p^2 < 2^64, and 56 p^2 / 2^32 + p <= 8p.
    template <template <size_t> class Sums>
    UNDERSEAL_INLINE void compute(size_t begin, size_t end, u32* UNDERSEAL_RESTRICT out0,
                                  u32* UNDERSEAL_RESTRICT out1) const {
        for (size_t x = begin; x < end; ++x, out0 += kLanes, out1 += kLanes) {
            Sums<2> sums;
            for (size_t j = 0; j < count; ++j) {
                sums.add_scaled(digits[j] + x * kLanes, keys[0][j][x], keys[1][j][x]);
            }
            sums.montgomery(0, p, inverse, out0);
            sums.montgomery(1, p, inverse, out1);
            for (size_t l = 0; l < kLanes; ++l) {
                out0[l] = reduce_once(reduce_once(reduce_once(out0[l], 4 * p), 2 * p), p);
                out1[l] = reduce_once(reduce_once(reduce_once(out1[l], 4 * p), 2 * p), p);
            }
        }
    }
};

UNDERSEAL_NARROW_CLONES
void key_products_plain(const KeyProducts& k, size_t begin, size_t end, u32* out0, u32* out1) {
    k.compute<PlainSums>(begin, end, out0, out1);
}

#if UNDERSEAL_WIDE
UNDERSEAL_WIDE_TARGET
void key_products_wide(const KeyProducts& k, size_t begin, size_t end, u32* out0, u32* out1) {
    k.compute<WideSums>(begin, end, out0, out1);
}
#endif

// out = (value - lazy) * factor, lazy below 8p.
UNDERSEAL_CLONES
void subtract_scale(const u32* value, const u32* lazy, size_t words, Factor f, u32 p, u32* out) {
    for (size_t i = 0; i < words; ++i) {
        const u32 d = value[i] + 4 * p - reduce_once(lazy[i], 4 * p);
        out[i] = reduce_once(multiply_lazy(d, f.value, f.quotient, p), p);
    }
}

UNDERSEAL_CLONES
void add_half(u32* data, size_t words, u32 p) {
    for (size_t i = 0; i < words; ++i) {
        data[i] = reduce_once(data[i] + (p >> 1), p);
    }
}

UNDERSEAL_CLONES
void add_words(u32* UNDERSEAL_RESTRICT to, const u32* UNDERSEAL_RESTRICT from, size_t words,
               u32 p) {
    for (size_t i = 0; i < words; ++i) {
        to[i] = reduce_once(to[i] + from[i], p);
    }
}

// The order is no pattern that a processor could predict, hence the prefetch.
UNDERSEAL_CLONES
void permute_rows(const u32* UNDERSEAL_RESTRICT from, const std::vector<u32>& permutation,
                  u32* UNDERSEAL_RESTRICT to) {
    constexpr size_t ahead = 32;
    const size_t rows = permutation.size();
    for (size_t x = 0; x < rows; ++x, to += kLanes) {
        const size_t later = permutation[x + ahead < rows ? x + ahead : x];
        UNDERSEAL_PREFETCH(from + later * kLanes);
        const u32* row = from + static_cast<size_t>(permutation[x]) * kLanes;
        for (size_t l = 0; l < kLanes; ++l) {
            to[l] = row[l];
        }
    }
}

UNDERSEAL_CLONES
void add_rows(const u32* a, const u32* b, size_t words, u32 p, u32* UNDERSEAL_RESTRICT out) {
    for (size_t i = 0; i < words; ++i) {
        out[i] = reduce_once(a[i] + b[i], p);
    }
}

// Rows of one component and prime of an expansion node c, with its switched image s.
UNDERSEAL_CLONES
void butterfly(u32* UNDERSEAL_RESTRICT c, const u32* UNDERSEAL_RESTRICT s,
               const Factor* monomials, size_t rows, u32 p, u32* UNDERSEAL_RESTRICT difference) {
    for (size_t x = 0; x < rows; ++x, c += kLanes, s += kLanes, difference += kLanes) {
        const Factor m = monomials[x];
        for (size_t l = 0; l < kLanes; ++l) {
            const u32 d = c[l] + p - s[l];
            c[l] = reduce_once(c[l] + s[l], p);
            difference[l] = reduce_once(multiply_lazy(d, m.value, m.quotient, p), p);
        }
    }
}

void butterfly_few(u32* c, const u32* s, const Factor* monomials, size_t rows, size_t lanes,
                   u32 p) {
    for (size_t x = 0; x < rows; ++x, c += kLanes, s += kLanes) {
        const Factor m = monomials[x];
        for (size_t l = 0; l < lanes; ++l) {
            const u32 d = c[l] + p - s[l];
            c[l] = reduce_once(c[l] + s[l], p);
            c[l + lanes] = reduce_once(multiply_lazy(d, m.value, m.quotient, p), p);
        }
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

void Basis::interleave(const u32* from, size_t count, size_t rows, u32* to) const {
    const size_t polynomial = rows * degree_;
    for (size_t x = 0; x < polynomial; ++x) {
        for (size_t l = 0; l < kLanes; ++l) {
            to[x * kLanes + l] = l < count ? from[l * polynomial + x] : 0;
        }
    }
}

void Basis::deinterleave(const u32* from, size_t count, size_t rows, u32* to) const {
    const size_t polynomial = rows * degree_;
    constexpr size_t strip = 16;
    for (size_t x = 0; x < polynomial; x += strip) {
        for (size_t l = 0; l < count; ++l) {
            for (size_t y = x; y < x + strip; ++y) {
                to[l * polynomial + y] = from[y * kLanes + l];
            }
        }
    }
}

void Basis::key_products(size_t level, size_t prime_index, const u32* key,
                         const u32* const* digits, size_t part, u32* out0, u32* out1) const {
    const PrimeTables& t = tables(prime_index);
    KeyProducts products{digits, {}, level, t.prime, t.montgomery_inverse};
    for (size_t j = 0; j < level; ++j) {
        products.keys[0][j] = key + (2 * j * size() + prime_index) * degree_;
        products.keys[1][j] = products.keys[0][j] + size() * degree_;
    }
    const size_t rows = part_rows(degree_);
#if UNDERSEAL_WIDE
    if (wide_lanes()) {
        key_products_wide(products, part * rows, (part + 1) * rows, out0, out1);
        return;
    }
#endif
    key_products_plain(products, part * rows, (part + 1) * rows, out0, out1);
}

// Residues of the divisor, transformed, to (value + half) mod divisor, coefficients.
void Basis::round(u32* remainder, size_t divisor) const {
    inverse(remainder, tables(divisor));
    add_half(remainder, plane(), prime(divisor));
}

// What must be added to rounded values to undo the half, under another prime.
u32 Basis::minus_half(size_t divisor, size_t prime_index) const {
    return prime(prime_index) - (prime(divisor) >> 1) % prime(prime_index);
}

Factor Basis::divisor_inverse(size_t divisor, size_t prime_index) const {
    const u32 p = prime(prime_index);
    return factor(underseal::inverse(prime(divisor) % p, p), p);
}

// Switch a polynomial to the basis secret. `load` copies the plane of one prime, `source` returns
// it; `consume` gets the two components of the result, part by part. memory holds
// switch_planes(level) planes.
template <class Load, class Source, class Consume>
void Basis::switch_target(size_t level, const u32* key, u32* memory, Load load, Source source,
                          Consume consume) const {
    const size_t special = size() - 1, rows = part_rows(degree_), words = rows * kLanes;
    u32* coefficients = memory;
    u32* scratch = coefficients + level * plane();
    u32* rounded[2] = {scratch + level * plane(), scratch + (level + 1) * plane()};
    u32* correction[2] = {rounded[1] + plane(), rounded[1] + 2 * plane()};
    u32* result[2] = {correction[1] + plane(), correction[1] + plane() + words};
    for (size_t j = 0; j < level; ++j) {
        load(j, coefficients + j * plane());
        inverse(coefficients + j * plane(), tables(j));
    }
    // The special prime comes first: the others need its remainder.
    for (size_t step = 0; step <= level; ++step) {
        const size_t i = step == 0 ? special : step - 1;
        const PrimeTables& t = tables(i);
        const u32* digits[kMaxDigits];
        for (size_t j = 0; j < level; ++j) {
            digits[j] = j == i ? source(i) : scratch + j * plane();
            if (j != i) {
                forward_spanning(coefficients + j * plane(), 0, scratch + j * plane(), t);
            }
        }
        if (i != special) {
            for (size_t c = 0; c < 2; ++c) {
                forward_spanning(rounded[c], minus_half(special, i), correction[c], t);
            }
        }
        for (size_t part = 0; part < degree_ / rows; ++part) {
            for (size_t j = 0; j < level; ++j) {
                if (j != i) {
                    forward_part(scratch + j * plane(), part, t);
                }
            }
            const size_t at = part * words;
            if (i == special) {
                key_products(level, i, key, digits, part, rounded[0] + at, rounded[1] + at);
                continue;
            }
            key_products(level, i, key, digits, part, result[0], result[1]);
            for (size_t c = 0; c < 2; ++c) {
                forward_part(correction[c], part, t);
                subtract_scale(result[c], correction[c] + at, words, divisor_inverse(special, i),
                               t.prime, result[c]);
            }
            consume(i, part, result[0], result[1]);
        }
        if (i == special) {
            round(rounded[0], special);
            round(rounded[1], special);
        }
    }
}

void Basis::apply_galois(const u32* in, size_t level, const u32* key, u64 element,
                         u32* out) const {
    const auto permutation = galois_permutation(tables(0), element);
    const size_t words = part_rows(degree_) * kLanes;
    u32* memory = workspace().get((switch_planes(level) + 1) * plane());
    u32* moved = memory + switch_planes(level) * plane();
    switch_target(
        level, key, memory,
        [&](size_t j, u32* to) {
            permute_rows(in + (level + j) * plane(), permutation, to);
        },
        [&](size_t i) {
            permute_rows(in + i * plane(), permutation, out + i * plane());
            permute_rows(in + (level + i) * plane(), permutation, moved);
            return moved;
        },
        [&](size_t i, size_t part, const u32* s0, const u32* s1) {
            u32* out0 = out + i * plane() + part * words;
            add_words(out0, s0, words, prime(i));
            std::memcpy(out0 + level * plane(), s1, words * sizeof(u32));
        });
}

void Basis::expand(u32* nodes, size_t level, size_t lanes, const u32* key, u64 element, u64 shift,
                   u32* difference) const {
    const auto permutation = galois_permutation(tables(0), element);
    const size_t rows = part_rows(degree_), words = rows * kLanes;
    u32* memory = workspace().get((switch_planes(level) + 2) * plane());
    u32* moved0 = memory + switch_planes(level) * plane();
    u32* moved1 = moved0 + plane();
    std::vector<Factor> monomials;
    const auto combine = [&](size_t i, size_t c, size_t part, const u32* s) {
        const size_t at = (c * level + i) * plane() + part * words;
        const Factor* m = monomials.data() + part * rows;
        if (lanes == kLanes) {
            butterfly(nodes + at, s, m, rows, prime(i), difference + at);
        } else {
            butterfly_few(nodes + at, s, m, rows, lanes, prime(i));
        }
    };
    switch_target(
        level, key, memory,
        [&](size_t j, u32* to) {
            permute_rows(nodes + (level + j) * plane(), permutation, to);
        },
        [&](size_t i) {  // before this prime's rows are overwritten
            permute_rows(nodes + i * plane(), permutation, moved0);
            permute_rows(nodes + (level + i) * plane(), permutation, moved1);
            monomials = monomial(tables(i), shift);
            return moved1;
        },
        [&](size_t i, size_t part, const u32* s0, const u32* s1) {
            add_words(moved0 + part * words, s0, words, prime(i));
            combine(i, 0, part, moved0 + part * words);
            combine(i, 1, part, s1);
        });
}

void Basis::switch_key(const u32* in, size_t level, const u32* key, u32* out) const {
    const size_t words = part_rows(degree_) * kLanes;
    const u32* target = in + level * plane();
    switch_target(
        level, key, workspace().get(switch_planes(level) * plane()),
        [&](size_t j, u32* to) {
            std::memcpy(to, target + j * plane(), plane() * sizeof(u32));
        },
        [&](size_t i) { return target + i * plane(); },
        [&](size_t i, size_t part, const u32* s0, const u32* s1) {
            const size_t at = i * plane() + part * words;
            add_rows(in + at, s0, words, prime(i), out + at);
            std::memcpy(out + at + level * plane(), s1, words * sizeof(u32));
        });
}

void Basis::relinearise(const u32* in, size_t level, const u32* key, u32* out) const {
    const size_t words = part_rows(degree_) * kLanes;
    const u32* target = in + 2 * level * plane();
    switch_target(
        level, key, workspace().get(switch_planes(level) * plane()),
        [&](size_t j, u32* to) {
            std::memcpy(to, target + j * plane(), plane() * sizeof(u32));
        },
        [&](size_t i) { return target + i * plane(); },
        [&](size_t i, size_t part, const u32* s0, const u32* s1) {
            const size_t at0 = i * plane() + part * words, at1 = at0 + level * plane();
            add_rows(in + at0, s0, words, prime(i), out + at0);
            add_rows(in + at1, s1, words, prime(i), out + at1);
        });
}

void Basis::rescale(const u32* in, size_t components, size_t level, u32* out) const {
    u32* rounded = workspace().get(2 * plane());
    u32* scratch = rounded + plane();
    const size_t last = level - 1, rows = part_rows(degree_), words = rows * kLanes;
    for (size_t c = 0; c < components; ++c) {
        const u32* from = in + c * level * plane();
        std::memcpy(rounded, from + last * plane(), plane() * sizeof(u32));
        round(rounded, last);
        for (size_t i = 0; i < last; ++i) {
            forward_spanning(rounded, minus_half(last, i), scratch, tables(i));
            for (size_t part = 0; part < degree_ / rows; ++part) {
                forward_part(scratch, part, tables(i));
                const size_t at = part * words;
                subtract_scale(from + i * plane() + at, scratch + at, words,
                               divisor_inverse(last, i), prime(i),
                               out + (c * last + i) * plane() + at);
            }
        }
    }
}

}  // namespace underseal
