#pragma once
// Runs a grid of CUDA threads on one CPU thread: every thread is a fiber, all resident blocks take turns in an order
// drawn from a seed. Knows threads, warps, blocks, clusters, shared memory, mbarriers and messages between blocks; what
// the kernels call stands in primitives_emulated.h.
//
// A broken rule ends the launch with an Error that names block and thread. Detected: reads of shared memory that nobody
// wrote, addresses out of range, diverged warps, barriers that disagree or never complete (deadlock), wrong byte counts
// of mbarriers, messages to blocks that have exited, blocks that wait for blocks which need not be resident, reads of
// what is still being copied. Memory order is modelled where blocks meet in global memory: what a block stores there
// for others stays under way until one of its flags arrives that was released by the same thread later, or by another
// after a meeting of the block in between (named barriers and warps do not count). Not modelled: other weak memory
// order (fences, proxies, scopes), races of plain loads and stores except through the order that a seed happens to
// draw, registers, time.

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/emulator_state.h"

namespace fused_lstm::cuda::emulator {

class Machine;
inline Machine* g_machine = nullptr;
inline Fiber* g_self = nullptr;

class Machine {
 public:
  Machine(const Grid& grid, std::function<void()> kernel);
  void run();

  const Grid& grid() const { return grid_; }
  const Options& options() const { return options_; }

  // --- called on a fiber
  // ----------------------------------------------------------------------------------------------- Ends the launch;
  // what() says who and where.
  [[noreturn, gnu::format(printf, 2, 3)]] void fail(const char* format, ...);
  bool forgotten(const char* primitive) const { return options_.faults.forgotten.count(primitive) > 0; }
  void maybe_pause() {
    if (chance_.one_in(4)) ready(g_self), leave("running");
  }
  void wait_in(Waiting& list, const char* at) { list.push_back(g_self), leave(at); }
  void wake(Waiting& list) {
    for (Fiber* f : list) ready(f);
    list.clear();
  }
  // Returns when `expected` threads have come; the last runs `last` first.
  template <class Last>
  void meet(Meeting& m, int expected, const char* at, Last last, bool wait = true);
  void send(const Message& message) {
    if (schedule_.delivery == Delivery::kEager)
      deliver(message);
    else
      in_flight_.push_back(message);
  }
  Moment now() { return {g_self->id, serial_++, g_self->block->meetings}; }
  void send(const ExchangeStore& store) {
    if (schedule_.delivery == Delivery::kEager)
      deliver(store);
    else
      g_self->block->stores.push_back(store), ++stores_;
  }
  bool arrives_at_once() {
    return schedule_.delivery == Delivery::kEager || (schedule_.delivery == Delivery::kRandom && chance_.one_in(2));
  }
  Mbarrier& mbarrier(Block& block, uint32_t at, const char* primitive);
  void update(Mbarrier& m);
  // Checks a range of the block's shared memory and, for reads, that every byte was written.
  unsigned char* shared(Block& block, uint32_t at, uint32_t bytes, bool write, const char* primitive);
  Waiting& flag_waiters(const uint32_t* flag) { return flags_[flag]; }

 private:
  Grid grid_;
  std::function<void()> kernel_;
  Options options_ = g_options;
  Schedule schedule_ = Schedule::drawn_from(g_options.seed);
  Chance chance_;
  std::vector<std::unique_ptr<Cluster>> clusters_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::vector<Fiber> fibers_;
  std::vector<Message> in_flight_;
  std::map<const uint32_t*, Waiting> flags_;
  uint64_t serial_ = 0;
  size_t stores_ = 0;  // of all blocks, on their way
  std::vector<std::vector<Fiber*>> ready_;  // per warp of the grid
  std::vector<uint64_t> priority_;
  int ready_count_ = 0, started_ = 0, resident_ = 0, running_clusters_ = 0;
  Context main_;
  std::string error_;

  static Stacks& stacks() {
    static Stacks all;
    return all;
  }
  static void enter();
  void start_clusters();
  void leave(const char* at) {
    g_self->at = at;
    switch_context(g_self->context, main_);
  }
  void ready(Fiber* f) { ready_[f->grid_warp].push_back(f), ++ready_count_; }
  Fiber* next();
  void deliver(const Message& m);
  void deliver(const ExchangeStore& store) { std::memcpy(store.to, store.bytes, store.size); }
  template <class Which>
  void deliver_stores(Block& from, Which which);
  bool deliver_one();
  void deliver_one_store();
  void step(Fiber* f);
  void check_end();
  std::string stuck() const;
};

inline Machine& machine() { return *g_machine; }
inline Block& block() { return *g_self->block; }
inline Warp& warp() { return block().warps[g_self->warp]; }

inline Machine::Machine(const Grid& grid, std::function<void()> kernel)
    : grid_(grid), kernel_(std::move(kernel)), chance_(g_options.seed) {
  const int warps = grid.threads / 32, block_count = grid.clusters * grid.cluster_size;
  fibers_.resize(size_t(block_count) * grid.threads);
  ready_.resize(size_t(block_count) * warps);
  for (int k = 0; k < grid.clusters; ++k) {
    clusters_.push_back(std::make_unique<Cluster>());
    clusters_[k]->index = k, clusters_[k]->running = grid.cluster_size;
  }
  for (int i = 0; i < block_count; ++i) {
    auto b = std::make_unique<Block>();
    b->index = i, b->rank = i % grid.cluster_size, b->running = grid.threads;
    b->cluster = clusters_[i / grid.cluster_size].get();
    b->shared.assign(grid.shared_bytes, 0xff);  // NaN in every type
    b->state.assign(grid.shared_bytes, Byte::kUnwritten);
    b->warps.resize(warps);
    b->cluster->blocks.push_back(b.get());
    const uint64_t ahead = chance_.one_in(2) ? chance_.next() / 2 : 0;  // a whole block may run ahead
    for (int w = 0; w < warps; ++w) priority_.push_back(ahead + chance_.next() / 2);
    blocks_.push_back(std::move(b));
  }
  resident_ = grid.cooperative ? grid.clusters : 1 + static_cast<int>(chance_.below(grid.clusters));
}

inline void Machine::start_clusters() {
  for (; started_ < grid_.clusters && running_clusters_ < resident_; ++started_, ++running_clusters_)
    for (Block* b : clusters_[started_]->blocks)
      for (int t = 0; t < grid_.threads; ++t) {
        const size_t id = size_t(b->index) * grid_.threads + t;
        Fiber& f = fibers_[id];
        f.block = b, f.id = static_cast<int>(id), f.thread = t, f.lane = t % 32, f.warp = t / 32;
        f.grid_warp = b->index * (grid_.threads / 32) + f.warp;
        start_context(f.context, stacks().get(id, fibers_.size()), Stacks::kBytes, enter);
        ready(&f);
      }
}

inline void Machine::enter() {
  g_machine->kernel_();
  g_self->done = true;
  g_machine->leave("end");
}

inline void Machine::fail(const char* format, ...) {
  char what[256], who[96];
  va_list rest;
  va_start(rest, format);
  std::vsnprintf(what, sizeof(what), format, rest);
  va_end(rest);
  who[0] = 0;
  if (g_self) {
    std::snprintf(who, sizeof(who), " (cluster %d, block %d of it, thread %d)", block().cluster->index, block().rank,
                  g_self->thread);
  }
  error_.assign(what).append(who);
  if (g_self) leave("failed");  // never comes back
  throw Error(error_);
}

template <class Last>
void Machine::meet(Meeting& m, int expected, const char* at, Last last, bool wait) {
  if (m.arrived == 0) m.expected = expected;
  if (m.expected != expected) fail("%s: some expect %d threads, others %d", at, m.expected, expected);
  if (++m.arrived == expected) {
    m.arrived = 0;
    last();
    wake(m.waiting);
  } else if (wait) {
    wait_in(m.waiting, at);
  }
}

inline Fiber* Machine::next() {
  if (ready_count_ == 0) return nullptr;
  std::vector<Fiber*>* from = nullptr;
  if (schedule_.order == Order::kPriority) {
    if (chance_.one_in(2000)) priority_[chance_.below(priority_.size())] = chance_.next();
    uint64_t best = 0;
    for (size_t w = 0; w < ready_.size(); ++w)
      if (!ready_[w].empty() && (!from || priority_[w] > best)) from = &ready_[w], best = priority_[w];
  } else {
    size_t w = chance_.below(ready_.size());
    while (ready_[w].empty()) w = (w + 1) % ready_.size();
    from = &ready_[w];
  }
  std::swap((*from)[chance_.below(from->size())], from->back());
  Fiber* f = from->back();
  from->pop_back(), --ready_count_;
  return f;
}

inline Mbarrier& Machine::mbarrier(Block& b, uint32_t at, const char* primitive) {
  auto found = b.mbarriers.find(at);
  if (found == b.mbarriers.end()) fail("%s: no mbarrier was initialised at byte %u of block %d", primitive, at, b.rank);
  return found->second;
}

inline void Machine::update(Mbarrier& m) {
  constexpr int64_t kMost = (1 << 20) - 1;
  if (m.pending < 0) fail("mbarrier: more arrivals than its count of %d", m.count);
  if (m.bytes < -kMost || m.bytes > kMost) fail("mbarrier: byte count %ld out of range", static_cast<long>(m.bytes));
  if (m.pending == 0 && m.bytes < 0)
    fail("mbarrier: %ld bytes more arrived than announced", -static_cast<long>(m.bytes));
  if (m.pending > 0 || m.bytes > 0) return;
  ++m.phase, m.pending = m.count;
  wake(m.waiting);
}

inline unsigned char* Machine::shared(Block& b, uint32_t at, uint32_t bytes, bool write, const char* primitive) {
  if (at % bytes) fail("%s: byte %u of shared memory is not aligned to %u", primitive, at, bytes);
  if (at > grid_.shared_bytes || bytes > grid_.shared_bytes - at)
    fail("%s: bytes %u to %u lie outside the %u bytes of shared memory", primitive, at, at + bytes, grid_.shared_bytes);
  for (uint32_t i = at; i < at + bytes; ++i) {
    if (b.state[i] == Byte::kMbarrier) fail("%s: byte %u of shared memory belongs to an mbarrier", primitive, i);
    if (b.state[i] == Byte::kCopying)
      fail("%s: byte %u of shared memory is still being copied (no copy_wait)", primitive, i);
    if (write)
      b.state[i] = Byte::kWritten;
    else if (b.state[i] == Byte::kUnwritten)
      fail("%s: byte %u of shared memory was never written", primitive, i);
  }
  return b.shared.data() + at;
}

inline void Machine::deliver(const Message& m) {
  if (m.flag) {
    deliver_stores(*m.block, [&](const ExchangeStore& s) {
      return s.moment.meetings < m.moment.meetings ||
             (s.moment.fiber == m.moment.fiber && s.moment.serial < m.moment.serial);
    });
    *m.flag = m.value;
    wake(flags_[m.flag]);
    return;
  }
  if (m.block->running == 0) fail("push: block %d has already exited", m.block->rank);
  std::memcpy(shared(*m.block, m.at, sizeof(m.bytes), true, "push"), m.bytes, sizeof(m.bytes));
  Mbarrier& barrier = mbarrier(*m.block, m.mbarrier, "push");
  barrier.bytes -= sizeof(m.bytes);
  update(barrier);
}

template <class Which>
void Machine::deliver_stores(Block& from, Which which) {
  std::vector<ExchangeStore> rest;
  for (const ExchangeStore& store : from.stores)
    if (which(store))
      deliver(store), --stores_;
    else
      rest.push_back(store);
  from.stores.swap(rest);
}

// Any that is under way, but of those to one place the first.
inline void Machine::deliver_one_store() {
  size_t k = chance_.below(stores_);
  for (const auto& b : blocks_) {
    if (k >= b->stores.size()) {
      k -= b->stores.size();
      continue;
    }
    for (size_t i = 0; i < k; ++i)
      if (b->stores[i].to == b->stores[k].to) k = i;
    deliver(b->stores[k]), --stores_;
    b->stores.erase(b->stores.begin() + static_cast<std::ptrdiff_t>(k));
    return;
  }
}

// Pushes overtake each other freely; values of one flag do not.
inline bool Machine::deliver_one() {
  if (in_flight_.empty()) return false;
  size_t i = chance_.below(in_flight_.size());
  for (size_t k = 0; in_flight_[i].flag && k < i; ++k)
    if (in_flight_[k].flag == in_flight_[i].flag) i = k;
  const Message m = in_flight_[i];
  in_flight_.erase(in_flight_.begin() + i);
  deliver(m);
  return true;
}

inline void Machine::step(Fiber* f) {
  ++g_trace.switches;
  g_trace.order = (g_trace.order ^ f->id) * 0x100000001B3;
  g_self = f;
  switch_context(main_, f->context);
  g_self = nullptr;
  if (!error_.empty()) throw Error(error_);
  if (!f->done || --f->block->running > 0 || --f->block->cluster->running > 0) return;
  --running_clusters_;
  start_clusters();
}

inline std::string Machine::stuck() const {
  std::map<std::pair<int, std::string>, int> places;
  for (const Fiber& f : fibers_)
    if (f.block && !f.done) ++places[{f.block->index, f.at}];
  std::string all = "deadlock:";
  char text[160];
  for (const auto& [place, count] : places) {
    std::snprintf(text, sizeof(text), " %d threads of block %d at %.60s;", count, place.first, place.second.c_str());
    all.append(text);
  }
  if (started_ < grid_.clusters) {
    std::snprintf(text, sizeof(text), " %d clusters not resident (the launch is not cooperative);",
                  grid_.clusters - started_);
    all.append(text);
  }
  all.pop_back();
  return all;
}

inline void Machine::check_end() {
  for (const auto& b : blocks_)
    for (const auto& [at, m] : b->mbarriers)
      if (m.bytes != 0)
        fail("mbarrier at byte %u of block %d: the kernel ended with %ld bytes announced and not arrived", at, b->index,
             static_cast<long>(m.bytes));
  for (size_t i = 0; i < fibers_.size(); ++i)
    if (!stacks().intact(i)) fail("emulator: the stack of a fiber was too small");
}

inline void Machine::run() {
  struct Current {
    explicit Current(Machine* m) { g_machine = m, g_self = nullptr, g_trace = {}; }
    ~Current() { g_machine = nullptr, g_self = nullptr; }
  } current(this);
  ++g_launches;
  start_clusters();
  while (running_clusters_ > 0) {
    if (schedule_.delivery == Delivery::kRandom && chance_.one_in(8)) deliver_one();
    if (stores_ > 0 && schedule_.delivery == Delivery::kRandom && chance_.one_in(8)) deliver_one_store();
    if (Fiber* f = next())
      step(f);
    else if (!deliver_one())
      throw Error(stuck());
  }
  while (deliver_one()) {
  }
  for (const auto& b : blocks_) deliver_stores(*b, [](const ExchangeStore&) { return true; });
  check_end();
}

}  // namespace fused_lstm::cuda::emulator
