#include "blocks.hpp"

#include <algorithm>

namespace underseal {
namespace {

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

}  // namespace underseal
