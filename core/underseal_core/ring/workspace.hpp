// Scratch memory of one thread, kept between calls: fresh pages would cost more than the work.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#include "modular.hpp"

namespace underseal {

class Workspace {
  public:
    // `words` words, aligned to a cache line, contents unspecified; valid until the next call.
    u32* get(size_t words) {
        if (words > capacity_) {
            const size_t bytes = (words * sizeof(u32) + 63) / 64 * 64;
            memory_.reset(static_cast<u32*>(std::aligned_alloc(64, bytes)));
            if (!memory_) {
                capacity_ = 0;
                throw std::bad_alloc();
            }
            capacity_ = words;
        }
        return memory_.get();
    }

  private:
    struct Free {
        void operator()(u32* p) const { std::free(p); }
    };
    std::unique_ptr<u32, Free> memory_;
    size_t capacity_ = 0;
};

inline Workspace& workspace() {
    thread_local Workspace instance;
    return instance;
}

}  // namespace underseal
