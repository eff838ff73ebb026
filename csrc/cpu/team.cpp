#include "cpu/team.h"

#include <pthread.h>
#include <sched.h>

namespace fused_lstm::cpu {
namespace {

// A forked child has none of its parent's threads, but the OpenMP runtime still counts on them.
std::atomic<bool> g_forked{false};

struct WatchForks {
  WatchForks() {
    pthread_atfork(nullptr, nullptr, [] { g_forked.store(true); });
  }
} g_watch_forks;

inline void relax(int& spins) {
  if (++spins > 4000) {
    sched_yield();
    return;
  }
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Members find out how many they are: the host may hand several parts to one thread.
struct Gathering {
  int64_t parts;
  void (*body)(const Member&, void*);
  void* context;
  std::atomic<int> members{0};
  std::atomic<int64_t> covered{0};
  Barrier barrier;
};

void join(int64_t begin, int64_t end, void* pointer) {
  Gathering& g = *static_cast<Gathering*>(pointer);
  const int index = g.members.fetch_add(1, std::memory_order_relaxed);
  g.covered.fetch_add(end - begin, std::memory_order_acq_rel);
  int spins = 0;
  while (g.covered.load(std::memory_order_acquire) < g.parts) relax(spins);
  g.body(Member{index, g.members.load(std::memory_order_relaxed), &g.barrier}, g.context);
}

}  // namespace

void Barrier::wait(int members) {
  if (members == 1) return;
  const int round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == members - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
    return;
  }
  int spins = 0;
  while (round_.load(std::memory_order_acquire) == round) relax(spins);
}

void run_team(const Parallel& parallel, int wanted, void (*body)(const Member&, void*), void* context) {
  const int threads = wanted < parallel.threads ? wanted : parallel.threads;
  if (threads <= 1 || !parallel.run || g_forked.load(std::memory_order_relaxed)) {
    Barrier alone;
    body(Member{0, 1, &alone}, context);
    return;
  }
  Gathering gathering{threads, body, context, {}, {}, {}};
  parallel.run(threads, join, &gathering);
}

}  // namespace fused_lstm::cpu
