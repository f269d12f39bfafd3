// Sums of products: scores, and the norm of a probe.
//
// One or two probes: memory is the limit. Every block is read once, in runs of 64 KB, and rows are
// fetched a fixed distance ahead, since a processor's own prefetching stops at every page. Two
// blocks at once share the loads of the probe and keep more reads under way.
//
// Many probes: multiplications are the limit. Tiles are cut into strips of rows that stay in the
// second-level cache while every probe meets every block, two by two: a row is loaded and split once
// for two of the other side. Meanwhile the next strip of all of them is fetched, evenly spread over
// the work.
//
// Sums of products are 64 bits wide and folded, below 2^61, before they can overflow.

#include "blocks.hpp"
#include "rows.hpp"
#include "sums.hpp"
#include "workspace.hpp"

namespace underseal {
namespace {

constexpr size_t kRowWords = 2 * kLanes;  // two components of one dimension
// Rows in a strip, and rows between what is fetched and what is multiplied.
constexpr size_t kStripRows = 32;
// Probes and blocks of one pass: their strips and sums fit into 512 KB.
constexpr size_t kPassProbes = 16;
constexpr size_t kPassBlocks = 32;
constexpr size_t kRunWords = 16384;

struct Constants {
    u32 p;
    u32 inverse;
    Factor one;              // 2^32 mod p
    size_t lazy_dimensions;  // terms of two products below p^2 that may be added to a folded sum
};

Constants constants(const PrimeTables& t) {
    const u64 square = static_cast<u64>(t.prime) * t.prime;
    const size_t lazy = static_cast<size_t>((u64{7} << 60) / square);
    return {t.prime, t.montgomery_inverse, t.montgomery_one,
            lazy > kStripRows ? lazy / kStripRows * kStripRows : lazy};
}

// Three sums / 2^32, below p.
template <class Word>
UNDERSEAL_INLINE void reduce(Sums<Word, 3>& sums, const Constants& k, u32 out[3][kLanes]) {
    sums.fold(k.one.value);
    for (size_t c = 0; c < 3; ++c) {
        u32* row = out[c];
        sums.montgomery(c, k.p, k.inverse, row);
        UNDERSEAL_EACH_WORD(l) {
            store<Word>(row + l, canonical_word(load<Word>(row + l), k.p));
        }
    }
}

UNDERSEAL_INLINE void fetch_row(const u32* row) {
    UNDERSEAL_PREFETCH(row);
    UNDERSEAL_PREFETCH(row + kLanes);
}

// Fetches rows of the blocks that are being multiplied.
struct Straight {
    template <size_t B>
    UNDERSEAL_INLINE void fetch(const u32* const* blocks, size_t at) const {
        for (size_t b = 0; b < B; ++b) {
            fetch_row(blocks[b] + at);
        }
    }
};

// Fetches rows of some of the operands of a strip.
struct Shared {
    const u32* const* operands;
    size_t count;

    template <size_t B>
    UNDERSEAL_INLINE void fetch(const u32* const*, size_t at) const {
        for (size_t k = 0; k < count; ++k) {
            fetch_row(operands[k] + at);
        }
    }
};

// Words begin..end of P probes times those of B blocks, added to sums[probe * stride + block].
template <size_t P, size_t B, class Word, class Ahead>
UNDERSEAL_INLINE void multiply(const u32* const* probes, const u32* const* blocks, size_t begin,
                               size_t end, Ahead ahead, Sums<Word, 3>* sums, size_t stride) {
    Sums<Word, 3> local[P][B];
    for (size_t a = 0; a < P; ++a) {
        for (size_t b = 0; b < B; ++b) {
            local[a][b] = sums[a * stride + b];
        }
    }
    for (size_t at = begin; at < end; at += kRowWords) {
        ahead.template fetch<B>(blocks, at + kStripRows * kRowWords);
        for (size_t a = 0; a < P; ++a) {
            const u32* q = probes[a] + at;
            for (size_t b = 0; b < B; ++b) {
                const u32* g = blocks[b] + at;
                local[a][b].add_tensor(q, q + kLanes, g, g + kLanes);
            }
        }
    }
    for (size_t a = 0; a < P; ++a) {
        for (size_t b = 0; b < B; ++b) {
            sums[a * stride + b] = local[a][b];
        }
    }
}

// A tile of some probes and of some blocks.
template <class Word>
struct Pass {
    static constexpr size_t kSide = Sums<Word, 3>::kSide;

    const u32* operands[kPassProbes + kPassBlocks];  // the probes, then the blocks
    size_t probes;
    size_t blocks;
    Sums<Word, 3>* sums;  // probes * blocks

    // At most kSide of each, so all of them at once.
    UNDERSEAL_INLINE void run(size_t begin, size_t end) const {
        pairs(0, 0, begin * kRowWords, end * kRowWords, Straight{});
    }

    UNDERSEAL_INLINE void run_in_strips(size_t begin, size_t end) const {
        for (; begin < end; begin += kStripRows) {
            strip(begin * kRowWords, std::min(begin + kStripRows, end) * kRowWords);
        }
    }

    UNDERSEAL_INLINE void strip(size_t begin, size_t end) const {
        const size_t all = probes + blocks;
        const size_t steps = (probes + kSide - 1) / kSide * ((blocks + kSide - 1) / kSide);
        size_t step = 0;
        for (size_t a = 0; a < probes; a += kSide) {
            for (size_t b = 0; b < blocks; b += kSide, ++step) {
                const size_t first = step * all / steps, last = (step + 1) * all / steps;
                pairs(a, b, begin, end, Shared{operands + first, last - first});
            }
        }
    }

    template <class Ahead>
    UNDERSEAL_INLINE void pairs(size_t a, size_t b, size_t begin, size_t end, Ahead ahead) const {
        const u32* const* q = operands + a;
        const u32* const* g = operands + probes + b;
        Sums<Word, 3>* to = sums + a * blocks + b;
        if constexpr (kSide > 1) {
            if (a + 1 < probes && b + 1 < blocks) {
                multiply<2, 2, Word>(q, g, begin, end, ahead, to, blocks);
                return;
            }
            if (b + 1 < blocks) {
                multiply<1, 2, Word>(q, g, begin, end, ahead, to, blocks);
                return;
            }
            if (a + 1 < probes) {
                multiply<2, 1, Word>(q, g, begin, end, ahead, to, blocks);
                return;
            }
        }
        multiply<1, 1, Word>(q, g, begin, end, ahead, to, blocks);
    }
};

struct ScoreWork {
    Constants constants;
    BlockShape shape;
    const std::vector<const u32*>& probes;
    const std::vector<const u32*>& blocks;
    size_t prime;
    u32* out;

    // All of some tiles of one prime, for every pair of probe and block.
    template <class Word>
    UNDERSEAL_INLINE void compute(size_t begin, size_t end) const {
        const bool few = probes.size() <= Sums<Word, 3>::kSide;
        const size_t some = few ? Sums<Word, 3>::kSide : kPassBlocks;
        const size_t pairs = std::min(probes.size(), kPassProbes) * std::min(blocks.size(), some);
        u32* memory = workspace().get(pairs * sizeof(Sums<Word, 3>) / sizeof(u32));
        Pass<Word> pass;
        pass.sums = reinterpret_cast<Sums<Word, 3>*>(memory);
        const size_t together = std::max<size_t>(1, kRunWords / shape.tile_words());
        for (size_t first = begin; first < end; first += together) {
            for (size_t b = 0; b < blocks.size(); b += some) {
                pass.blocks = std::min(blocks.size() - b, some);
                for (size_t a = 0; a < probes.size(); a += kPassProbes) {
                    pass.probes = std::min(probes.size() - a, kPassProbes);
                    for (size_t t = first; t < std::min(first + together, end); ++t) {
                        tile(a, b, t, few, pass);
                    }
                }
            }
        }
    }

    // One tile of the probes from `a` on and the blocks from `b` on.
    template <class Word>
    UNDERSEAL_INLINE void tile(size_t a, size_t b, size_t t, bool few, Pass<Word>& pass) const {
        const size_t at = (prime * shape.tiles() + t) * shape.tile_words();
        for (size_t k = 0; k < pass.probes; ++k) {
            pass.operands[k] = probes[a + k] + at;
        }
        for (size_t k = 0; k < pass.blocks; ++k) {
            pass.operands[pass.probes + k] = blocks[b + k] + at;
        }
        const size_t pairs = pass.probes * pass.blocks, lazy = constants.lazy_dimensions;
        std::fill_n(pass.sums, pairs, Sums<Word, 3>{});
        for (size_t row = 0; row < shape.dimension; row += lazy) {
            const size_t stop = std::min(row + lazy, shape.dimension);
            if (few) {
                pass.run(row, stop);
            } else {
                pass.run_in_strips(row, stop);
            }
            for (size_t k = 0; stop < shape.dimension && k < pairs; ++k) {
                pass.sums[k].fold(constants.one.value);
            }
        }
        for (size_t k = 0; k < pairs; ++k) {
            const size_t pair = (a + k / pass.blocks) * blocks.size() + b + k % pass.blocks;
            store(pass.sums[k], pair, t);
        }
    }

    template <class Word>
    UNDERSEAL_INLINE void store(Sums<Word, 3>& sums, size_t pair, size_t t) const {
        const size_t stride = shape.level * shape.degree;
        u32* to = out + 3 * pair * stride + prime * shape.degree + t * kLanes;
        u32 reduced[3][kLanes];
        reduce(sums, constants, reduced);
        for (size_t c = 0; c < 3; ++c) {
            std::memcpy(to + c * stride, reduced[c], sizeof reduced[c]);
        }
    }
};

template <class Word>
UNDERSEAL_INLINE void score_loop(const ScoreWork& work, size_t begin, size_t end) {
    work.compute<Word>(begin, end);
}

struct SquareWork {
    Constants constants;
    size_t plane;  // words of a component of a column
    const u32* columns;
    size_t count;
    u32* sums;

    template <class Word>
    UNDERSEAL_INLINE void compute(size_t begin, size_t end) const {
        for (size_t at = begin; at < end; at += kLanes) {
            Sums<Word, 3> squares;
            for (size_t i = 0; i < count; ++i) {
                const u32* q0 = columns + 2 * i * plane + at;
                const u32* q1 = q0 + plane;
                squares.add_tensor(q0, q1, q0, q1);
            }
            u32 reduced[3][kLanes];
            reduce(squares, constants, reduced);
            for (size_t c = 0; c < 3; ++c) {
                add_restored<Word>(reduced[c], sums + c * plane + at);
            }
        }
    }

    // Undo the division by 2^32 of Montgomery's reduction.
    template <class Word>
    UNDERSEAL_INLINE void add_restored(const u32* sum, u32* out) const {
        const Word p = Word{} + constants.p;
        UNDERSEAL_EACH_WORD(l) {
            const Word lazy = multiply_lazy(load<Word>(sum + l), constants.one, constants.p);
            underseal::store<Word>(out + l, reduce_once(load<Word>(out + l) + reduce_once(lazy, p), p));
        }
    }
};

template <class Word>
UNDERSEAL_INLINE void square_loop(const SquareWork& work, size_t begin, size_t end) {
    work.compute<Word>(begin, end);
}

UNDERSEAL_KERNEL(score_range, score_loop, (const ScoreWork& work, size_t begin, size_t end),
                 (work, begin, end))
UNDERSEAL_KERNEL(square_range, square_loop, (const SquareWork& work, size_t begin, size_t end),
                 (work, begin, end))

}  // namespace

void score(const Basis& basis, const BlockShape& shape, const std::vector<const u32*>& probes,
           const std::vector<const u32*>& blocks, TileRange range, u32* out) {
    by_prime(shape, range, [&](size_t i, size_t begin, size_t end) {
        score_range({constants(basis.tables(i)), shape, probes, blocks, i, out}, begin, end);
    });
}

void add_squares(const Basis& basis, size_t level, const u32* columns, size_t count, u32* sums) {
    const size_t degree = basis.degree();
    for (size_t i = 0; i < level; ++i) {
        const SquareWork work{constants(basis.tables(i)), level * degree, columns, count, sums};
        square_range(work, i * degree, (i + 1) * degree);
    }
}

}  // namespace underseal
