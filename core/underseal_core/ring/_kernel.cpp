// Python bindings. Every array is checked here for type, contiguity and shape, so that no call
// can reach outside its arrays; kernel.py in front of it gives the friendlier messages. The
// interpreter lock is released while anything is computed.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>
#include <string>

#include "blocks.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace underseal {
namespace {

using Input = nb::ndarray<const u32, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<u32, nb::c_contig, nb::device::cpu>;
using Signs = nb::ndarray<const unsigned char, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Unlocked = nb::gil_scoped_release;

void require(bool condition, const char* what) {
    if (!condition) {
        throw std::invalid_argument(what);
    }
}

// Shapes are given as a list where 0 matches anything.
template <class Array>
void require_shape(const Array& array, std::initializer_list<size_t> shape, const char* name) {
    bool same = array.ndim() == shape.size();
    size_t axis = 0;
    for (const size_t wanted : shape) {
        same = same && (wanted == 0 || array.shape(axis) == wanted);
        ++axis;
    }
    if (!same) {
        throw std::invalid_argument(std::string(name) + " has the wrong shape");
    }
}

void require_level(const Basis& b, size_t level, bool with_special) {
    require(level >= 1 && level + (with_special ? 1 : 0) <= b.size(), "level out of range");
}

void require_key(const Basis& b, const Input& key, size_t level) {
    require(key.ndim() == 4 && key.shape(0) >= level, "key has too few digits");
    require_shape(key, {0, 2, b.size(), b.degree()}, "key");
}

void require_group(const Basis& b, const Input& group, size_t components, size_t level) {
    require_shape(group, {components, level, b.degree(), kLanes}, "group");
}

void require_group(const Basis& b, const Output& group, size_t components, size_t level) {
    require_shape(group, {components, level, b.degree(), kLanes}, "group");
}

enum class Operation { add, subtract, multiply };

template <class Function>
void each_prime(const Basis& b, size_t count, Function function) {
    for (size_t r = 0; r < count; ++r) {
        for (size_t i = 0; i < b.size(); ++i) {
            function(b.tables(i), (r * b.size() + i) * b.degree());
        }
    }
}

UNDERSEAL_CLONES
void combine(Operation operation, const u32* a, const u32* b, size_t degree, u32 p, u32 inverse,
             Factor one, u32* out) {
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

void elementwise(const Basis& b, int operation, const Input& left, const Input& right,
                 Output out) {
    require(operation >= 0 && operation <= 2, "unknown operation");
    require(left.ndim() == 3, "arrays must have three axes");
    require_shape(left, {0, b.size(), b.degree()}, "left");
    require_shape(right, {left.shape(0), b.size(), b.degree()}, "right");
    require_shape(out, {left.shape(0), b.size(), b.degree()}, "out");
    const Unlocked unlocked;
    each_prime(b, left.shape(0), [&](const PrimeTables& t, size_t at) {
        combine(static_cast<Operation>(operation), left.data() + at, right.data() + at,
                b.degree(), t.prime, t.montgomery_inverse, t.montgomery_one, out.data() + at);
    });
}

bool below_primes(const Basis& b, const Input& values) {
    require_shape(values, {0, b.size(), b.degree()}, "values");
    const Unlocked unlocked;
    bool below = true;
    each_prime(b, values.shape(0), [&](const PrimeTables& t, size_t at) {
        u32 largest = 0;
        for (size_t x = at; x < at + b.degree(); ++x) {
            largest = values.data()[x] > largest ? values.data()[x] : largest;
        }
        below = below && largest < t.prime;
    });
    return below;
}

void transform(const Basis& b, const Input& values, bool invert, Output out) {
    require_shape(values, {0, b.size(), b.degree()}, "values");
    require_shape(out, {values.shape(0), b.size(), b.degree()}, "out");
    const Unlocked unlocked;
    std::vector<u32> group(b.size() * b.plane());
    const size_t polynomial = b.size() * b.degree();
    for (size_t first = 0; first < values.shape(0); first += kLanes) {
        const size_t count = std::min(kLanes, values.shape(0) - first);
        b.interleave(values.data() + first * polynomial, count, b.size(), group.data());
        for (size_t i = 0; i < b.size(); ++i) {
            u32* plane = group.data() + i * b.plane();
            if (invert) {
                inverse(plane, b.tables(i));
            } else {
                forward(plane, b.tables(i));
            }
        }
        b.deinterleave(group.data(), count, b.size(), out.data() + first * polynomial);
    }
}

void bind_basis(nb::module_& m) {
    nb::class_<Basis>(m, "Basis", "A degree and a chain of primes; immutable, thread-safe.")
        .def(nb::init<size_t, std::vector<u32>>(), "degree"_a, "primes"_a)
        .def("transform", &transform, "values"_a.noconvert(), "invert"_a, "out"_a.noconvert())
        .def("elementwise", &elementwise, "operation"_a, "left"_a.noconvert(),
             "right"_a.noconvert(), "out"_a.noconvert())
        .def("below_primes", &below_primes, "values"_a.noconvert())
        .def(
            "scale_key",
            [](const Basis& b, const Input& key, Output out) {
                require_key(b, key, 1);
                require_shape(out, {key.shape(0), 2, b.size(), b.degree()}, "out");
                const Unlocked unlocked;
                b.scale_key(key.data(), 2 * key.shape(0), out.data());
            },
            "key"_a.noconvert(), "out"_a.noconvert())
        .def(
            "interleave",
            [](const Basis& b, const Input& from, Output to) {
                require_shape(from, {0, 0, 0, b.degree()}, "polynomials");
                require(from.shape(0) <= kLanes, "a group has at most 16 lanes");
                require_shape(to, {from.shape(1), from.shape(2), b.degree(), kLanes}, "group");
                const Unlocked unlocked;
                b.interleave(from.data(), from.shape(0), from.shape(1) * from.shape(2),
                             to.data());
            },
            "polynomials"_a.noconvert(), "group"_a.noconvert())
        .def(
            "deinterleave",
            [](const Basis& b, const Input& from, Output to) {
                require_shape(to, {0, 0, 0, b.degree()}, "polynomials");
                require(to.shape(0) <= kLanes, "a group has at most 16 lanes");
                require_shape(from, {to.shape(1), to.shape(2), b.degree(), kLanes}, "group");
                const Unlocked unlocked;
                b.deinterleave(from.data(), to.shape(0), to.shape(1) * to.shape(2), to.data());
            },
            "group"_a.noconvert(), "polynomials"_a.noconvert());
}

// Operations on groups that need a key; bound as functions so that this file reads in parts.
void bind_groups(nb::module_& m) {
    m.def(
        "expand",
        [](const Basis& b, Output nodes, size_t lanes, const Input& key, u64 element, u64 shift,
           Output difference) {
            require(nodes.ndim() == 4, "group has the wrong shape");
            const size_t level = nodes.shape(1);
            require_level(b, level, true);
            require_group(b, nodes, 2, level);
            require_key(b, key, level);
            require(element % 2 == 1, "a Galois element is odd");
            require(lanes == kLanes || (lanes >= 1 && 2 * lanes <= kLanes),
                    "lanes must be 16 or at most 8");
            require_group(b, difference, 2, level);
            require(lanes < kLanes || difference.data() != nodes.data(),
                    "sum and difference need different memory");
            const Unlocked unlocked;
            b.expand(nodes.data(), level, lanes, key.data(), element, shift, difference.data());
        },
        "basis"_a, "nodes"_a.noconvert(), "lanes"_a, "key"_a.noconvert(), "element"_a, "shift"_a,
        "difference"_a.noconvert());
    m.def(
        "apply_galois",
        [](const Basis& b, const Input& group, const Input& key, u64 element, Output out) {
            require(group.ndim() == 4, "group has the wrong shape");
            const size_t level = group.shape(1);
            require_level(b, level, true);
            require_group(b, group, 2, level);
            require_key(b, key, level);
            require(element % 2 == 1, "a Galois element is odd");
            require_group(b, out, 2, level);
            const Unlocked unlocked;
            b.apply_galois(group.data(), level, key.data(), element, out.data());
        },
        "basis"_a, "group"_a.noconvert(), "key"_a.noconvert(), "element"_a, "out"_a.noconvert());
    m.def(
        "switch_key",
        [](const Basis& b, const Input& group, const Input& key, Output out) {
            require(group.ndim() == 4, "group has the wrong shape");
            const size_t level = group.shape(1);
            require_level(b, level, true);
            require(group.shape(0) == 2 || group.shape(0) == 3, "group has the wrong shape");
            require_group(b, group, group.shape(0), level);
            require_key(b, key, level);
            require_group(b, out, 2, level);
            const Unlocked unlocked;
            if (group.shape(0) == 2) {
                b.switch_key(group.data(), level, key.data(), out.data());
            } else {
                b.relinearise(group.data(), level, key.data(), out.data());
            }
        },
        "basis"_a, "group"_a.noconvert(), "key"_a.noconvert(), "out"_a.noconvert());
    m.def(
        "rescale",
        [](const Basis& b, const Input& group, Output out) {
            require(group.ndim() == 4 && group.shape(1) >= 2, "group has the wrong shape");
            require_level(b, group.shape(1), false);
            require_group(b, group, group.shape(0), group.shape(1));
            require_group(b, out, group.shape(0), group.shape(1) - 1);
            const Unlocked unlocked;
            b.rescale(group.data(), group.shape(0), group.shape(1), out.data());
        },
        "basis"_a, "group"_a.noconvert(), "out"_a.noconvert());
}

template <class Array>
BlockShape block_shape(const Basis& b, const Array& tiles) {
    require(tiles.ndim() == 5, "block has the wrong shape");
    const BlockShape shape{tiles.shape(0), b.degree(), tiles.shape(2)};
    require_level(b, shape.level, false);
    require_shape(tiles, {shape.level, shape.tiles(), shape.dimension, 2, kLanes}, "block");
    require(shape.dimension >= 1 && shape.dimension <= 1024, "dimension out of range");
    return shape;
}

TileRange tile_range(const BlockShape& shape, size_t begin, size_t end) {
    require(begin <= end && end <= shape.level * shape.tiles(), "tile range out of bounds");
    return {begin, end};
}

void bind_blocks(nb::module_& m) {
    m.def(
        "prepare",
        [](const Basis& b, const Input& columns, Output tiles, size_t begin, size_t end) {
            const BlockShape shape = block_shape(b, tiles);
            require_shape(columns, {shape.dimension, 2, shape.level, shape.degree}, "columns");
            const TileRange range = tile_range(shape, begin, end);
            const Unlocked unlocked;
            prepare(b, shape, columns.data(), range, tiles.data());
        },
        "basis"_a, "columns"_a.noconvert(), "tiles"_a.noconvert(), "begin"_a, "end"_a);
    m.def(
        "place",
        [](const Basis& b, const Input& columns, size_t first, u64 power, Output tiles,
           size_t begin, size_t end) {
            const BlockShape shape = block_shape(b, tiles);
            require_shape(columns, {0, 2, shape.level, shape.degree}, "columns");
            const size_t count = columns.shape(0);
            require(count <= shape.dimension && first <= shape.dimension - count,
                    "columns reach outside the block");
            const TileRange range = tile_range(shape, begin, end);
            const Unlocked unlocked;
            std::vector<std::vector<Factor>> monomials;
            for (size_t i = 0; i < shape.level; ++i) {
                monomials.push_back(monomial(b.tables(i), power));
            }
            place(b, shape, columns.data(), first, count, monomials, range, tiles.data());
        },
        "basis"_a, "columns"_a.noconvert(), "first"_a, "power"_a, "tiles"_a.noconvert(),
        "begin"_a, "end"_a);
    m.def(
        "score",
        [](const Basis& b, const std::vector<Input>& probes, const std::vector<Input>& blocks,
           Output out, size_t begin, size_t end) {
            require(!probes.empty() && !blocks.empty(), "nothing to score");
            const BlockShape shape = block_shape(b, probes.front());
            std::vector<const u32*> left, right;
            for (const Input& probe : probes) {
                require_shape(probe, {shape.level, shape.tiles(), shape.dimension, 2, kLanes},
                              "probe");
                left.push_back(probe.data());
            }
            for (const Input& block : blocks) {
                require_shape(block, {shape.level, shape.tiles(), shape.dimension, 2, kLanes},
                              "block");
                right.push_back(block.data());
            }
            require_shape(out, {probes.size(), blocks.size(), 3, shape.level, shape.degree},
                          "out");
            const TileRange range = tile_range(shape, begin, end);
            const Unlocked unlocked;
            score(b, shape, left, right, range, out.data());
        },
        "basis"_a, "probes"_a, "blocks"_a, "out"_a.noconvert(), "begin"_a, "end"_a);
    m.def(
        "check_sums",
        [](const Basis& b, const Input& columns, const Signs& signs, Output norm,
           Output projection, size_t begin, size_t end) {
            require(columns.ndim() == 4, "columns have the wrong shape");
            const BlockShape shape{columns.shape(2), b.degree(), columns.shape(0)};
            require_level(b, shape.level, false);
            require_shape(columns, {shape.dimension, 2, shape.level, shape.degree}, "columns");
            require(shape.dimension >= 1 && shape.dimension <= 1024, "dimension out of range");
            require(signs.shape(0) == shape.dimension, "signs have the wrong shape");
            require_shape(norm, {3, shape.level, shape.degree}, "norm");
            require_shape(projection, {2, shape.level, shape.degree}, "projection");
            require(begin <= end && end <= shape.degree && begin % kLanes == 0 &&
                        end % kLanes == 0,
                    "coefficient range out of bounds");
            const Unlocked unlocked;
            check_sums(b, shape, columns.data(), signs.data(), begin, end, norm.data(),
                       projection.data());
        },
        "basis"_a, "columns"_a.noconvert(), "signs"_a.noconvert(), "norm"_a.noconvert(),
        "projection"_a.noconvert(), "begin"_a, "end"_a);
}

}  // namespace
}  // namespace underseal

NB_MODULE(_kernel, m) {
    underseal::bind_basis(m);
    underseal::bind_groups(m);
    underseal::bind_blocks(m);
}
