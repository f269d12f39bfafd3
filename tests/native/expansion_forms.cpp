// An expansion, a block that it is added to, and a probe made of it, for a build with other options than the module's.
// See test_expansion_forms.py.
//
//     expansion_forms < input > output    words: degree, primes, levels, then the row, and the
//                                         keys in Montgomery form

#include "expansion.hpp"
#include "words.hpp"

using namespace underseal;

int main() {
    const std::vector<u32> head = read(2);
    const Basis basis(head[0], read(head[1]));
    const size_t levels = read(1)[0], data = basis.size() - 1;
    const std::vector<u32> row = read(2 * data * basis.degree());
    std::vector<std::vector<u32>> keys;
    std::vector<const u32*> pointers;
    for (size_t k = 0; k < levels; ++k) {
        keys.push_back(read(data * 2 * basis.size() * basis.degree()));
        pointers.push_back(keys.back().data());
    }
    const Expansion expansion(basis, pointers);
    const BlockShape shape{data - 1, basis.degree(), size_t{1} << levels};
    std::vector<u32> columns(shape.dimension * 2 * shape.level * shape.degree);
    expansion.descend(row.data(), data, 0, 0, levels, shape.level, columns.data());
    write(columns);
    std::vector<u32> tiles(columns.size());
    const Monomials power = basis.monomials(shape.level, 5);
    expansion.add_rows({row.data()}, {&power}, data, 0, 0, shape, tiles.data());
    write(tiles);
    for (const size_t check_level : {shape.level, shape.level - 1}) {
        std::vector<u32> sums(3 * check_level * shape.degree);
        expansion.prepare(row.data(), data, 0, 0, shape, check_level, tiles.data(), sums.data());
        write(tiles);
        write(sums);
    }
    return 0;
}
