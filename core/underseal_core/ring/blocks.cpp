#include "blocks.hpp"

#include <algorithm>

#include "lanes.hpp"

namespace underseal {
namespace {

struct Constants {
    u32 p;
    u32 inverse;
    Factor one;             // 2^32 mod p
    size_t lazy_dimensions;  // terms of two products below p^2 that 64 bits hold
};

Constants constants(const PrimeTables& t) {
    return {t.prime, t.montgomery_inverse, t.montgomery_one,
            static_cast<size_t>((u64{1} << 63) / (static_cast<u64>(t.prime) * t.prime))};
}

UNDERSEAL_INLINE u32 canonical(u32 x, u32 p) {
    return reduce_once(reduce_once(reduce_once(x, 4 * p), 2 * p), p);
}

// Adds C sums / 2^32 mod p to residues below p.
template <size_t C, template <size_t> class Sums>
UNDERSEAL_INLINE void add_reduced(Sums<C>& sums, const Constants& k, u32 total[][kLanes]) {
    for (size_t c = 0; c < C; ++c) {
        u32 lazy[kLanes];
        sums.fold(c, k.one.value);
        sums.montgomery(c, k.p, k.inverse, lazy);
        for (size_t l = 0; l < kLanes; ++l) {
            total[c][l] = reduce_once(total[c][l] + canonical(lazy[l], k.p), k.p);
        }
    }
}

template <template <size_t> class Sums>
UNDERSEAL_INLINE void score_tile(const u32* q, const u32* g, size_t dimension, const Constants& k,
                                 u32* out, size_t stride) {
    u32 total[3][kLanes] = {};
    for (size_t begin = 0; begin < dimension; begin += k.lazy_dimensions) {
        const size_t end = std::min(begin + k.lazy_dimensions, dimension);
        Sums<3> sums;
        for (size_t i = begin; i < end; ++i, q += 2 * kLanes, g += 2 * kLanes) {
            sums.add_tensor(q, q + kLanes, g, g + kLanes);
        }
        add_reduced(sums, k, total);
    }
    for (size_t c = 0; c < 3; ++c) {
        std::memcpy(out + c * stride, total[c], sizeof total[c]);
    }
}

struct ScoreWork {
    Constants constants;
    BlockShape shape;
    const std::vector<const u32*>& probes;
    const std::vector<const u32*>& blocks;
    size_t prime;
    u32* out;

    // All of some tiles of one prime, for every pair of probe and block.
    template <template <size_t> class Sums>
    UNDERSEAL_INLINE void compute(size_t begin, size_t end) const {
        const size_t stride = shape.level * shape.degree;
        for (size_t t = begin; t < end; ++t) {
            const size_t at = (prime * shape.tiles() + t) * shape.tile_words();
            u32* to = out + prime * shape.degree + t * kLanes;
            for (size_t b = 0; b < blocks.size(); ++b) {
                for (size_t a = 0; a < probes.size(); ++a) {
                    score_tile<Sums>(probes[a] + at, blocks[b] + at, shape.dimension,
                                          constants, to + (a * blocks.size() + b) * 3 * stride,
                                          stride);
                }
            }
        }
    }
};

UNDERSEAL_NARROW_CLONES
void score_plain(const ScoreWork& work, size_t begin, size_t end) {
    work.compute<PlainSums>(begin, end);
}

#if UNDERSEAL_WIDE
UNDERSEAL_WIDE_TARGET
void score_wide(const ScoreWork& work, size_t begin, size_t end) {
    work.compute<WideSums>(begin, end);
}
#endif

template <class Work>
void by_prime(const BlockShape& shape, TileRange range, Work work) {
    const size_t tiles = shape.tiles();
    for (size_t i = 0; i < shape.level; ++i) {
        const size_t begin = std::max(range.begin, i * tiles);
        const size_t end = std::min(range.end, (i + 1) * tiles);
        if (begin < end) {
            work(i, begin - i * tiles, end - i * tiles);
        }
    }
}

// Columns are far apart, by a power of two, so that their lines compete for the same few places in
// a cache: several tiles are taken from a column before the next column.
constexpr size_t kTilesAtOnce = 16;

UNDERSEAL_CLONES
void prepare_prime(Factor one, u32 p, const BlockShape& shape, const u32* columns, size_t prime,
                   size_t begin, size_t end, u32* tiles) {
    for (size_t first = begin; first < end; first += kTilesAtOnce) {
        const size_t last = std::min(first + kTilesAtOnce, end);
        for (size_t r = 0; r < 2 * shape.dimension; ++r) {
            const u32* column = columns + (r * shape.level + prime) * shape.degree;
            for (size_t t = first; t < last; ++t) {
                const u32* UNDERSEAL_RESTRICT from = column + t * kLanes;
                u32* UNDERSEAL_RESTRICT to =
                    tiles + (prime * shape.tiles() + t) * shape.tile_words() + r * kLanes;
                for (size_t l = 0; l < kLanes; ++l) {
                    to[l] = reduce_once(multiply_lazy(from[l], one.value, one.quotient, p), p);
                }
            }
        }
    }
}

// A monomial by tiles: values and quotients apart, as the loops over lanes want them.
struct TileFactors {
    u32 values[kTilesAtOnce][kLanes];
    u32 quotients[kTilesAtOnce][kLanes];

    TileFactors(const Factor* monomials, size_t tiles) {
        for (size_t t = 0; t < tiles; ++t) {
            for (size_t l = 0; l < kLanes; ++l) {
                values[t][l] = monomials[t * kLanes + l].value;
                quotients[t][l] = monomials[t * kLanes + l].quotient;
            }
        }
    }
};

UNDERSEAL_CLONES
void place_prime(const Factor* monomials, u32 p, const BlockShape& shape, const u32* columns,
                 size_t first_column, size_t count, size_t prime, size_t begin, size_t end,
                 u32* tiles) {
    for (size_t first = begin; first < end; first += kTilesAtOnce) {
        const size_t last = std::min(first + kTilesAtOnce, end);
        const TileFactors factors(monomials + first * kLanes, last - first);
        for (size_t r = 0; r < 2 * count; ++r) {
            const u32* column = columns + (r * shape.level + prime) * shape.degree;
            for (size_t t = first; t < last; ++t) {
                const u32* UNDERSEAL_RESTRICT from = column + t * kLanes;
                const u32* values = factors.values[t - first];
                const u32* quotients = factors.quotients[t - first];
                u32* UNDERSEAL_RESTRICT to = tiles +
                                             (prime * shape.tiles() + t) * shape.tile_words() +
                                             (2 * first_column + r) * kLanes;
                for (size_t l = 0; l < kLanes; ++l) {
                    const u32 moved = multiply_lazy(from[l], values[l], quotients[l], p);
                    to[l] = reduce_once(to[l] + reduce_once(moved, p), p);
                }
            }
        }
    }
}

struct CheckWork {
    Constants constants;
    BlockShape shape;
    const u32* columns;
    const unsigned char* signs;
    u32* norm;
    u32* projection;

    // One strip of kLanes coefficients under one prime.
    template <template <size_t> class Sums>
    UNDERSEAL_INLINE void strip(size_t at) const {
        const size_t stride = shape.level * shape.degree;
        u32 squares[3][kLanes] = {}, signed_sums[2][kLanes] = {};
        for (size_t begin = 0; begin < shape.dimension; begin += constants.lazy_dimensions) {
            const size_t end = std::min(begin + constants.lazy_dimensions, shape.dimension);
            Sums<3> square;
            Sums<1> sum0, sum1;
            for (size_t i = begin; i < end; ++i) {
                const u32* q0 = columns + 2 * i * stride + at;
                const u32* q1 = q0 + stride;
                const u32 sign = signs[i] != 0 ? constants.p - 1 : 1;
                square.add_tensor(q0, q1, q0, q1);
                sum0.add_scaled(q0, sign);
                sum1.add_scaled(q1, sign);
            }
            add_reduced(square, constants, squares);
            add_reduced(sum0, constants, signed_sums);
            add_reduced(sum1, constants, signed_sums + 1);
        }
        for (size_t c = 0; c < 3; ++c) {
            restore(squares[c], norm + c * stride + at);
        }
        for (size_t c = 0; c < 2; ++c) {
            restore(signed_sums[c], projection + c * stride + at);
        }
    }

    // Undo the division by 2^32 of Montgomery's reduction.
    UNDERSEAL_INLINE void restore(const u32* sums, u32* out) const {
        const Factor r = constants.one;
        for (size_t l = 0; l < kLanes; ++l) {
            out[l] = reduce_once(multiply_lazy(sums[l], r.value, r.quotient, constants.p),
                                 constants.p);
        }
    }
};

UNDERSEAL_NARROW_CLONES
void check_plain(const CheckWork& work, size_t begin, size_t end) {
    for (size_t at = begin; at < end; at += kLanes) {
        work.strip<PlainSums>(at);
    }
}

#if UNDERSEAL_WIDE
UNDERSEAL_WIDE_TARGET
void check_wide(const CheckWork& work, size_t begin, size_t end) {
    for (size_t at = begin; at < end; at += kLanes) {
        work.strip<WideSums>(at);
    }
}
#endif

}  // namespace

void prepare(const Basis& basis, const BlockShape& shape, const u32* columns, TileRange range,
             u32* tiles) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        const PrimeTables& t = basis.tables(i);
        prepare_prime(t.montgomery_one, t.prime, shape, columns, i, begin, end, tiles);
    });
}

void place(const Basis& basis, const BlockShape& shape, const u32* columns, size_t first,
           size_t count, const std::vector<std::vector<Factor>>& monomials, TileRange range,
           u32* tiles) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        place_prime(monomials[i].data(), basis.prime(i), shape, columns, first, count, i, begin,
                    end, tiles);
    });
}

void score(const Basis& basis, const BlockShape& shape, const std::vector<const u32*>& probes,
           const std::vector<const u32*>& blocks, TileRange range, u32* out) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        const ScoreWork work{constants(basis.tables(i)), shape, probes, blocks, i, out};
#if UNDERSEAL_WIDE
        if (wide_lanes()) {
            score_wide(work, begin, end);
            return;
        }
#endif
        score_plain(work, begin, end);
    });
}

void check_sums(const Basis& basis, const BlockShape& shape, const u32* columns,
                const unsigned char* signs, size_t begin, size_t end, u32* norm,
                u32* projection) {
    for (size_t i = 0; i < shape.level; ++i) {
        const CheckWork work{constants(basis.tables(i)), shape, columns, signs, norm, projection};
        const size_t at = i * shape.degree;
#if UNDERSEAL_WIDE
        if (wide_lanes()) {
            check_wide(work, at + begin, at + end);
            continue;
        }
#endif
        check_plain(work, at + begin, at + end);
    }
}

}  // namespace underseal
