#pragma once
// One team of threads for a whole call: members meet at barriers instead of being started again every step.

#include <atomic>
#include <cstdint>

namespace fused_lstm::cpu {

// How the host starts threads; filled in by the binding, so that this folder needs no torch.
struct Parallel {
  int threads = 1;  // how many the user allows
  // calls body(begin, end, context) on disjoint ranges that cover [0, n), all of them at the same time
  void (*run)(int64_t n, void (*body)(int64_t, int64_t, void*), void* context) = nullptr;
};

// Spins, then yields: on a shared machine a member that waits must let the one it waits for run.
class Barrier {
 public:
  void wait(int members);

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> round_{0};
};

struct Member {
  int index;
  int size;
  Barrier* barrier;

  void sync() const { barrier->wait(size); }
};

// Runs body(member, context) on up to `wanted` threads. The team may turn out smaller (nested calls, limits of the
// OpenMP runtime, a forked child): only member.size counts.  body must not throw: the others would wait for ever.
void run_team(const Parallel& parallel, int wanted, void (*body)(const Member&, void*), void* context);

template <class Body>
void run_team(const Parallel& parallel, int wanted, Body& body) {
  run_team(parallel, wanted, [](const Member& m, void* context) { (*static_cast<Body*>(context))(m); }, &body);
}

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Part `i` of n of [0, count)
inline Range part(int64_t count, int i, int n) { return {count * i / n, count * (i + 1) / n}; }

}  // namespace fused_lstm::cpu
