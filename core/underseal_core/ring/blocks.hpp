// Gallery blocks and scoring.
//
// A block is tile-major, [prime][N/16][dimension][component][16]: the 2 * 16 residues of every
// column at one tile of coefficients lie together, so that scoring streams a block once while one
// tile of the probe stays in cache. Columns are [dimension][component][prime][N].
#pragma once

#include <algorithm>

#include "basis.hpp"

namespace underseal {

struct BlockShape {
    size_t level;
    size_t degree;
    size_t dimension;

    size_t tiles() const { return degree / kLanes; }
    size_t tile_words() const { return dimension * 2 * kLanes; }
};

// A range of tiles over all primes: tile t of prime i is number i * tiles() + t.
struct TileRange {
    size_t begin;
    size_t end;
};

// Calls work(prime, first tile, end) for the part of a range that lies under each prime.
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

// One column, (2, level, N), in Montgomery form as number `index` of a probe's tiles.
void set_column(const Basis& basis, const BlockShape& shape, const u32* column, size_t index,
                u32* tiles);

// tiles[first + k] += power * columns[k] for k < count.
void place(const Basis& basis, const BlockShape& shape, const u32* columns, size_t first,
           size_t count, const Monomials& power, TileRange range, u32* tiles);

// out[(probe * blocks + block)] (3, level, N) = sum_i probe_i (x) block_i.
void score(const Basis& basis, const BlockShape& shape, const std::vector<const u32*>& probes,
           const std::vector<const u32*>& blocks, TileRange range, u32* out);

// sums (3, level, N) += sum_i columns_i (x) columns_i, of few columns, (count, 2, level, N): the
// sums of so few fit their words without a reduction in between.
constexpr size_t kSquaredColumns = 4;
static_assert(kSquaredColumns <= 32, "sums of two products below 2^58 each");
void add_squares(const Basis& basis, size_t level, const u32* columns, size_t count, u32* sums);

}  // namespace underseal
