#pragma once
// A host for teams that does as it is told, where torch would decide itself how many threads take part.

#include <thread>
#include <vector>

#include "cpu/team.h"

namespace fused_lstm::native {

inline thread_local int64_t g_parts_each = 1;

// `parts_each` parts of the work go to each thread: with 2, a team of 4 turns out to have 2 members.
inline cpu::Parallel host(int threads, int parts_each = 1) {
  g_parts_each = parts_each;
  return {threads, [](int64_t n, void (*body)(int64_t, int64_t, void*), void* context) {
            std::vector<std::thread> team;
            for (int64_t begin = 0; begin < n; begin += g_parts_each)
              team.emplace_back(body, begin, std::min(n, begin + g_parts_each), context);
            for (std::thread& member : team) member.join();
          }};
}

}  // namespace fused_lstm::native
