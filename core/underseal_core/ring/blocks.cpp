#include "blocks.hpp"

#include <algorithm>

#include "rows.hpp"

namespace underseal {
namespace {

// Columns are far apart, by a power of two, so that their lines compete for the same few places in
// a cache: several tiles are taken from a column before the next column.
constexpr size_t kTilesAtOnce = 16;

template <class Word>
UNDERSEAL_INLINE void set_column_loop(const u32* column, size_t plane, Factor one, u32 p,
                                      const BlockShape& shape, u32* tiles) {
    for (size_t t = 0; t < shape.tiles(); ++t, column += kLanes, tiles += shape.tile_words()) {
        for (size_t c = 0; c < 2; ++c) {
            UNDERSEAL_EACH_WORD(l) {
                const Word lazy = multiply_lazy(load<Word>(column + c * plane + l), one, p);
                store<Word>(tiles + c * kLanes + l, reduce_once(lazy, Word{} + p));
            }
        }
    }
}

UNDERSEAL_KERNEL(set_column_of_prime, set_column_loop,
                 (const u32* column, size_t plane, Factor one, u32 p, const BlockShape& shape,
                  u32* tiles),
                 (column, plane, one, p, shape, tiles))

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

void set_column(const Basis& basis, const BlockShape& shape, const u32* column, size_t index,
                u32* tiles) {
    for (size_t i = 0; i < shape.level; ++i) {
        const PrimeTables& t = basis.tables(i);
        u32* first = tiles + i * shape.tiles() * shape.tile_words() + 2 * index * kLanes;
        set_column_of_prime(column + i * shape.degree, shape.level * shape.degree,
                            t.montgomery_one, t.prime, shape, first);
    }
}

void place(const Basis& basis, const BlockShape& shape, const u32* columns, size_t first,
           size_t count, const Monomials& power, TileRange range, u32* tiles) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        place_prime(power.primes[i].data(), basis.prime(i), shape, columns, first, count, i, begin,
                    end, tiles);
    });
}

}  // namespace underseal
