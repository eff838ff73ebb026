#include "cpu/amx.h"

#include <cstring>
#include <vector>

#include "cpu/bf16_kernels.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fused_lstm::cpu {

extern const Bf16Kernels kAvx512Bf16, kAmxBf16;

namespace {

#if defined(FUSED_LSTM_EMULATE_AMX)
bool processor_has_tiles() { return true; }
bool system_lends_tiles() { return true; }
#elif defined(__x86_64__) && defined(__linux__)
bool processor_has_tiles() {
  constexpr unsigned kAmxBf16Bit = 1u << 22, kAmxTileBit = 1u << 24, kOsXsaveBit = 1u << 27;
  constexpr unsigned kTileState = 3u << 17;  // the system saves shapes and contents
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsXsaveBit)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kAmxBf16Bit) || !(d & kAmxTileBit)) return false;
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileState) == kTileState;
}
// Linux hands out the 8 KiB of state to processes that ask, once for all of their threads.
bool system_lends_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#else
bool processor_has_tiles() { return false; }
bool system_lends_tiles() { return false; }
#endif

// Multiples of 1/8 within one: their products and sums are exact, in whatever order.
std::vector<BFloat16> eighths(int64_t n, uint32_t seed) {
  std::vector<BFloat16> numbers(n);
  for (BFloat16& x : numbers) {
    seed = seed * 1664525u + 1013904223u;
    narrowed(static_cast<float>(static_cast<int>(seed >> 28) - 8) / 8, x);
  }
  return numbers;
}

constexpr int64_t kRows = 37, kDepth = 71, kColumns = 64;  // whole tiles and incomplete ones, in every direction

// One product by rows and one by packed columns.
std::vector<float> products(const Bf16Kernels& kernels, const std::vector<BFloat16>& left,
                            const std::vector<BFloat16>& right) {
  std::vector<float> sums(2 * kRows * kColumns);
  std::vector<BFloat16> panel(2 * padded_pairs(kDepth) * kColumns), packed(kernels.packed_columns_size(kDepth, kRows));
  const BFloat16 *left_rows[kRows], *right_rows[kDepth];
  float* c[kRows];
  for (int64_t i = 0; i < kRows; ++i) left_rows[i] = left.data() + i * kDepth, c[i] = sums.data() + i * kColumns;
  for (int64_t i = 0; i < kDepth; ++i) right_rows[i] = right.data() + i * kColumns;
  kernels.pack_row_pairs(right_rows, kDepth, 0, kColumns, kColumns, panel.data());
  Bf16GemmArgs by_rows{};
  by_rows.n = kRows, by_rows.k = kDepth, by_rows.a = left_rows, by_rows.panel = panel.data(), by_rows.vectors = 4;
  by_rows.c = c;
  kernels.gemm(by_rows);
  kernels.pack_columns(left.data(), kRows, kDepth, 0, kRows, packed.data());
  kernels.gemm_packed(
      {kRows, pairs_of(kDepth), packed.data(), panel.data(), 4, false, sums.data() + kRows * kColumns, kColumns});
  return sums;
}

bool products_are_right() {
  const std::vector<BFloat16> left = eighths(kRows * kDepth, 1), right = eighths(kDepth * kColumns, 2);
  return products(kAmxBf16, left, right) == products(kAvx512Bf16, left, right);
}

}  // namespace

bool amx_usable() { return processor_has_tiles() && system_lends_tiles() && products_are_right(); }

}  // namespace fused_lstm::cpu
