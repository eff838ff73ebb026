#include "cpu/memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <stdexcept>
#include <string>

namespace fused_lstm::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kHeader = 64;  // keeps blocks aligned to a cache line, and holds the block's size

size_t idle_cap() {
  const char* text = std::getenv("FUSED_LSTM_POOL_MIB");
  char* end = nullptr;
  const long long mib = text ? std::strtoll(text, &end, 10) : 512;
  return static_cast<size_t>(text && (end == text || mib < 0) ? 512 : mib) << 20;
}

struct Idle {
  size_t size;
  void* base;
};

struct Pool {
  std::mutex mutex;
  std::list<Idle> idle;  // oldest first; a few dozen at most, as blocks below a page or so are rare
  size_t idle_bytes = 0;
  const size_t cap = idle_cap();
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

  // The smallest idle block that is not wastefully large, or null.
  void* take(size_t size) {
    std::lock_guard<std::mutex> lock(mutex);
    auto best = idle.end();
    for (auto it = idle.begin(); it != idle.end(); ++it)
      if (it->size >= size && it->size <= size + size / 2 && (best == idle.end() || it->size < best->size)) best = it;
    if (best == idle.end()) return nullptr;
    void* base = best->base;
    idle_bytes -= best->size;
    idle.erase(best);
    return base;
  }
};

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

void* fresh(size_t size) {
  void* base = nullptr;
  if (posix_memalign(&base, size >= kHugePage ? kHugePage : 4096, size) != 0) return nullptr;
  if (size >= kHugePage) madvise(base, size, MADV_HUGEPAGE);
  std::memcpy(base, &size, sizeof size);
  return base;
}

}  // namespace

void* acquire(size_t bytes) {
  Pool& pool = Pool::instance();
  const size_t wanted = bytes + kHeader;
  const size_t size = wanted >= kHugePage ? round_up(wanted, kHugePage) : round_up(wanted, 4096);
  void* base = size < bytes ? nullptr : pool.take(size);
  if (!base && size >= bytes) base = fresh(size);
  if (!base && size >= bytes && trim_pool() > 0) base = fresh(size);
  if (!base)
    throw std::runtime_error("fused_lstm: can't allocate memory: you tried to allocate " + std::to_string(bytes) +
                             " bytes; use fewer rows or shorter sequences");
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
  std::list<Idle> too_old;
  {
    std::lock_guard<std::mutex> lock(pool.mutex);
    pool.idle.push_back({size, base});
    pool.idle_bytes += size;
    while (pool.idle_bytes > pool.cap) {
      pool.idle_bytes -= pool.idle.front().size;
      too_old.splice(too_old.end(), pool.idle, pool.idle.begin());
    }
  }
  for (const Idle& idle : too_old) std::free(idle.base);
}

void prefer_huge_pages(void* data, int64_t bytes) {
  const uintptr_t begin = round_up(reinterpret_cast<uintptr_t>(data), kHugePage);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) / kHugePage * kHugePage;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

size_t trim_pool() {
  Pool& pool = Pool::instance();
  std::lock_guard<std::mutex> lock(pool.mutex);
  for (const Idle& idle : pool.idle) std::free(idle.base);
  pool.idle.clear();
  return std::exchange(pool.idle_bytes, 0);
}

void poison_pool(bool on) { Pool::instance().poison.store(on); }

}  // namespace fused_lstm::cpu
