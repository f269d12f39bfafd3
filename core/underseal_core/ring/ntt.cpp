// Harvey's butterflies, radix 4, on rows of 16 words of one polynomial. Node k of the butterfly tree
// has children 2k and 2k + 1 and the root psi^brv(k), which gives SEAL's bit-reversed output order.
// All steps but the last four combine rows; those four combine words within a row, and are done on
// 16 rows at a time, transposed. A polynomial of 8192 words fills 32 KB, so that all steps but the
// first run in the first-level cache.
//
// Bounds: a Shoup product is below 2p whatever its 32-bit input. A forward radix-4 step brings its
// first two inputs below 4p, adds at most 2p twice, and so stays below 8p < 2^32. An inverse step
// keeps values below 2p between steps.

#include "ntt.hpp"

#include "rows.hpp"

namespace underseal {
namespace {

// Two steps of four words; F is Factor or LaneFactor<Word>.
template <class Word, class F>
UNDERSEAL_INLINE void forward_step(Word& x0, Word& x1, Word& x2, Word& x3, F a, F b, F c, u32 p) {
    const u32 two = 2 * p;
    const Word four = Word{} + 4 * p;
    const Word v0 = reduce_once(x0, four), v1 = reduce_once(x1, four);
    const Word t2 = multiply_lazy(x2, a, p), t3 = multiply_lazy(x3, a, p);
    const Word s0 = v0 + t2, s2 = v0 + two - t2;
    const Word t1 = multiply_lazy(v1 + t3, b, p), r3 = multiply_lazy(v1 + two - t3, c, p);
    x0 = s0 + t1;
    x1 = s0 + two - t1;
    x2 = s2 + r3;
    x3 = s2 + two - r3;
}

// Inputs and outputs below 2p.
template <class Word, class F>
UNDERSEAL_INLINE void inverse_step(Word& x0, Word& x1, Word& x2, Word& x3, F a, F b, F c, u32 p) {
    const Word two = Word{} + 2 * p, four = Word{} + 4 * p;
    const Word s0 = x0 + x1, s2 = x2 + x3;
    const Word s1 = multiply_lazy(x0 + two - x1, b, p), s3 = multiply_lazy(x2 + two - x3, c, p);
    x0 = reduce_once(reduce_once(s0 + s2, four), two);
    x1 = reduce_once(s1 + s3, two);
    x2 = multiply_lazy(s0 + four - s2, a, p);
    x3 = multiply_lazy(s1 + two - s3, a, p);
}

// Either of them on four rows that are `step` words apart.
template <class Word, bool kForward, class F>
UNDERSEAL_INLINE void step4(const u32* from, u32 offset, u32* to, size_t step, F a, F b, F c,
                            u32 p) {
    Word x0 = load<Word>(from) + offset, x1 = load<Word>(from + step) + offset;
    Word x2 = load<Word>(from + 2 * step) + offset, x3 = load<Word>(from + 3 * step) + offset;
    if (kForward) {
        forward_step(x0, x1, x2, x3, a, b, c, p);
    } else {
        inverse_step(x0, x1, x2, x3, a, b, c, p);
    }
    store<Word>(to, x0);
    store<Word>(to + step, x1);
    store<Word>(to + 2 * step, x2);
    store<Word>(to + 3 * step, x3);
}

// All rows of node `node`, with a quarter of them apart.
template <class Word, bool kForward>
UNDERSEAL_INLINE void pass4(const u32* from, u32 offset, u32* to, size_t quarter,
                            const Factor* roots, size_t node, u32 p) {
    const Factor a = roots[node], b = roots[2 * node], c = roots[2 * node + 1];
    const size_t step = quarter * kLanes;
    for (size_t x = 0; x < step; x += kLanes, from += kLanes, to += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            step4<Word, kForward>(from + l, offset, to + l, step, a, b, c, p);
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void forward2(u32* data, size_t half, const Factor* roots, size_t node, u32 p) {
    const Factor a = roots[node];
    const size_t step = half * kLanes;
    const u32 two = 2 * p;
    const Word four = Word{} + 4 * p;
    for (size_t x = 0; x < step; x += kLanes, data += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word v = reduce_once(load<Word>(data + l), four);
            const Word t = multiply_lazy(load<Word>(data + step + l), a, p);
            store<Word>(data + l, v + t);
            store<Word>(data + step + l, v + two - t);
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void forward_rows_loop(const u32* from, u32 offset, u32* to,
                                        const PrimeTables& tables) {
    const Factor* roots = tables.roots.data();
    const u32 p = tables.prime;
    size_t rows = tables.degree / kLanes, nodes = 1;
    if (rows < 4) {
        for (size_t i = 0; i < rows * kLanes; ++i) {
            to[i] = from[i] + offset;
        }
    } else {
        pass4<Word, true>(from, offset, to, rows / 4, roots, 1, p);
        rows /= 4;
        nodes = 4;
    }
    for (; rows >= 4; rows /= 4, nodes *= 4) {
        for (size_t b = 0; b < nodes; ++b) {
            u32* data = to + b * rows * kLanes;
            pass4<Word, true>(data, 0, data, rows / 4, roots, nodes + b, p);
        }
    }
    if (rows == 2) {
        for (size_t b = 0; b < nodes; ++b) {
            forward2<Word>(to + b * 2 * kLanes, 1, roots, nodes + b, p);
        }
    }
}

// One radix-4 step within a block that is transposed: rows 4 apart (k = 0), or each 4 rows.
template <class Word, bool kForward>
UNDERSEAL_INLINE void block_step(u32* words, const Row* factors, size_t k, u32 p) {
    const u32* f = factors[6 * k].words;
    const size_t step = (k == 0 ? 4 : 1) * kLanes;
    u32* row = words + (k == 0 ? 0 : 4 * (k - 1)) * kLanes;
    for (size_t i = 0; i < (k == 0 ? 4 : 1); ++i, row += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const auto a = LaneFactor<Word>::at(f + l), b = LaneFactor<Word>::at(f + 32 + l);
            const auto c = LaneFactor<Word>::at(f + 64 + l);
            step4<Word, kForward>(row + l, 0, row + l, step, a, b, c, p);
        }
    }
}

// The steps within the rows of a block, given the block's factors.
template <class Word, bool kForward>
UNDERSEAL_INLINE void block_loop(const u32* from, u32* to, const Row* factors, u32 p) {
    Row t[kBlockRows];
    u32* words = t[0].words;
    transpose<Word>(from, words);
    UNDERSEAL_UNROLL
    for (size_t k = 0; k < 5; ++k) {
        block_step<Word, kForward>(words, factors, kForward ? k : 4 - k, p);
    }
    transpose<Word>(words, to);
}

template <class Word>
UNDERSEAL_INLINE void forward_block_loop(const u32* from, u32* to, const Row* factors, u32 p) {
    block_loop<Word, true>(from, to, factors, p);
}

template <class Word>
UNDERSEAL_INLINE void inverse_block_loop(const u32* from, u32* to, const Row* factors, u32 p) {
    block_loop<Word, false>(from, to, factors, p);
}

// The last step: it also divides by N, and its results are below p.
template <class Word>
UNDERSEAL_INLINE void inverse4_last(u32* data, size_t quarter, const PrimeTables& t) {
    const u32 p = t.prime;
    const Factor n = t.degree_inverse, b = t.inverse_roots[2], c = t.inverse_roots[3];
    const Factor a = factor(multiply(t.inverse_roots[1].value, n.value, p), p);
    const size_t step = quarter * kLanes;
    const Word one = Word{} + p, two = Word{} + 2 * p, four = Word{} + 4 * p;
    for (size_t x = 0; x < step; x += kLanes, data += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word v0 = load<Word>(data + l), v1 = load<Word>(data + step + l);
            const Word v2 = load<Word>(data + 2 * step + l), v3 = load<Word>(data + 3 * step + l);
            const Word s0 = v0 + v1, s2 = v2 + v3;
            const Word s1 = multiply_lazy(v0 + two - v1, b, p);
            const Word s3 = multiply_lazy(v2 + two - v3, c, p);
            const Word r0 = multiply_lazy(s0 + s2, n, p);
            const Word r1 = multiply_lazy(s1 + s3, n, p);
            const Word r2 = multiply_lazy(s0 + four - s2, a, p);
            const Word r3 = multiply_lazy(s1 + two - s3, a, p);
            store<Word>(data + l, reduce_once(r0, one));
            store<Word>(data + step + l, reduce_once(r1, one));
            store<Word>(data + 2 * step + l, reduce_once(r2, one));
            store<Word>(data + 3 * step + l, reduce_once(r3, one));
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void inverse2(u32* data, size_t half, const Factor* roots, size_t node, u32 p) {
    const Factor a = roots[node];
    const size_t step = half * kLanes;
    const Word two = Word{} + 2 * p;
    for (size_t x = 0; x < step; x += kLanes, data += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word v = load<Word>(data + l), w = load<Word>(data + step + l);
            store<Word>(data + l, reduce_once(v + w, two));
            store<Word>(data + step + l, multiply_lazy(v + two - w, a, p));
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void inverse_rows_loop(u32* data, const PrimeTables& tables) {
    const Factor* roots = tables.inverse_roots.data();
    const u32 p = tables.prime;
    const size_t rows = tables.degree / kLanes;
    size_t size = tables.log_degree % 2 == 0 ? 1 : 2;
    if (size == 2) {
        for (size_t b = 0; b < rows / 2; ++b) {
            inverse2<Word>(data + b * 2 * kLanes, 1, roots, rows / 2 + b, p);
        }
    }
    for (size *= 4; size < rows; size *= 4) {
        for (size_t b = 0; b < rows / size; ++b) {
            u32* node = data + b * size * kLanes;
            pass4<Word, false>(node, 0, node, size / 4, roots, rows / size + b, p);
        }
    }
    if (rows >= 4) {
        inverse4_last<Word>(data, rows / 4, tables);
        return;
    }
    for (size_t i = 0; i < rows * kLanes; ++i) {
        data[i] = reduce_once(multiply_lazy(data[i], tables.degree_inverse, p), p);
    }
}

template <class Word>
UNDERSEAL_INLINE void canonical_loop(u32* data, size_t words, u32 p) {
    for (size_t x = 0; x < words; x += kLanes, data += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            store<Word>(data + l, canonical_word(load<Word>(data + l), p));
        }
    }
}

UNDERSEAL_KERNEL(block_forward, forward_block_loop,
                 (const u32* from, u32* to, const Row* factors, u32 p), (from, to, factors, p))
UNDERSEAL_KERNEL(block_inverse, inverse_block_loop,
                 (const u32* from, u32* to, const Row* factors, u32 p), (from, to, factors, p))
UNDERSEAL_KERNEL(rows_inverse, inverse_rows_loop, (u32* data, const PrimeTables& tables),
                 (data, tables))

}  // namespace

UNDERSEAL_KERNEL(forward_rows, forward_rows_loop,
                 (const u32* from, u32 offset, u32* to, const PrimeTables& tables),
                 (from, offset, to, tables))
UNDERSEAL_KERNEL(canonical, canonical_loop, (u32* data, size_t words, u32 p), (data, words, p))

void forward_block(u32* data, size_t block, const PrimeTables& tables) {
    const Row* factors = tables.lane_roots.data() + block * 2 * kBlockFactors;
    block_forward(data, data, factors, tables.prime);
}

void forward(u32* data, const PrimeTables& tables) {
    forward_rows(data, 0, data, tables);
    if (tables.degree < kBlock) {
        Row padded[kBlockRows] = {};
        std::memcpy(padded, data, tables.degree * sizeof(u32));
        forward_block(padded[0].words, 0, tables);
        std::memcpy(data, padded, tables.degree * sizeof(u32));
        canonical(data, tables.degree, tables.prime);
        return;
    }
    for (size_t block = 0; block < tables.degree / kBlock; ++block) {
        forward_block(data + block * kBlock, block, tables);
        canonical(data + block * kBlock, kBlock, tables.prime);
    }
}

void inverse(const u32* from, u32* to, const PrimeTables& tables) {
    const Row* factors = tables.inverse_lane_roots.data();
    if (tables.degree < kBlock) {
        Row padded[kBlockRows] = {};
        std::memcpy(padded, from, tables.degree * sizeof(u32));
        block_inverse(padded[0].words, padded[0].words, factors, tables.prime);
        std::memcpy(to, padded, tables.degree * sizeof(u32));
    }
    for (size_t block = 0; block < tables.degree / kBlock; ++block) {
        block_inverse(from + block * kBlock, to + block * kBlock,
                      factors + block * 2 * kBlockFactors, tables.prime);
    }
    rows_inverse(to, tables);
}

}  // namespace underseal
