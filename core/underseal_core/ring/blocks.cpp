#include "blocks.hpp"

#include <algorithm>

#include "rows.hpp"

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

template <class Word>
UNDERSEAL_INLINE void place_loop(const Row* power, u32 p, const BlockShape& shape,
                                 const u32* columns, size_t first_column, size_t count,
                                 size_t prime, size_t begin, size_t end, u32* tiles) {
    for (size_t first = begin; first < end; first += kTilesAtOnce) {
        const size_t last = std::min(first + kTilesAtOnce, end);
        for (size_t r = 0; r < 2 * count; ++r) {
            const u32* column = columns + (r * shape.level + prime) * shape.degree;
            for (size_t t = first; t < last; ++t) {
                u32* to = tiles + (prime * shape.tiles() + t) * shape.tile_words() +
                          (2 * first_column + r) * kLanes;
                add_product_row<Word>(column + t * kLanes, power + 2 * t, p, to);
            }
        }
    }
}

UNDERSEAL_KERNEL(place_prime, place_loop,
                 (const Row* power, u32 p, const BlockShape& shape, const u32* columns,
                  size_t first_column, size_t count, size_t prime, size_t begin, size_t end,
                  u32* tiles),
                 (power, p, shape, columns, first_column, count, prime, begin, end, tiles))

}  // namespace

void prepare(const Basis& basis, const BlockShape& shape, const u32* columns, TileRange range,
             u32* tiles) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        const PrimeTables& t = basis.tables(i);
        prepare_prime(t.montgomery_one, t.prime, shape, columns, i, begin, end, tiles);
    });
}

void place(const Basis& basis, const BlockShape& shape, const u32* columns, size_t first,
           size_t count, const Monomials& power, TileRange range, u32* tiles) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        place_prime(power.primes[i].data(), basis.prime(i), shape, columns, first, count, i, begin,
                    end, tiles);
    });
}

}  // namespace underseal
