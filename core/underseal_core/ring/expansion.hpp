// The expansion of a row into columns (SealPIR): a binary tree of key switches.
//
// Node i of a level has the children i (sum) and i + nodes of the level (difference); see
// docs/explanation/scheme.md, section 2.
#pragma once

#include "blocks.hpp"

namespace underseal {

class Expansion {
  public:
    // keys: of the Galois elements degree / 2^level + 1, level by level, in Montgomery form; they
    // must outlive this. Throws std::invalid_argument.
    Expansion(const Basis& basis, const std::vector<const u32*>& keys);

    const Basis& basis() const { return basis_; }
    size_t depth() const { return steps_.size(); }

    // The descendants of `node`, which is node `index` of level `begin`, on level `end`: each
    // at its index in `out`. Below `level` primes in, `out_level` primes out, by rescaling.
    void descend(const u32* node, size_t level, size_t index, size_t begin, size_t end,
                 size_t out_level, u32* out) const;

    // The descendants of `node`, which is node `index` of level `begin`: as columns of a probe's
    // tiles, and the sum of their squares, (3, check_level, N), see add_squares; the latter
    // rescaled to check_level.
    void prepare(const u32* node, size_t level, size_t index, size_t begin,
                 const BlockShape& shape, size_t check_level, u32* tiles, u32* sums) const;

    // Adds X^power times each row's descendants of node `index` of level `begin` to a block's
    // tiles; nodes and powers one for each row. Their sum is taken in cache, and the block is read
    // and written once.
    void add_rows(const std::vector<const u32*>& nodes, const std::vector<const Monomials*>& powers,
                  size_t level, size_t index, size_t begin, const BlockShape& shape,
                  u32* tiles) const;

  private:
    const Basis& basis_;
    std::vector<ExpansionStep> steps_;
};

}  // namespace underseal
