// Scores and blocks of a probe of given inputs, for a build with other options than the
// module's. See test_forms.py.
//
//     forms < input > output      words: degree, primes, dimension, probes, blocks, then the
//                                 probes' tiles and the blocks' columns

#include "blocks.hpp"
#include "words.hpp"

using namespace underseal;

int main() {
    const std::vector<u32> head = read(2);
    const std::vector<u32> primes = read(head[1]), sizes = read(3);
    const Basis basis(head[0], primes);
    const BlockShape shape{primes.size(), head[0], sizes[0]};
    const size_t words = shape.level * shape.tiles() * shape.tile_words();
    const TileRange all{0, shape.level * shape.tiles()};
    std::vector<std::vector<u32>> probes, blocks;
    std::vector<const u32*> left, right;
    for (size_t k = 0; k < sizes[1]; ++k) {
        probes.push_back(read(words));
        left.push_back(probes.back().data());
    }
    for (size_t k = 0; k < sizes[2]; ++k) {
        const std::vector<u32> columns = read(words);
        blocks.emplace_back(words);
        place(basis, shape, columns.data(), 0, shape.dimension, basis.monomials(shape.level, k), all,
              blocks.back().data());
        right.push_back(blocks.back().data());
    }
    const size_t polynomials = shape.level * shape.degree;
    std::vector<u32> out(sizes[1] * sizes[2] * 3 * polynomials);
    score(basis, shape, left, right, all, out.data());
    write(out);
    return 0;
}
