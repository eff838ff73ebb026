#pragma once
// What the emulator's machine consists of: threads, warps, blocks, clusters, what is under way between them, and how a
// run is drawn from a seed. See emulator.h.

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/fiber.h"

namespace fused_lstm::cuda::emulator {

struct Error : std::runtime_error {
  using runtime_error::runtime_error;
};

// Who goes next, and when a message arrives. A fixed or uniformly random order misses most faults: blocks stay abreast.
// Random priorities of warps let one block run as far ahead as the barriers allow.
enum class Order { kRandom, kPriority };
enum class Delivery { kEager, kRandom, kLate };

struct Schedule {
  Order order;
  Delivery delivery;
  uint64_t seed;

  static Schedule drawn_from(uint64_t seed) {
    constexpr std::pair<Order, Delivery> kKinds[] = {
        {Order::kPriority, Delivery::kEager}, {Order::kPriority, Delivery::kLate}, {Order::kRandom, Delivery::kRandom}};
    return {kKinds[seed % 3].first, kKinds[seed % 3].second, seed};
  }
};

// Mistakes planted for the tests of the tests, as if the author of a kernel had made them.
struct Faults {
  std::set<std::string> forgotten;  // primitives that do nothing
  int push_shift = 0;  // bytes that every push misses its place by
  int exchange_shift = 0;  // likewise every store to global memory for other blocks
};

struct Options {
  uint64_t seed = 0;
  Faults faults;
};

// What a launch did; equal for equal seeds.
struct Trace {
  uint64_t switches = 0, pushes = 0, products = 0;
  uint64_t order = 0;  // a hash of who ran when
};

inline Options g_options;
inline Trace g_trace;
inline uint64_t g_launches = 0;  // since the beginning

class Chance {
 public:
  explicit Chance(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15 + 0x1234567) {
    for (int i = 0; i < 8; ++i) next();
  }
  uint64_t next() {  // xorshift64*
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1D >> 8;
  }
  uint64_t below(uint64_t n) { return next() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

struct Block;

// 16 bytes on their way from global to shared memory; they are read when they arrive.
struct Copy {
  uint32_t to;
  const void* from;
  int group;
  bool arrived;
};

struct Fiber {
  Context context;
  Block* block = nullptr;
  int id = 0, thread = 0, lane = 0, warp = 0, grid_warp = 0;
  bool done = false;
  const char* at = "start";
  std::vector<Copy> copies;
  int copy_groups = 0;
};
using Waiting = std::vector<Fiber*>;

// Where a number of threads meet.
struct Meeting {
  int arrived = 0, expected = 0;
  Waiting waiting;
};

struct Warp : Meeting {
  const char* operation = nullptr;
  alignas(16) unsigned char in[32][64];
  alignas(16) unsigned char out[32][32];
};

struct Mbarrier {
  int count = 0, pending = 0;
  int64_t bytes = 0;  // announced minus arrived; messages may overtake their announcement
  uint64_t phase = 0;
  Waiting waiting;
};

struct Cluster {
  int index = 0, running = 0;
  std::vector<Block*> blocks;
  Meeting meeting;
};

// When something was done: by which thread, as which of all, after how many meetings of the block.
struct Moment {
  int fiber;
  uint64_t serial, meetings;
};

// A store to global memory for other blocks. It arrives some time, at the latest with a flag that is released after it.
struct ExchangeStore {
  unsigned char* to;
  unsigned char bytes[16];
  uint32_t size;
  Moment moment;
};

enum class Byte : unsigned char { kUnwritten, kWritten, kMbarrier, kCopying };

struct Block {
  int index = 0, rank = 0, running = 0;
  Cluster* cluster = nullptr;
  std::vector<unsigned char> shared;
  std::vector<Byte> state;  // of every byte of it
  std::vector<Warp> warps;
  Meeting meeting;
  std::map<int, Meeting> named;
  std::map<uint32_t, Mbarrier> mbarriers;
  uint64_t meetings = 0;  // of the whole block
  std::vector<ExchangeStore> stores;  // on their way, in the order of the program
};

// On its way: bytes to a block's shared memory, or (flag is set) a flag in global memory, from a block.
struct Message {
  Block* block;
  uint32_t at, mbarrier;
  unsigned char bytes[16];
  uint32_t* flag;
  uint32_t value;
  Moment moment;
};

struct Grid {
  int clusters, cluster_size, threads;
  uint32_t shared_bytes;
  bool cooperative;  // all blocks are resident at once
};

}  // namespace fused_lstm::cuda::emulator
