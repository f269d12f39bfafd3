#include "expansion.hpp"

#include <cstring>

#include "workspace.hpp"

namespace underseal {
namespace {

std::vector<Row> in_rows(const std::vector<Factor>& factors) {
    std::vector<Row> rows(2 * factors.size() / kLanes);
    for (size_t i = 0; i < factors.size(); ++i) {
        rows[i / kLanes * 2].words[i % kLanes] = factors[i].value;
        rows[i / kLanes * 2 + 1].words[i % kLanes] = factors[i].quotient;
    }
    return rows;
}

// Depth first, so that the nodes on the way stay in cache.
struct Descent {
    const Basis& basis;
    const std::vector<ExpansionStep>& steps;
    size_t level;
    size_t end;
    size_t out_level;
    u32* out;

    size_t node_words() const { return 2 * level * basis.degree(); }

    // memory: two nodes for each step that is left, and one.
    void visit(const u32* node, size_t index, size_t depth, u32* memory) const {
        if (depth == end) {
            finish(node, index, memory);
            return;
        }
        u32* sum = memory;
        u32* difference = sum + node_words();
        basis.expand(node, level, steps[depth], sum, difference);
        visit(sum, index, depth + 1, difference + node_words());
        visit(difference, index + (size_t{1} << depth), depth + 1, difference + node_words());
    }

    void finish(const u32* node, size_t index, u32* memory) const {
        u32* to = out + index * 2 * out_level * basis.degree();
        if (level == out_level) {
            std::memcpy(to, node, node_words() * sizeof(u32));
            return;
        }
        for (size_t now = level; now > out_level; --now) {
            u32* lower = now - 1 == out_level ? to : memory;
            basis.rescale(node, 2, now, lower);
            node = lower;
        }
    }
};

}  // namespace

Expansion::Expansion(const Basis& basis, const std::vector<const u32*>& keys) : basis_(basis) {
    for (size_t level = 0; level < keys.size(); ++level) {
        const size_t nodes = size_t{1} << level;
        ExpansionStep step{keys[level],
                           Automorphism(basis.tables(0), basis.degree() / nodes + 1), {}};
        for (size_t i = 0; i + 1 < basis.size(); ++i) {
            step.monomials.push_back(
                in_rows(monomial(basis.tables(i), 2 * basis.degree() - nodes)));
        }
        steps_.push_back(std::move(step));
    }
}

void Expansion::descend(const u32* node, size_t level, size_t index, size_t begin, size_t end,
                        size_t out_level, u32* out) const {
    const Descent descent{basis_, steps_, level, end, out_level, out};
    thread_local Workspace nodes;
    u32* memory = nodes.get((2 * (end - begin) + 1) * descent.node_words());
    descent.visit(node, index, begin, memory);
}

}  // namespace underseal
