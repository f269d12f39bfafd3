#include "packing.hpp"

#include <cstring>

namespace underseal {
namespace {

static_assert(kPackedGroup == 8, "a group of 8 values fills whole bytes");

// Groups are read and written in whole words: so many bytes from where a group of up to 32 bits
// begins, of which its own are the first.
constexpr size_t kWritten = 4 * sizeof(u64);
constexpr size_t kRead = 5 * sizeof(u64);

UNDERSEAL_INLINE u32 unpack_group(const unsigned char* in, unsigned bits, u32* values) {
    const u64 mask = (u64{1} << bits) - 1;
    u32 largest = 0;
    for (unsigned k = 0; k < kPackedGroup; ++k) {
        u64 word;
        std::memcpy(&word, in + (k * bits) / 8, sizeof word);
        const u32 value = static_cast<u32>((word >> ((k * bits) % 8)) & mask);
        values[k] = value;
        largest = value > largest ? value : largest;
    }
    return largest;
}

// Writes kWritten bytes: those after the group's own are zero.
UNDERSEAL_INLINE u32 pack_group(const u32* values, unsigned bits, unsigned char* out) {
    const u64 mask = (u64{1} << bits) - 1;
    u64 word = 0;
    u32 largest = 0;
    unsigned used = 0, written = 0;
    for (unsigned k = 0; k < kPackedGroup; ++k) {
        const u64 value = values[k] & mask;
        word |= value << used;
        used += bits;
        if (used >= 64) {
            std::memcpy(out + written, &word, sizeof word);
            written += sizeof word;
            used -= 64;
            word = value >> (bits - used);
        }
        largest = values[k] > largest ? values[k] : largest;
    }
    for (; written < kWritten; written += sizeof word, word = 0) {
        std::memcpy(out + written, &word, sizeof word);
    }
    return largest;
}

// What a group writes behind itself the next one overwrites: the last groups go through a copy.
UNDERSEAL_INLINE u32 pack_all(const u32* values, size_t count, unsigned bits,
                              unsigned char* out) {
    u32 largest = 0;
    const size_t groups = count / kPackedGroup;
    for (size_t i = 0; i < groups; ++i, values += kPackedGroup, out += bits) {
        u32 found;
        if ((groups - i) * bits >= kWritten) {
            found = pack_group(values, bits, out);
        } else {
            unsigned char copy[kWritten];
            found = pack_group(values, bits, copy);
            std::memcpy(out, copy, bits);
        }
        largest = found > largest ? found : largest;
    }
    return largest;
}

// The last groups are read from a copy.
UNDERSEAL_INLINE u32 unpack_all(const unsigned char* in, size_t count, unsigned bits,
                                u32* values) {
    u32 largest = 0;
    const size_t groups = count / kPackedGroup;
    for (size_t i = 0; i < groups; ++i, in += bits, values += kPackedGroup) {
        u32 found;
        if ((groups - i) * bits >= kRead) {
            found = unpack_group(in, bits, values);
        } else {
            unsigned char copy[kRead] = {};
            std::memcpy(copy, in, bits);
            found = unpack_group(copy, bits, values);
        }
        largest = found > largest ? found : largest;
    }
    return largest;
}

// The widths that profiles have are compiled with constant shifts.
template <auto transfer, class From, class To>
UNDERSEAL_INLINE u32 at_width(const From* from, size_t count, unsigned bits, To* to) {
    switch (bits) {
        case 26:
            return transfer(from, count, 26, to);
        case 27:
            return transfer(from, count, 27, to);
        case 28:
            return transfer(from, count, 28, to);
        case 29:
            return transfer(from, count, 29, to);
        default:
            return transfer(from, count, bits, to);
    }
}

}  // namespace

unsigned residue_bits(u32 prime) {
    unsigned bits = 1;
    while ((u64{prime} - 1) >> bits != 0) {
        ++bits;
    }
    return bits;
}

UNDERSEAL_CLONES
u32 pack(const u32* values, size_t count, unsigned bits, unsigned char* out) {
    return at_width<pack_all>(values, count, bits, out);
}

UNDERSEAL_CLONES
u32 unpack(const unsigned char* in, size_t count, unsigned bits, u32* values) {
    return at_width<unpack_all>(in, count, bits, values);
}

}  // namespace underseal
