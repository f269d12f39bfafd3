// Residues written with as many bits as their prime has, one after another, least significant bit
// first: value i takes bits [i * bits, (i + 1) * bits) of a little-endian stream. Counts are
// multiples of 8, so values fill whole bytes and there are no bits to spare.
#pragma once

#include "modular.hpp"

namespace underseal {

inline constexpr size_t kPackedGroup = 8;

// Bits of the largest residue of a prime.
unsigned residue_bits(u32 prime);

// Writes count * bits / 8 bytes. Returns the largest value: what is not below 2^bits is cut.
u32 pack(const u32* values, size_t count, unsigned bits, unsigned char* out);

// Reads count * bits / 8 bytes and no more. Returns the largest value.
u32 unpack(const unsigned char* in, size_t count, unsigned bits, u32* values);

}  // namespace underseal
