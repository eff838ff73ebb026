#pragma once
// amx_tiles.h on any machine, for tests: the same tiles in memory, by the rules of the instructions' documentation.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "cell/float16.h"

namespace fused_lstm::cpu {

class Tiles {
 public:
  // A thread has one set of tiles, and what is in it at first is nobody's business: NaN.
  Tiles() {
    if (taken()) std::abort();
    taken() = true;
    std::memset(tile_, 0xff, sizeof(tile_));
  }
  ~Tiles() { taken() = false; }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int N>
  void zero() {
    std::memset(tile_[N], 0, sizeof(tile_[N]));
  }
  template <int N>
  void load(const void* from, int64_t stride) {
    for (int row = 0; row < 16; ++row) std::memcpy(tile_[N][row], static_cast<const char*>(from) + row * stride, 64);
  }
  template <int N>
  void store(void* to, int64_t stride) const {
    for (int row = 0; row < 16; ++row) std::memcpy(static_cast<char*>(to) + row * stride, tile_[N][row], 64);
  }
  template <int C, int A, int B>
  void multiply_add() {
    static_assert(C != A && C != B && A != B, "an invalid instruction");
    const auto product = [this](int m, int n, int k, int of_pair) {
      return widened(at<BFloat16>(A, m, 2 * k + of_pair)) * widened(at<BFloat16>(B, k, 2 * n + of_pair));
    };
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 16; ++n) {
        float even = 0, odd = 0;
        for (int k = 0; k < 16; ++k) even += product(m, n, k, 0), odd += product(m, n, k, 1);
        at<float>(C, m, n) += even + odd;
      }
  }

 private:
  alignas(64) unsigned char tile_[8][16][64];

  static bool& taken() {
    thread_local bool is_taken = false;
    return is_taken;
  }
  template <class T>
  T& at(int tile, int row, int column) {
    return *reinterpret_cast<T*>(tile_[tile][row] + column * sizeof(T));
  }
};

}  // namespace fused_lstm::cpu
