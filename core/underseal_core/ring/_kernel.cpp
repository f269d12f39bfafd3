// Python bindings. Every array is checked here for type, contiguity and shape, so that no call
// can reach outside its arrays; kernel.py in front of it gives the friendlier messages. The
// interpreter lock is released while anything is computed.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <stdexcept>
#include <string>

#include "blocks.hpp"
#include "elementwise.hpp"
#include "expansion.hpp"
#include "packing.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace underseal {
namespace {

using Input = nb::ndarray<const u32, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<u32, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<const unsigned char, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Packed = nb::ndarray<unsigned char, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
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

// The level of a ciphertext of so many components that the special prime is still above.
template <class Array>
size_t switched_level(const Basis& b, const Array& ciphertext, size_t components) {
    require(ciphertext.ndim() == 3, "ciphertext has the wrong shape");
    require_shape(ciphertext, {components, 0, b.degree()}, "ciphertext");
    require_level(b, ciphertext.shape(1), true);
    return ciphertext.shape(1);
}

template <class Function>
void each_prime(const Basis& b, size_t count, Function function) {
    for (size_t r = 0; r < count; ++r) {
        for (size_t i = 0; i < b.size(); ++i) {
            function(b.tables(i), (r * b.size() + i) * b.degree());
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
        combine(static_cast<Operation>(operation), left.data() + at, right.data() + at, t,
                out.data() + at);
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
    std::memcpy(out.data(), values.data(), values.size() * sizeof(u32));
    each_prime(b, values.shape(0), [&](const PrimeTables& t, size_t at) {
        if (invert) {
            inverse(values.data() + at, out.data() + at, t);
        } else {
            forward(out.data() + at, t);
        }
    });
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
            "key"_a.noconvert(), "out"_a.noconvert());
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

void require_power(const BlockShape& shape, const Monomials& power) {
    require(power.primes.size() >= shape.level && power.primes.front().size() == 2 * shape.tiles(),
            "a power of another ring");
}

// An Expansion with the arrays of its keys.
class HeldExpansion {
  public:
    HeldExpansion(const Basis& basis, std::vector<Input> keys)
        : keys_(std::move(keys)), expansion_(basis, pointers(basis, keys_)) {}

    const Expansion& get() const { return expansion_; }

  private:
    static std::vector<const u32*> pointers(const Basis& basis, const std::vector<Input>& keys) {
        std::vector<const u32*> result;
        for (const Input& key : keys) {
            require_key(basis, key, basis.size() - 1);
            result.push_back(key.data());
        }
        require(result.size() <= 10, "an expansion has at most 10 levels");
        require(size_t{1} << result.size() <= basis.degree(), "more columns than the degree");
        return result;
    }

    std::vector<Input> keys_;
    Expansion expansion_;
};

void descend(const HeldExpansion& held, const Input& node, size_t index, size_t begin, size_t end,
             Output out) {
    const Expansion& expansion = held.get();
    const Basis& b = expansion.basis();
    const size_t level = switched_level(b, node, 2);
    require(begin <= end && end <= expansion.depth(), "levels of the tree out of range");
    require(index < size_t{1} << begin, "no such node");
    require(out.ndim() == 4, "out has the wrong shape");
    const size_t out_level = out.shape(2);
    require_shape(out, {size_t{1} << end, 2, 0, b.degree()}, "out");
    require(out_level >= 1 && out_level <= level, "level out of range");
    const Unlocked unlocked;
    expansion.descend(node.data(), level, index, begin, end, out_level, out.data());
}

void prepare(const HeldExpansion& held, const Input& node, size_t index, size_t begin,
             Output tiles, Output sums) {
    const Expansion& expansion = held.get();
    const Basis& b = expansion.basis();
    const size_t level = switched_level(b, node, 2);
    const BlockShape shape = block_shape(b, tiles);
    require(shape.dimension == size_t{1} << expansion.depth(), "tiles have the wrong shape");
    require(begin <= expansion.depth(), "levels of the tree out of range");
    require(index < size_t{1} << begin, "no such node");
    require(sums.ndim() == 3, "sums have the wrong shape");
    const size_t check_level = sums.shape(1);
    require_shape(sums, {3, check_level, b.degree()}, "sums");
    require(shape.level <= level && check_level >= 1 && check_level <= shape.level &&
                check_level + 1 >= shape.level,
            "level out of range");
    const Unlocked unlocked;
    expansion.prepare(node.data(), level, index, begin, shape, check_level, tiles.data(),
                      sums.data());
}

void add_rows(const HeldExpansion& held, const std::vector<Input>& nodes,
              const std::vector<const Monomials*>& powers, size_t index, size_t begin,
              Output tiles) {
    const Expansion& expansion = held.get();
    const Basis& b = expansion.basis();
    require(!nodes.empty() && nodes.size() == powers.size(), "a power for each row");
    const size_t level = switched_level(b, nodes.front(), 2);
    const BlockShape shape = block_shape(b, tiles);
    require(shape.dimension == size_t{1} << expansion.depth(), "block has the wrong shape");
    require(shape.level <= level, "level out of range");
    require(begin <= expansion.depth(), "levels of the tree out of range");
    require(index < size_t{1} << begin, "no such node");
    std::vector<const u32*> left;
    for (size_t r = 0; r < nodes.size(); ++r) {
        require_shape(nodes[r], {2, level, b.degree()}, "node");
        require_power(shape, *powers[r]);
        left.push_back(nodes[r].data());
    }
    const Unlocked unlocked;
    expansion.add_rows(left, powers, level, index, begin, shape, tiles.data());
}

void bind_expansion(nb::module_& m) {
    nb::class_<Monomials>(m, "Power", "A power of X, to multiply with.")
        .def(
            "__init__",
            [](Monomials* self, const Basis& b, size_t level, u64 power) {
                require_level(b, level, false);
                new (self) Monomials(b.monomials(level, power));
            },
            "basis"_a, "level"_a, "power"_a);
    nb::class_<HeldExpansion>(m, "Expansion", "The expansion tree of one set of Galois keys.")
        .def(nb::init<const Basis&, std::vector<Input>>(), "basis"_a, "keys"_a,
             nb::keep_alive<1, 2>())
        .def("add_rows", &add_rows, "nodes"_a, "powers"_a, "index"_a, "begin"_a,
             "tiles"_a.noconvert())
        .def("prepare", &prepare, "node"_a.noconvert(), "index"_a, "begin"_a,
             "tiles"_a.noconvert(), "sums"_a.noconvert())
        .def("descend", &descend, "node"_a.noconvert(), "index"_a, "begin"_a, "end"_a,
             "out"_a.noconvert());
}

// Operations on one ciphertext that need a key or divide by a prime.
void bind_ciphertexts(nb::module_& m) {
    m.def(
        "switch_key",
        [](const Basis& b, const Input& ciphertext, const Input& key, Output out) {
            require(ciphertext.ndim() == 3, "ciphertext has the wrong shape");
            const size_t components = ciphertext.shape(0);
            require(components == 2 || components == 3, "ciphertext has the wrong shape");
            const size_t level = switched_level(b, ciphertext, components);
            require_key(b, key, level);
            require_shape(out, {2, level, b.degree()}, "out");
            require(out.data() != ciphertext.data(), "in and out need different memory");
            const Unlocked unlocked;
            if (components == 2) {
                b.switch_key(ciphertext.data(), level, key.data(), out.data());
            } else {
                b.relinearise(ciphertext.data(), level, key.data(), out.data());
            }
        },
        "basis"_a, "ciphertext"_a.noconvert(), "key"_a.noconvert(), "out"_a.noconvert());
    m.def(
        "rescale",
        [](const Basis& b, const Input& ciphertext, Output out) {
            require(ciphertext.ndim() == 3 && ciphertext.shape(1) >= 2,
                    "ciphertext has the wrong shape");
            const size_t components = ciphertext.shape(0), level = ciphertext.shape(1);
            require_level(b, level, false);
            require_shape(ciphertext, {components, level, b.degree()}, "ciphertext");
            require_shape(out, {components, level - 1, b.degree()}, "out");
            require(out.data() != ciphertext.data(), "in and out need different memory");
            const Unlocked unlocked;
            b.rescale(ciphertext.data(), components, level, out.data());
        },
        "basis"_a, "ciphertext"_a.noconvert(), "out"_a.noconvert());
}

TileRange tile_range(const BlockShape& shape, size_t begin, size_t end) {
    require(begin <= end && end <= shape.level * shape.tiles(), "tile range out of bounds");
    return {begin, end};
}

void bind_blocks(nb::module_& m) {
    m.def(
        "place",
        [](const Basis& b, const Input& columns, size_t first, const Monomials& power,
           Output tiles, size_t begin, size_t end) {
            const BlockShape shape = block_shape(b, tiles);
            require_shape(columns, {0, 2, shape.level, shape.degree}, "columns");
            const size_t count = columns.shape(0);
            require(count <= shape.dimension && first <= shape.dimension - count,
                    "columns reach outside the block");
            require_power(shape, power);
            const TileRange range = tile_range(shape, begin, end);
            const Unlocked unlocked;
            place(b, shape, columns.data(), first, count, power, range, tiles.data());
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
}

// Calls transfer(values of a plane, their bytes, bits) for each plane of an array of shape (count,
// primes, values); it returns the largest residue. Returns whether all are below their primes.
template <class Values, class Stream, class Transfer>
bool each_plane(const std::vector<u32>& primes, const Values& values, const Stream& stream,
                Transfer transfer) {
    require(values.ndim() == 3 && values.shape(1) == primes.size(), "values have the wrong shape");
    require(values.shape(2) % kPackedGroup == 0, "a plane must be a multiple of 8 values");
    const size_t plane = values.shape(2);
    size_t bytes = 0;
    for (const u32 prime : primes) {
        require(prime >= 2 && prime < kPrimeLimit, "prime out of range");
        bytes += plane / kPackedGroup * residue_bits(prime);
    }
    require(stream.shape(0) == values.shape(0) * bytes, "bytes have the wrong length");
    const Unlocked unlocked;
    bool below = true;
    auto* at = values.data();
    auto* packed = stream.data();
    for (size_t r = 0; r < values.shape(0); ++r) {
        for (const u32 prime : primes) {
            const unsigned bits = residue_bits(prime);
            below = transfer(at, packed, bits) < prime && below;
            at += plane;
            packed += plane / kPackedGroup * bits;
        }
    }
    return below;
}

void bind_packing(nb::module_& m) {
    m.def(
        "pack",
        [](const std::vector<u32>& primes, const Input& values, Packed out) {
            return each_plane(primes, values, out, [&](const u32* from, auto* to, unsigned bits) {
                return pack(from, values.shape(2), bits, to);
            });
        },
        "primes"_a, "values"_a.noconvert(), "out"_a.noconvert());
    m.def(
        "unpack",
        [](const std::vector<u32>& primes, const Bytes& stream, Output out) {
            return each_plane(primes, out, stream, [&](u32* to, auto* from, unsigned bits) {
                return unpack(from, out.shape(2), bits, to);
            });
        },
        "primes"_a, "stream"_a.noconvert(), "out"_a.noconvert());
}

}  // namespace
}  // namespace underseal

NB_MODULE(_kernel, m) {
    underseal::bind_basis(m);
    underseal::bind_ciphertexts(m);
    underseal::bind_expansion(m);
    underseal::bind_blocks(m);
    underseal::bind_packing(m);
}
