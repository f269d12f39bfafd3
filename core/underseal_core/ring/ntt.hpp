// Negacyclic number-theoretic transforms of one polynomial.
#pragma once

#include "tables.hpp"

namespace underseal {

// The steps of the forward transform that combine rows: to[x] from from[x] + offset.
// Values of from plus offset must be below 8p; results are below 8p. from may equal to.
void forward_rows(const u32* from, u32 offset, u32* to, const PrimeTables& tables);

// The remaining steps, within block `block` of 256 words at `data`. Values stay below 8p. A
// polynomial shorter than a block is followed by any words, which are overwritten.
void forward_block(u32* data, size_t block, const PrimeTables& tables);

// From values below 8p to residues below p, in place; whole rows.
void canonical(u32* data, size_t words, u32 p);

// Whole forward transform in place, from values below 8p to residues below p.
void forward(u32* data, const PrimeTables& tables);

// Whole inverse transform, from residues below 2p to residues below p. from may equal to.
void inverse(const u32* from, u32* to, const PrimeTables& tables);

}  // namespace underseal
