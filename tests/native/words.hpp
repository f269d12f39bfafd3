// How the programs beside this file read their input and write what they find.
#pragma once

#include <cstdio>
#include <stdexcept>
#include <vector>

#include "modular.hpp"

namespace underseal {

inline std::vector<u32> read(size_t words) {
    std::vector<u32> into(words);
    if (std::fread(into.data(), sizeof(u32), words, stdin) != words) {
        throw std::runtime_error("too little input");
    }
    return into;
}

template <class Value>
void write(const std::vector<Value>& values) {
    std::fwrite(values.data(), sizeof(Value), values.size(), stdout);
}

}  // namespace underseal
