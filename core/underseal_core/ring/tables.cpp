#include "tables.hpp"

#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace underseal {
namespace {

bool is_prime(u32 n) {
    if (n < 2 || n % 2 == 0) {
        return n == 2;
    }
    for (u32 f = 3; static_cast<u64>(f) * f <= n; f += 2) {
        if (n % f == 0) {
            return false;
        }
    }
    return true;
}

u32 smallest_primitive_root(size_t degree, u32 p) {
    const u64 order = 2 * static_cast<u64>(degree);
    u32 root = 0;
    for (u32 candidate = 2; root == 0; ++candidate) {
        const u32 r = power(candidate, (p - 1) / order, p);
        if (power(r, degree, p) == p - 1) {
            root = r;
        }
    }
    const u32 square = multiply(root, root, p);
    u32 smallest = root;
    for (size_t i = 1; i < degree; ++i) {
        root = multiply(root, square, p);
        smallest = root < smallest ? root : smallest;
    }
    return smallest;
}

std::vector<Factor> powers_in_order(u32 root, size_t degree, unsigned log_degree, u32 p) {
    std::vector<Factor> result(degree);
    u32 value = 1;
    for (size_t i = 0; i < degree; ++i) {
        result[reverse_bits(static_cast<u32>(i), log_degree)] = factor(value, p);
        value = multiply(value, root, p);
    }
    return result;
}

std::vector<Row> lane_factors(const std::vector<Factor>& roots) {
    const size_t rows = roots.size() / kLanes, blocks = (rows + kBlockRows - 1) / kBlockRows;
    std::vector<Row> result(blocks * kBlockFactors * 2);
    for (size_t x = 0; x < rows; ++x) {
        Row* block = result.data() + x / kBlockRows * kBlockFactors * 2;
        for (size_t f = 0; f < kBlockFactors; ++f) {
            const size_t k = f / 3, child = f % 3;
            const size_t node = k == 0 ? rows + x : 4 * (rows + x) + k - 1;
            const Factor root = roots[child == 0 ? node : 2 * node + child - 1];
            block[2 * f].words[x % kBlockRows] = root.value;
            block[2 * f + 1].words[x % kBlockRows] = root.quotient;
        }
    }
    return result;
}

u32 inverse_of_word(u32 p) {
    u32 x = p;  // correct to 3 bits for odd p; each Newton step doubles that
    for (int step = 0; step < 4; ++step) {
        x *= 2 - p * x;
    }
    return x;
}

std::shared_ptr<const PrimeTables> compute(size_t degree, u32 p) {
    if (degree < 16 || degree > 32768 || (degree & (degree - 1)) != 0) {
        throw std::invalid_argument("degree must be a power of two from 16 to 32768");
    }
    if (p >= kPrimeLimit || (p - 1) % (2 * degree) != 0 || !is_prime(p)) {
        throw std::invalid_argument("modulus must be a prime below 2^29 and 1 modulo 2N");
    }
    auto tables = std::make_shared<PrimeTables>();
    tables->degree = degree;
    for (tables->log_degree = 0; (size_t{1} << tables->log_degree) < degree;) {
        ++tables->log_degree;
    }
    const u32 one = static_cast<u32>((u64{1} << 32) % p);
    tables->prime = p;
    tables->montgomery_inverse = inverse_of_word(p);
    tables->montgomery_one = factor(one, p);
    tables->degree_inverse = factor(inverse(static_cast<u32>(degree), p), p);
    const u32 psi = smallest_primitive_root(degree, p);
    tables->roots = powers_in_order(psi, degree, tables->log_degree, p);
    tables->inverse_roots = powers_in_order(inverse(psi, p), degree, tables->log_degree, p);
    tables->lane_roots = lane_factors(tables->roots);
    tables->inverse_lane_roots = lane_factors(tables->inverse_roots);
    tables->exponents.resize(degree);
    for (size_t i = 0; i < degree; ++i) {
        tables->exponents[i] = 2 * reverse_bits(static_cast<u32>(i), tables->log_degree) + 1;
    }
    return tables;
}

}  // namespace

std::shared_ptr<const PrimeTables> prime_tables(size_t degree, u32 prime) {
    static std::mutex mutex;
    static std::map<std::pair<size_t, u32>, std::shared_ptr<const PrimeTables>> cache;
    const std::lock_guard<std::mutex> lock(mutex);
    auto& entry = cache[{degree, prime}];
    if (!entry) {
        entry = compute(degree, prime);
    }
    return entry;
}

std::vector<Row> monomial(const PrimeTables& tables, u64 power) {
    const u64 mask = 2 * static_cast<u64>(tables.degree) - 1;
    std::vector<Row> result(2 * tables.degree / kLanes);
    for (size_t i = 0; i < tables.degree; ++i) {
        const u64 e = (power * tables.exponents[i]) & mask;
        // exponents[] is 2 brv + 1, so brv(e) needs no loop.
        const size_t position = (tables.exponents[e & (mask >> 1)] - 1) / 2;
        const Factor root = tables.roots[position];
        // psi^N = -1, and floor((p - w) 2^32 / p) = 2^32 - 1 - floor(w 2^32 / p).
        const bool low = e < tables.degree;
        Row* rows = result.data() + i / kLanes * 2;
        rows[0].words[i % kLanes] = low ? root.value : tables.prime - root.value;
        rows[1].words[i % kLanes] = low ? root.quotient : ~root.quotient;
    }
    return result;
}

Automorphism::Automorphism(const PrimeTables& tables, u64 element) {
    if (element % 2 == 0) {
        throw std::invalid_argument("a Galois element is odd");
    }
    const u64 mask = 2 * static_cast<u64>(tables.degree) - 1;
    for (size_t x = 0; x < tables.degree / kLanes; ++x) {
        Row lanes;
        u32 source = 0;
        for (size_t l = 0; l < kLanes; ++l) {
            const u64 e = (element * tables.exponents[x * kLanes + l]) & mask;
            const u32 from = (tables.exponents[(e - 1) / 2] - 1) / 2;
            source = from / kLanes;
            lanes.words[l] = from % kLanes;
        }
        size_t turn = 0;
        while (turn < lanes_.size() &&
               std::memcmp(lanes_[turn].words, lanes.words, sizeof lanes.words) != 0) {
            ++turn;
        }
        if (turn == lanes_.size()) {
            lanes_.push_back(lanes);
        }
        sources_.push_back(source);
        turns_.push_back(static_cast<unsigned char>(turn));
    }
}

}  // namespace underseal
