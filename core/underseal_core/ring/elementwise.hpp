// Sums, differences and products of polynomials, residue by residue.
#pragma once

#include "tables.hpp"

namespace underseal {

enum class Operation { add, subtract, multiply };

// out[x] = a[x] operation b[x] mod p for one polynomial each; all residues are below p.
void combine(Operation operation, const u32* a, const u32* b, const PrimeTables& tables, u32* out);

}  // namespace underseal
