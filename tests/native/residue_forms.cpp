// What is done to residues one by one, for a build with other options than the module's.
// See test_residue_forms.py.
//
//     residue_forms < input > output    words: planes, values of each, then for each a bound and its
//                                       values, to pack and unpack; then degree, primes, and for
//                                       each prime two polynomials, to add, subtract and multiply

#include "elementwise.hpp"
#include "packing.hpp"
#include "words.hpp"

using namespace underseal;

namespace {

// The bytes, what they are read as, and the largest residue that either of them saw.
void write_packed(unsigned bits, std::vector<u32> values) {
    std::vector<unsigned char> bytes(values.size() / kPackedGroup * bits);
    const u32 written = pack(values.data(), values.size(), bits, bytes.data());
    std::vector<u32> back(values.size());
    const u32 found = unpack(bytes.data(), values.size(), bits, back.data());
    write(bytes);
    write(back);
    write(std::vector<u32>{written, found});
}

}  // namespace

int main() {
    const std::vector<u32> planes = read(2);
    for (size_t k = 0; k < planes[0]; ++k) {
        const unsigned bits = residue_bits(read(1)[0]);
        write_packed(bits, read(planes[1]));
    }
    const std::vector<u32> head = read(2);
    for (const u32 prime : read(head[1])) {
        const auto tables = prime_tables(head[0], prime);
        const std::vector<u32> a = read(head[0]), b = read(head[0]);
        for (const Operation operation :
             {Operation::add, Operation::subtract, Operation::multiply}) {
            std::vector<u32> out(head[0]);
            combine(operation, a.data(), b.data(), *tables, out.data());
            write(out);
        }
    }
    return 0;
}
