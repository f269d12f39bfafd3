// Negacyclic number-theoretic transforms of 16 interleaved polynomials.
#pragma once

#include "tables.hpp"

namespace underseal {

// Rows of a part of a transform that stays in the first-level cache (512 rows are 32 KB).
size_t part_rows(size_t degree);

// The passes of the forward transform that span parts: to[x] from from[x] + offset.
// Values of from plus offset must be below 8p; results are below 8p. from may equal to.
void forward_spanning(const u32* from, u32 offset, u32* to, const PrimeTables& tables);

// The remaining passes, within part `part`. Values stay below 8p.
void forward_part(u32* data, size_t part, const PrimeTables& tables);

// Whole forward transform in place, from values below 8p to residues below p.
void forward(u32* data, const PrimeTables& tables);

// Whole inverse transform in place, from residues below 2p to residues below p.
void inverse(u32* data, const PrimeTables& tables);

}  // namespace underseal
