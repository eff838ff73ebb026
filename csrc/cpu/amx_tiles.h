#pragma once
// The tile registers of AMX: eight of 16 rows of 64 bytes, and the product of two tiles of bfloat16 that adds to one of
// float32. In assembly of our own: gcc 12 may move a store behind its tile load that should read what was stored.

#ifdef FUSED_LSTM_EMULATE_AMX
#include "cpu/amx_tiles_emulated.h"
#else
#include <cstdint>

namespace fused_lstm::cpu {

struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);
static constexpr TileShapes kTileShapes{};  // not inline: files of an instruction set share no symbols

// Registers belong to the calling thread from the constructor to the destructor.
class Tiles {
 public:
  Tiles() { asm volatile("ldtilecfg %0" ::"m"(kTileShapes)); }
  ~Tiles() { asm volatile("tilerelease" ::: "memory"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int N>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(N));
  }
  // stride: bytes from row to row
  template <int N>
  void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(N) : "memory");
  }
  template <int N>
  void store(void* to, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(N) : "memory");
  }
  // C [16][16] float += A [16][16 pairs] * B [16 pairs][16][2]
  template <int C, int A, int B>
  void multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
};

}  // namespace fused_lstm::cpu
#endif
