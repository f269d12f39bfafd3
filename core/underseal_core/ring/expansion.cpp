#include "expansion.hpp"

#include <cstring>

#include "rows.hpp"
#include "workspace.hpp"

namespace underseal {
namespace {

// tiles[first + k * stride] += columns[k] for k < count, under one prime; columns are
// [dimension][component][prime][N].
template <class Word>
UNDERSEAL_INLINE void add_columns_loop(const u32* columns, const BlockShape& shape, size_t prime,
                                       size_t first, size_t stride, size_t count, u32 p,
                                       u32* tiles) {
    const Word one = Word{} + p;
    const size_t plane = shape.level * shape.degree;
    for (size_t t = 0; t < shape.tiles(); ++t) {
        const u32* from = columns + prime * shape.degree + t * kLanes;
        u32* to = tiles + (prime * shape.tiles() + t) * shape.tile_words() + 2 * first * kLanes;
        for (size_t k = 0; k < count; ++k, from += 2 * plane, to += 2 * stride * kLanes) {
            for (size_t c = 0; c < 2; ++c) {
                UNDERSEAL_EACH_WORD(l) {
                    u32* place = to + c * kLanes + l;
                    const Word sum = load<Word>(place) + load<Word>(from + c * plane + l);
                    store<Word>(place, reduce_once(sum, one));
                }
            }
        }
    }
}

UNDERSEAL_KERNEL(add_columns, add_columns_loop,
                 (const u32* columns, const BlockShape& shape, size_t prime, size_t first,
                  size_t stride, size_t count, u32 p, u32* tiles),
                 (columns, shape, prime, first, stride, count, p, tiles))

Workspace& nodes_memory() {
    thread_local Workspace instance;
    return instance;
}

// Depth first, so that the nodes on the way stay in cache. leaf(index, residues) gets the
// descendants, rescaled to out_level.
template <class Leaf>
struct Descent {
    const Basis& basis;
    const std::vector<ExpansionStep>& steps;
    size_t level;
    size_t end;
    size_t out_level;
    Leaf leaf;

    size_t node_words() const { return 2 * level * basis.degree(); }

    // Two nodes for each step, and one.
    size_t memory_words(size_t begin) const { return (2 * (end - begin) + 1) * node_words(); }

    void visit(const u32* node, size_t index, size_t depth, u32* memory) const {
        if (depth == end) {
            for (size_t now = level; now > out_level; --now) {
                basis.rescale(node, 2, now, memory);
                node = memory;
            }
            leaf(index, node);
            return;
        }
        u32* sum = memory;
        u32* difference = sum + node_words();
        basis.expand(node, level, steps[depth], sum, difference);
        visit(sum, index, depth + 1, difference + node_words());
        visit(difference, index + (size_t{1} << depth), depth + 1, difference + node_words());
    }
};

template <class Leaf>
Descent(const Basis&, const std::vector<ExpansionStep>&, size_t, size_t, size_t, Leaf)
    -> Descent<Leaf>;

}  // namespace

Expansion::Expansion(const Basis& basis, const std::vector<const u32*>& keys) : basis_(basis) {
    for (size_t level = 0; level < keys.size(); ++level) {
        const size_t nodes = size_t{1} << level;
        steps_.push_back({keys[level],
                          Automorphism(basis.tables(0), basis.degree() / nodes + 1),
                          basis.monomials(basis.size() - 1, 2 * basis.degree() - nodes)});
    }
}

void Expansion::descend(const u32* node, size_t level, size_t index, size_t begin, size_t end,
                        size_t out_level, u32* out) const {
    const size_t words = 2 * out_level * basis_.degree();
    const auto keep = [=](size_t at, const u32* residues) {
        std::memcpy(out + at * words, residues, words * sizeof(u32));
    };
    const Descent descent{basis_, steps_, level, end, out_level, keep};
    descent.visit(node, index, begin, nodes_memory().get(descent.memory_words(begin)));
}

void Expansion::prepare(const u32* node, size_t level, size_t index, size_t begin,
                        const BlockShape& shape, size_t check_level, u32* tiles,
                        u32* sums) const {
    thread_local Workspace memory;
    const size_t words = 2 * check_level * shape.degree;
    u32* squared = memory.get(kSquaredColumns * words);
    size_t count = 0;
    const auto add = [&] {
        add_squares(basis_, check_level, squared, count, sums);
        count = 0;
    };
    const auto leaf = [&](size_t at, const u32* residues) {
        set_column(basis_, shape, residues, at, tiles);
        u32* lower = squared + count * words;
        if (check_level == shape.level) {
            std::memcpy(lower, residues, words * sizeof(u32));
        } else {
            basis_.rescale(residues, 2, shape.level, lower);
        }
        if (++count == kSquaredColumns) {
            add();
        }
    };
    std::memset(sums, 0, 3 * check_level * shape.degree * sizeof(u32));
    const Descent descent{basis_, steps_, level, depth(), shape.level, leaf};
    descent.visit(node, index, begin, nodes_memory().get(descent.memory_words(begin)));
    if (count != 0) {
        add();
    }
}

void Expansion::add_rows(const std::vector<const u32*>& nodes,
                         const std::vector<const Monomials*>& powers, size_t level, size_t index,
                         size_t begin, const BlockShape& shape, u32* tiles) const {
    thread_local Workspace columns;
    const size_t leaves = shape.dimension >> begin, words = 2 * shape.level * shape.degree;
    u32* sums = columns.get(leaves * words);
    std::memset(sums, 0, leaves * words * sizeof(u32));
    for (size_t r = 0; r < nodes.size(); ++r) {
        const auto add = [&](size_t at, const u32* residues) {
            u32* sum = sums + (at >> begin) * words;
            for (size_t k = 0; k < 2 * shape.level; ++k) {
                const size_t prime = k % shape.level, plane = k * shape.degree;
                basis_.add_product(residues + plane, powers[r]->primes[prime], prime, sum + plane);
            }
        };
        const Descent descent{basis_, steps_, level, depth(), shape.level, add};
        descent.visit(nodes[r], index, begin, nodes_memory().get(descent.memory_words(begin)));
    }
    for (size_t i = 0; i < shape.level; ++i) {
        add_columns(sums, shape, i, index, size_t{1} << begin, leaves, basis_.prime(i), tiles);
    }
}

}  // namespace underseal
