#include "cpu/memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

namespace fused_lstm::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHeader = 64;  // keeps blocks aligned to a cache line, and holds the block's size
constexpr size_t kIdleCap = size_t{1} << 30;

struct Pool {
  std::mutex mutex;
  std::multimap<size_t, void*> idle;
  size_t idle_bytes = 0;
  std::atomic<bool> poison{false};

  Pool() {
    // a child forked while another thread holds the mutex must not inherit it locked
    pthread_atfork([] { instance().mutex.lock(); }, [] { instance().mutex.unlock(); },
                   [] { instance().mutex.unlock(); });
  }
  // Never destroyed: tensors may come back after static destructors ran.
  static Pool& instance() {
    static Pool* pool = new Pool;
    return *pool;
  }
};

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace

void* acquire(size_t bytes) {
  Pool& pool = Pool::instance();
  const size_t wanted = bytes + kHeader;
  const size_t size = wanted >= kHugePage ? round_up(wanted, kHugePage) : round_up(wanted, 4096);
  void* base = nullptr;
  {
    std::lock_guard<std::mutex> lock(pool.mutex);
    const auto found = pool.idle.lower_bound(size);
    if (found != pool.idle.end() && found->first <= size + size / 2) {
      base = found->second;
      pool.idle_bytes -= found->first;
      pool.idle.erase(found);
    }
  }
  if (!base) {
    if (posix_memalign(&base, size >= kHugePage ? kHugePage : 4096, size) != 0) throw std::bad_alloc();
    if (size >= kHugePage) madvise(base, size, MADV_HUGEPAGE);
    std::memcpy(base, &size, sizeof size);
  }
  char* block = static_cast<char*>(base) + kHeader;
  if (pool.poison.load(std::memory_order_relaxed)) std::memset(block, 0xff, bytes);
  return block;
}

void release(void* block) noexcept {
  if (!block) return;
  void* base = static_cast<char*>(block) - kHeader;
  size_t size;
  std::memcpy(&size, base, sizeof size);
  Pool& pool = Pool::instance();
  {
    std::lock_guard<std::mutex> lock(pool.mutex);
    if (pool.idle_bytes + size <= kIdleCap) {
      pool.idle.emplace(size, base);
      pool.idle_bytes += size;
      return;
    }
  }
  std::free(base);
}

size_t trim_pool() {
  Pool& pool = Pool::instance();
  std::lock_guard<std::mutex> lock(pool.mutex);
  for (const auto& entry : pool.idle) std::free(entry.second);
  pool.idle.clear();
  return std::exchange(pool.idle_bytes, 0);
}

void poison_pool(bool on) { Pool::instance().poison.store(on); }

}  // namespace fused_lstm::cpu
