// Harvey's butterflies, radix 4, on rows of 16 lanes. Node k of the butterfly tree has children
// 2k and 2k + 1 and the root psi^brv(k), which gives SEAL's bit-reversed output order.
//
// Bounds: a Shoup product is below 2p whatever its 32-bit input. A forward radix-4 step brings its
// first two inputs below 4p, adds at most 2p twice, and so stays below 8p < 2^32. An inverse step
// keeps values below 2p between steps.
//
// A Word is one lane, for loops that the compiler vectorises, or a whole row; see lanes.hpp.

#include "ntt.hpp"

#include "lanes.hpp"

namespace underseal {
namespace {

constexpr size_t kPartLimit = 512;

// Lanes of a row that a Word does not hold are left to a loop.
#define UNDERSEAL_EACH_WORD(l) \
    UNDERSEAL_INDEPENDENT      \
    for (size_t l = 0; l < kLanes; l += sizeof(Word) / sizeof(u32))

template <class Word>
UNDERSEAL_INLINE void forward4(const u32* from, u32 offset, u32* to, size_t quarter,
                               const Factor* roots, size_t node, u32 p) {
    const Factor a = roots[node], b = roots[2 * node], c = roots[2 * node + 1];
    const size_t step = quarter * kLanes;
    const u32 two = 2 * p;
    const Word four = Word{} + 4 * p;
    for (size_t x = 0; x < step; x += kLanes, from += kLanes, to += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word x0 = load<Word>(from + l) + offset;
            const Word x1 = load<Word>(from + step + l) + offset;
            const Word x2 = load<Word>(from + 2 * step + l) + offset;
            const Word x3 = load<Word>(from + 3 * step + l) + offset;
            const Word v0 = reduce_once(x0, four), v1 = reduce_once(x1, four);
            const Word t2 = multiply_lazy(x2, a.value, a.quotient, p);
            const Word t3 = multiply_lazy(x3, a.value, a.quotient, p);
            const Word s0 = v0 + t2, s2 = v0 + two - t2;
            const Word t1 = multiply_lazy(v1 + t3, b.value, b.quotient, p);
            const Word r3 = multiply_lazy(v1 + two - t3, c.value, c.quotient, p);
            store<Word>(to + l, s0 + t1);
            store<Word>(to + step + l, s0 + two - t1);
            store<Word>(to + 2 * step + l, s2 + r3);
            store<Word>(to + 3 * step + l, s2 + two - r3);
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
            const Word t = multiply_lazy(load<Word>(data + step + l), a.value, a.quotient, p);
            store<Word>(data + l, v + t);
            store<Word>(data + step + l, v + two - t);
        }
    }
}

// All passes of the subtree under `node` down to blocks of `stop` rows.
template <class Word>
UNDERSEAL_INLINE void forward_passes(u32* data, size_t rows, size_t stop, size_t node,
                                     const PrimeTables& tables) {
    const Factor* roots = tables.roots.data();
    const u32 p = tables.prime;
    size_t blocks = 1;
    for (; rows / stop >= 4; rows /= 4, blocks *= 4) {
        for (size_t b = 0; b < blocks; ++b) {
            u32* block = data + b * rows * kLanes;
            forward4<Word>(block, 0, block, rows / 4, roots, node * blocks + b, p);
        }
    }
    if (rows > stop) {
        for (size_t b = 0; b < blocks; ++b) {
            forward2<Word>(data + b * rows * kLanes, rows / 2, roots, node * blocks + b, p);
        }
    }
}

// Inputs below 2p, outputs below 2p.
template <class Word>
UNDERSEAL_INLINE void inverse4(u32* data, size_t quarter, const Factor* roots, size_t node,
                               u32 p) {
    const Factor a = roots[node], b = roots[2 * node], c = roots[2 * node + 1];
    const size_t step = quarter * kLanes;
    const Word two = Word{} + 2 * p, four = Word{} + 4 * p;
    for (size_t x = 0; x < step; x += kLanes, data += kLanes) {
        UNDERSEAL_EACH_WORD(l) {
            const Word v0 = load<Word>(data + l), v1 = load<Word>(data + step + l);
            const Word v2 = load<Word>(data + 2 * step + l), v3 = load<Word>(data + 3 * step + l);
            const Word s0 = v0 + v1, s2 = v2 + v3;
            const Word s1 = multiply_lazy(v0 + two - v1, b.value, b.quotient, p);
            const Word s3 = multiply_lazy(v2 + two - v3, c.value, c.quotient, p);
            store<Word>(data + l, reduce_once(reduce_once(s0 + s2, four), two));
            store<Word>(data + step + l, reduce_once(s1 + s3, two));
            store<Word>(data + 2 * step + l,
                        multiply_lazy(s0 + four - s2, a.value, a.quotient, p));
            store<Word>(data + 3 * step + l,
                        multiply_lazy(s1 + two - s3, a.value, a.quotient, p));
        }
    }
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
            const Word s1 = multiply_lazy(v0 + two - v1, b.value, b.quotient, p);
            const Word s3 = multiply_lazy(v2 + two - v3, c.value, c.quotient, p);
            const Word r0 = multiply_lazy(s0 + s2, n.value, n.quotient, p);
            const Word r1 = multiply_lazy(s1 + s3, n.value, n.quotient, p);
            const Word r2 = multiply_lazy(s0 + four - s2, a.value, a.quotient, p);
            const Word r3 = multiply_lazy(s1 + two - s3, a.value, a.quotient, p);
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
            store<Word>(data + step + l, multiply_lazy(v + two - w, a.value, a.quotient, p));
        }
    }
}

// The mirror image of forward_passes: blocks of `start` rows up to one block of `rows`.
template <class Word>
UNDERSEAL_INLINE void inverse_passes(u32* data, size_t rows, size_t start, size_t node,
                                     const PrimeTables& tables) {
    const Factor* roots = tables.inverse_roots.data();
    const u32 p = tables.prime;
    size_t size = start, fours = rows / start;
    while (fours > 2) {
        fours /= 4;
    }
    if (fours == 2) {
        size *= 2;
        for (size_t b = 0; b < rows / size; ++b) {
            inverse2<Word>(data + b * size * kLanes, size / 2, roots, node * (rows / size) + b, p);
        }
    }
    while (size < rows) {
        size *= 4;
        for (size_t b = 0; b < rows / size; ++b) {
            inverse4<Word>(data + b * size * kLanes, size / 4, roots, node * (rows / size) + b, p);
        }
    }
}

template <class Word>
UNDERSEAL_INLINE void spanning(const u32* from, u32 offset, u32* to, const PrimeTables& tables) {
    const size_t rows = tables.degree, part = part_rows(rows);
    if (rows == part) {
        for (size_t i = 0; i < rows * kLanes; ++i) {
            to[i] = from[i] + offset;
        }
        return;
    }
    forward4<Word>(from, offset, to, rows / 4, tables.roots.data(), 1, tables.prime);
    for (size_t b = 0; b < 4 && rows / 4 > part; ++b) {
        forward_passes<Word>(to + b * (rows / 4) * kLanes, rows / 4, part, 4 + b, tables);
    }
}

template <class Word>
UNDERSEAL_INLINE void within_part(u32* data, size_t part, const PrimeTables& tables) {
    const size_t rows = part_rows(tables.degree);
    forward_passes<Word>(data + part * rows * kLanes, rows, 1, tables.degree / rows + part,
                         tables);
}

template <class Word>
UNDERSEAL_INLINE void whole_inverse(u32* data, const PrimeTables& tables) {
    const size_t degree = tables.degree, rows = part_rows(degree / 4), parts = degree / rows;
    for (size_t part = 0; part < parts; ++part) {
        inverse_passes<Word>(data + part * rows * kLanes, rows, 1, parts + part, tables);
    }
    for (size_t b = 0; b < 4; ++b) {
        inverse_passes<Word>(data + b * (degree / 4) * kLanes, degree / 4, rows, 4 + b, tables);
    }
    inverse4_last<Word>(data, degree / 4, tables);
}

UNDERSEAL_NARROW_CLONES
void spanning_plain(const u32* from, u32 offset, u32* to, const PrimeTables& tables) {
    spanning<u32>(from, offset, to, tables);
}

UNDERSEAL_NARROW_CLONES
void within_part_plain(u32* data, size_t part, const PrimeTables& tables) {
    within_part<u32>(data, part, tables);
}

UNDERSEAL_NARROW_CLONES
void whole_inverse_plain(u32* data, const PrimeTables& tables) {
    whole_inverse<u32>(data, tables);
}

#if UNDERSEAL_WIDE

UNDERSEAL_WIDE_TARGET
void spanning_wide(const u32* from, u32 offset, u32* to, const PrimeTables& tables) {
    spanning<Words>(from, offset, to, tables);
}

UNDERSEAL_WIDE_TARGET
void within_part_wide(u32* data, size_t part, const PrimeTables& tables) {
    within_part<Words>(data, part, tables);
}

UNDERSEAL_WIDE_TARGET
void whole_inverse_wide(u32* data, const PrimeTables& tables) {
    whole_inverse<Words>(data, tables);
}

#endif

UNDERSEAL_CLONES
void canonical(u32* data, size_t words, u32 p) {
    for (size_t i = 0; i < words; ++i) {
        data[i] = reduce_once(reduce_once(reduce_once(data[i], 4 * p), 2 * p), p);
    }
}

}  // namespace

size_t part_rows(size_t degree) {
    size_t rows = degree;
    while (rows > kPartLimit) {
        rows /= 4;
    }
    return rows;
}

void forward_spanning(const u32* from, u32 offset, u32* to, const PrimeTables& tables) {
#if UNDERSEAL_WIDE
    if (wide_lanes()) {
        spanning_wide(from, offset, to, tables);
        return;
    }
#endif
    spanning_plain(from, offset, to, tables);
}

void forward_part(u32* data, size_t part, const PrimeTables& tables) {
#if UNDERSEAL_WIDE
    if (wide_lanes()) {
        within_part_wide(data, part, tables);
        return;
    }
#endif
    within_part_plain(data, part, tables);
}

void forward(u32* data, const PrimeTables& tables) {
    const size_t rows = part_rows(tables.degree);
    forward_spanning(data, 0, data, tables);
    for (size_t part = 0; part < tables.degree / rows; ++part) {
        forward_part(data, part, tables);
        canonical(data + part * rows * kLanes, rows * kLanes, tables.prime);
    }
}

void inverse(u32* data, const PrimeTables& tables) {
#if UNDERSEAL_WIDE
    if (wide_lanes()) {
        whole_inverse_wide(data, tables);
        return;
    }
#endif
    whole_inverse_plain(data, tables);
}

}  // namespace underseal
