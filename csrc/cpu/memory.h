#pragma once
// Memory that stays warm between calls. A fresh page costs more to touch than the numbers in it cost to compute, so
// blocks go back to a pool: aligned, on huge pages from 2 MiB. Idle blocks are kept up to FUSED_LSTM_POOL_MIB (512 by
// default) MiB, the oldest go first.

#include <cstddef>
#include <cstdint>
#include <utility>

namespace fused_lstm::cpu {

// Where memory runs out, gives the pool back and tries again. Throws std::runtime_error, in words like torch's.
void* acquire(size_t bytes);
void release(void* block) noexcept;

// Gives every idle block back to the system; returns the bytes freed.
size_t trim_pool();

// For memory of others: asks for huge pages where they lie wholly inside.
void prefer_huge_pages(void* data, int64_t bytes);

// Fill what acquire() hands out with NaN: tests do, to find values that were never written.
void poison_pool(bool on);

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t count) : data_(count > 0 ? static_cast<T*>(acquire(count * sizeof(T))) : nullptr) {}
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() {
    if (data_) release(data_);
  }
  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

}  // namespace fused_lstm::cpu
