// Scratch memory of one thread, kept between calls: fresh pages would cost more than the work.
// In huge pages where the system has them: an expansion reads 20 MB of keys and nodes in turn.
#pragma once

#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "modular.hpp"

namespace underseal {

class Workspace {
  public:
    // `words` words, aligned to a cache line, contents unspecified; valid until the next call.
    u32* get(size_t words) {
        if (words > capacity_) {
            const size_t bytes = words * sizeof(u32);
            const size_t unit = bytes < kHugePage ? 64 : kHugePage;
            const size_t whole = (bytes + unit - 1) / unit * unit;
            memory_.reset(static_cast<u32*>(std::aligned_alloc(unit, whole)));
            if (!memory_) {
                capacity_ = 0;
                throw std::bad_alloc();
            }
            capacity_ = words;
#if defined(__linux__)
            if (unit == kHugePage) {
                madvise(memory_.get(), whole, MADV_HUGEPAGE);  // advice: it may fail
            }
#endif
        }
        return memory_.get();
    }

  private:
    static constexpr size_t kHugePage = size_t{1} << 21;

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
