#pragma once
// The primitives of primitives.h in plain C++. Include that one.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/emulator.h"
#include "cuda/primitives.h"

#define FUSED_LSTM_KERNEL(threads) inline void
#define FUSED_LSTM_DEVICE inline
#define UNROLL
#define NO_UNROLL
#define FUSED_LSTM_ARGUMENT const
#define FUSED_LSTM_WITH_CLUSTERS(...) __VA_ARGS__

namespace fused_lstm::cuda {

// --- identity
// ------------------------------------------------------------------------------------------------------------

inline int thread_rank() { return emulator::g_self->thread; }
inline int block_threads() { return emulator::machine().grid().threads; }
inline int block_index() { return emulator::block().index; }
inline int block_count() { return emulator::machine().grid().clusters * emulator::machine().grid().cluster_size; }
inline int cluster_rank() { return emulator::block().rank; }
inline int cluster_size() { return emulator::machine().grid().cluster_size; }
inline int cluster_index() { return emulator::block().cluster->index; }

// --- memory
// --------------------------------------------------------------------------------------------------------------

template <class V>
V shared_load(SharedAddress at) {
  V v;
  std::memcpy(&v, emulator::machine().shared(emulator::block(), at, sizeof(V), false, "shared_load"), sizeof(V));
  return v;
}
template <class V>
void shared_store(SharedAddress at, const V& v) {
  std::memcpy(emulator::machine().shared(emulator::block(), at, sizeof(V), true, "shared_store"), &v, sizeof(V));
}

inline void copy_async(SharedAddress at, const void* from) {
  emulator::Machine& m = emulator::machine();
  m.maybe_pause();
  if (reinterpret_cast<uintptr_t>(from) % 16) m.fail("copy_async: the source is not aligned to 16 bytes");
  unsigned char* to = m.shared(emulator::block(), at, 16, true, "copy_async");
  const bool arrived = m.arrives_at_once();
  if (arrived) std::memcpy(to, from, 16);
  std::fill_n(emulator::block().state.begin() + at, 16, emulator::Byte::kCopying);
  emulator::g_self->copies.push_back({at, from, emulator::g_self->copy_groups, arrived});
}
inline void copy_commit() { ++emulator::g_self->copy_groups; }
template <int kStillUnderWay>
void copy_wait() {
  if (emulator::machine().forgotten("copy_wait")) return;
  auto& copies = emulator::g_self->copies;
  const auto waited_for = [](const emulator::Copy& c) {
    return c.group < emulator::g_self->copy_groups - kStillUnderWay;
  };
  for (const emulator::Copy& c : copies) {
    if (!waited_for(c)) continue;
    if (!c.arrived) std::memcpy(emulator::block().shared.data() + c.to, c.from, 16);
    std::fill_n(emulator::block().state.begin() + c.to, 16, emulator::Byte::kWritten);
  }
  copies.erase(std::remove_if(copies.begin(), copies.end(), waited_for), copies.end());
}

// --- barriers
// ------------------------------------------------------------------------------------------------------------

inline void block_sync() {
  emulator::Machine& m = emulator::machine();
  emulator::Block& b = emulator::block();
  if (!m.forgotten("block_sync")) m.meet(b.meeting, m.grid().threads, "block_sync", [&] { ++b.meetings; });
}

namespace emulator {
inline void meet_by_name(int id, int threads, const char* primitive, bool wait) {
  Machine& m = machine();
  if (m.forgotten(primitive)) return;
  if (id < 1 || id > 15 || threads % 32) m.fail("%s: barrier %d for %d threads", primitive, id, threads);
  m.maybe_pause();
  m.meet(block().named[id], threads, primitive, [] {}, wait);
}
}  // namespace emulator

inline void named_sync(int id, int threads) { emulator::meet_by_name(id, threads, "named_sync", true); }
inline void named_arrive(int id, int threads) { emulator::meet_by_name(id, threads, "named_arrive", false); }

inline void cluster_sync() {
  emulator::Machine& m = emulator::machine();
  const int threads = m.grid().threads * m.grid().cluster_size;
  if (!m.forgotten("cluster_sync")) m.meet(emulator::block().cluster->meeting, threads, "cluster_sync", [] {});
}

// --- messages
// ------------------------------------------------------------------------------------------------------------

namespace emulator {
constexpr int kRankShift = 24;  // a peer address is a rank and, below, an offset
constexpr uint32_t kOffset = (1u << kRankShift) - 1;
}  // namespace emulator

inline PeerAddress peer_address(SharedAddress at, int rank) {
  emulator::Machine& m = emulator::machine();
  if (rank < 0 || rank >= cluster_size()) m.fail("peer_address: block %d of a cluster of %d", rank, cluster_size());
  return {static_cast<uint32_t>(rank) << emulator::kRankShift | at};
}

inline void mbarrier_init(SharedAddress at, int count) {
  emulator::Machine& m = emulator::machine();
  emulator::Block& b = emulator::block();
  m.shared(b, at, 8, true, "mbarrier_init");
  std::fill_n(b.state.begin() + at, 8, emulator::Byte::kMbarrier);
  emulator::Mbarrier barrier;
  barrier.count = barrier.pending = count;
  b.mbarriers[at] = barrier;
}
inline void mbarrier_init_fence() {}

inline void mbarrier_expect(SharedAddress at, uint32_t bytes) {
  emulator::Machine& m = emulator::machine();
  if (m.forgotten("mbarrier_expect")) return;
  m.maybe_pause();
  emulator::Mbarrier& barrier = m.mbarrier(emulator::block(), at, "mbarrier_expect");
  barrier.bytes += bytes, --barrier.pending;
  m.update(barrier);
}

// As on hardware only the parity counts: a wait that comes two phases late blocks.
inline void mbarrier_wait(SharedAddress at, uint32_t parity) {
  emulator::Machine& m = emulator::machine();
  if (m.forgotten("mbarrier_wait")) return;
  m.maybe_pause();
  emulator::Mbarrier& barrier = m.mbarrier(emulator::block(), at, "mbarrier_wait");
  while ((barrier.phase & 1) == parity) m.wait_in(barrier.waiting, "mbarrier_wait");
}

inline void push(PeerAddress to, const Words4& words, PeerAddress mbarrier) {
  emulator::Machine& m = emulator::machine();
  m.maybe_pause();
  const uint32_t rank = to.value >> emulator::kRankShift;
  const uint32_t at = (to.value & emulator::kOffset) + m.options().faults.push_shift;
  if (rank >= static_cast<uint32_t>(cluster_size())) m.fail("push: block %u of a cluster of %d", rank, cluster_size());
  if (mbarrier.value >> emulator::kRankShift != rank)
    m.fail("push: to block %u with an mbarrier of block %u", rank, mbarrier.value >> emulator::kRankShift);
  const uint32_t end = m.grid().shared_bytes;
  if (at % 16 || at > end || end - at < 16) m.fail("push: to byte %u of %u of shared memory", at, end);
  ++emulator::g_trace.pushes;
  emulator::Message message{};
  message.block = emulator::block().cluster->blocks[rank];
  message.at = at, message.mbarrier = mbarrier.value & emulator::kOffset;
  std::memcpy(message.bytes, &words, 16);
  m.send(message);
}

// --- global memory between blocks
// ----------------------------------------------------------------------------------------

template <class V>
void exchange_store(void* to, const V& v) {
  emulator::Machine& m = emulator::machine();
  m.maybe_pause();
  auto* at = static_cast<unsigned char*>(to) + m.options().faults.exchange_shift;
  if (reinterpret_cast<uintptr_t>(at) % sizeof(V)) m.fail("exchange_store: not aligned to %zu bytes", sizeof(V));
  emulator::ExchangeStore store{at, {}, sizeof(V), m.now()};
  std::memcpy(store.bytes, &v, sizeof(V));
  m.send(store);
}
inline Words4 exchange_load(const void* from) {
  emulator::Machine& m = emulator::machine();
  m.maybe_pause();
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Words4)) m.fail("exchange_load: not aligned to 16 bytes");
  Words4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

inline void flag_release(uint32_t* flag, uint32_t value) {
  emulator::Machine& m = emulator::machine();
  if (m.forgotten("flag_release")) return;
  emulator::Message message{};
  message.block = &emulator::block(), message.flag = flag, message.value = value, message.moment = m.now();
  m.maybe_pause();
  m.send(message);
}
inline void flag_wait(const uint32_t* flag, uint32_t value) {
  emulator::Machine& m = emulator::machine();
  if (m.forgotten("flag_wait")) return;
  m.maybe_pause();
  while (*flag < value) m.wait_in(m.flag_waiters(flag), "flag_wait");
}

// --- numbers
// -------------------------------------------------------------------------------------------------------------

// To nearest, ties away from zero: cvt.rna.
inline float round_to_tf32(float x) {
  if (!std::isfinite(x)) return x;
  return float_of((bits_of(x) + 0x1000) & 0xffffe000);
}

inline float quick_exp2(float x) { return std::exp2(x); }
inline float quick_reciprocal(float x) { return 1 / x; }

template <class T>
uint32_t pack(float low, float high) {
  T a, b;
  narrowed(low, a), narrowed(high, b);
  return a.bits | uint32_t{b.bits} << 16;
}

// --- warp
// ----------------------------------------------------------------------------------------------------------------

namespace emulator {

template <class T>
T read(const unsigned char* p) {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}

// Every lane leaves an In; the last to come computes every lane's Out.
template <class Out, class In, class Compute>
Out collective(const char* name, const In& in, Compute compute) {
  static_assert(sizeof(In) <= sizeof(Warp::in[0]) && sizeof(Out) <= sizeof(Warp::out[0]));
  Warp& w = warp();
  const int lane = g_self->lane;
  if (w.arrived == 0) w.operation = name;
  if (std::strcmp(w.operation, name)) machine().fail("the warp has diverged: %s meets %s", name, w.operation);
  std::memcpy(w.in[lane], &in, sizeof(In));
  machine().meet(w, 32, name, [&] { compute(w); });
  return read<Out>(w.out[lane]);
}

struct Matrices {
  uint32_t r[4];
};

inline void load_matrices(uint32_t (&r)[4], SharedAddress at, bool transposed, const char* name) {
  machine().shared(block(), at, 16, false, name);
  const Matrices out = collective<Matrices>(name, at, [&](Warp& w) {
    for (int i = 0; i < 4; ++i) {
      uint16_t x[8][8];
      for (int row = 0; row < 8; ++row)
        std::memcpy(x[row], block().shared.data() + read<SharedAddress>(w.in[8 * i + row]), sizeof(x[row]));
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, q = lane % 4;
        const uint16_t low = transposed ? x[2 * q][g] : x[g][2 * q],
                       high = transposed ? x[2 * q + 1][g] : x[g][2 * q + 1];
        const uint32_t pair = low | uint32_t{high} << 16;
        std::memcpy(w.out[lane] + 4 * i, &pair, 4);
      }
    }
  });
  std::memcpy(r, out.r, sizeof(out));
}

template <class T>
float element(uint32_t word, int i) {
  if constexpr (sizeof(T) == 2)
    return widened(T{static_cast<uint16_t>(word >> (16 * i))});
  else
    return float_of(word & 0xffffe000);  // TF32: the lower bits are not looked at
}

}  // namespace emulator

inline void warp_sync() {
  if (!emulator::machine().forgotten("warp_sync")) emulator::collective<int>("warp_sync", 0, [](emulator::Warp&) {});
}
inline uint32_t warp_shuffle(uint32_t v, int lane) {
  struct In {
    uint32_t v;
    int lane;
  };
  return emulator::collective<uint32_t>("warp_shuffle", In{v, lane}, [](emulator::Warp& w) {
    for (int l = 0; l < 32; ++l) std::memcpy(w.out[l], w.in[emulator::read<In>(w.in[l]).lane & 31], 4);
  });
}

inline void load_matrices(uint32_t (&r)[4], SharedAddress at) {
  emulator::load_matrices(r, at, false, "load_matrices");
}
inline void load_matrices_transposed(uint32_t (&r)[4], SharedAddress at) {
  emulator::load_matrices(r, at, true, "load_matrices_transposed");
}

template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  constexpr int kPer = Operand<T>::kPerWord, K = Operand<T>::kDepth;
  struct In {
    float d[4];
    uint32_t a[4], b[2];
  };
  struct Out {
    float d[4];
  };
  const In in{{d[0], d[1], d[2], d[3]}, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  const Out out = emulator::collective<Out>("mma", in, [](emulator::Warp& w) {
    float left[16][K], right[K][8], sum[16][8];
    for (int lane = 0; lane < 32; ++lane) {
      const In x = emulator::read<In>(w.in[lane]);
      const int g = lane / 4, q = lane % 4;
      for (int r = 0; r < 4; ++r) sum[g + 8 * (r / 2)][2 * q + r % 2] = x.d[r];
      for (int i = 0; i < kPer; ++i) {
        const int column = kPer * q + i;
        for (int r = 0; r < 4; ++r) left[g + 8 * (r % 2)][column + K / 2 * (r / 2)] = emulator::element<T>(x.a[r], i);
        for (int r = 0; r < 2; ++r) right[column + K / 2 * r][g] = emulator::element<T>(x.b[r], i);
      }
    }
    for (int i = 0; i < 16; ++i)
      for (int k = 0; k < K; ++k)
        for (int j = 0; j < 8; ++j) sum[i][j] += left[i][k] * right[k][j];
    for (int lane = 0; lane < 32; ++lane) {
      Out y;
      for (int r = 0; r < 4; ++r) y.d[r] = sum[lane / 4 + 8 * (r / 2)][lane % 4 * 2 + r % 2];
      std::memcpy(w.out[lane], &y, sizeof(y));
    }
    ++emulator::g_trace.products;
  });
  std::memcpy(d, out.d, sizeof(out));
}

// --- launch
// --------------------------------------------------------------------------------------------------------------

// A broken rule throws; a refusal, as by a device without room, is planted by the fault "launch".
template <class Arguments>
const char* launch(const Launch& l, void (*kernel)(Arguments), const Arguments& arguments) {
  if (emulator::g_options.faults.forgotten.count("launch")) return "no room, by order of the test";
  constexpr int kMostThreads = 1024, kMostShared = 227 * 1024, kMostBlocks = 16;
  if (l.threads < 32 || l.threads % 32 || l.threads > kMostThreads) throw emulator::Error("launch: bad thread count");
  if (l.shared_bytes < 0 || l.shared_bytes > kMostShared) throw emulator::Error("launch: too much shared memory");
  if (l.cluster_size < 1 || l.cluster_size > kMostBlocks) throw emulator::Error("launch: bad cluster size");
  if (l.clusters < 1) throw emulator::Error("launch: no clusters");
  const emulator::Grid grid{l.clusters, l.cluster_size, l.threads, static_cast<uint32_t>(l.shared_bytes),
                            l.cooperative && !emulator::g_options.faults.forgotten.count("cooperative")};
  emulator::Machine(grid, [&] { kernel(arguments); }).run();
  return nullptr;
}

}  // namespace fused_lstm::cuda
