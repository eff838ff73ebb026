#pragma once
// Weights in bfloat16 as bf16_kernels.h wants them, and products with them; what panels.h is for float.

#include "cpu/bf16_kernels.h"
#include "cpu/panels.h"

namespace fused_lstm::cpu {

class Bf16Panels {
 public:
  Bf16Panels() = default;
  Bf16Panels(int64_t k, int64_t columns)
      : k_(k), columns_(columns), data_(2 * padded_pairs(k) * round_up(columns, kBf16Lanes)) {}

  static constexpr int64_t kWidth = 4 * kBf16Lanes;

  int64_t k() const { return k_; }
  int64_t columns() const { return columns_; }
  int64_t count() const { return (columns_ + kWidth - 1) / kWidth; }
  int64_t begin(int64_t panel) const { return panel * kWidth; }
  int64_t valid(int64_t panel) const { return std::min(kWidth, columns_ - begin(panel)); }
  int64_t width(int64_t panel) const { return round_up(valid(panel), kBf16Lanes); }
  int vectors(int64_t panel) const { return static_cast<int>(width(panel) / kBf16Lanes); }
  // from k = `depth` on, a multiple of 32
  BFloat16* at(int64_t panel, int64_t depth = 0) const {
    return data_.get() + 2 * padded_pairs(k_) * begin(panel) + depth * width(panel);
  }

 private:
  int64_t k_ = 0, columns_ = 0;
  Buffer<BFloat16> data_;

  static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
};

// Each packs this member's part of the panels; sync the team before use.

// weight [4H, k] -> panel g holds the four gates of group g as columns
void pack_gates(const Bf16Kernels&, const GateLayout<BFloat16>&, const BFloat16* weight, const Bf16Panels& to,
                const Member&);
// rows[k] of `columns` -> panels
void pack_straight(const Bf16Kernels&, const BFloat16* const* rows, const Bf16Panels& to, const Member&);

// c[n rows] (=, +=) a[n rows] * panels [first, last); c has room for whole vectors
struct Bf16Product {
  const Bf16Kernels* kernels;
  const Bf16Panels* panels;
  Range range;
  const BFloat16* const* a;
  int64_t n = 0;
  const float* bias = nullptr;  // [columns padded] or null
  bool accumulate = false;
  float* const* c = nullptr;
  int64_t c_begin = 0;          // where column 0 is
};
void multiply(const Bf16Product&);

}  // namespace fused_lstm::cpu
