#include "elementwise.hpp"

namespace underseal {

UNDERSEAL_CLONES
void combine(Operation operation, const u32* a, const u32* b, const PrimeTables& tables,
             u32* out) {
    const u32 p = tables.prime, inverse = tables.montgomery_inverse;
    const Factor one = tables.montgomery_one;
    const size_t degree = tables.degree;
    for (size_t x = 0; x < degree; ++x) {
        switch (operation) {
            case Operation::add:
                out[x] = reduce_once(a[x] + b[x], p);
                break;
            case Operation::subtract:
                out[x] = reduce_once(a[x] + p - b[x], p);
                break;
            case Operation::multiply: {
                const u32 lazy = montgomery_lazy(static_cast<u64>(a[x]) * b[x], p, inverse);
                out[x] = reduce_once(multiply_lazy(lazy, one.value, one.quotient, p), p);
                break;
            }
        }
    }
}

}  // namespace underseal
