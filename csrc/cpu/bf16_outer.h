#pragma once
// Weight gradients from bfloat16 rows: sums over rows of outer products in float, rounded once at the end.

#include "cpu/bf16_panels.h"

namespace fused_lstm::cpu {

struct Bf16OuterRight {
  const BFloat16* const* rows;  // n rows
  int64_t columns;
  BFloat16* const* c;           // m rows of `columns`, null for padding: overwritten with the sums
};

class Bf16OuterSum {
 public:
  // left: n rows of m columns, ld apart. Up to two right operands share the work on it.
  Bf16OuterSum(const Bf16Kernels& kernels, const BFloat16* left, int64_t ld, int64_t n, int64_t m, int members)
      : kernels_(kernels), left_(left), ld_(ld), n_(n), m_(m), members_(members) {}

  void add(const Bf16OuterRight& right) {
    if (right.columns > 0) rights_[count_++] = right;
  }
  // Before run, outside of the team.
  void allocate();
  // By every member of the team. The order of every sum depends on n alone, not on the number of threads.
  void run(const Member& member) const;

 private:
  static constexpr int64_t kDepth = 1024, kRows = 144, kWidth = Bf16Panels::kWidth;

  // Columns of both right operands side by side, each padded to whole vectors.
  struct Panel {
    int right;
    int64_t column, valid, width, at;  // of its operand; `at` counts padded columns from the first operand on
  };

  const Bf16Kernels& kernels_;
  const BFloat16* left_;
  int64_t ld_, n_, m_;
  int members_, count_ = 0;
  Bf16OuterRight rights_[2];
  Buffer<BFloat16> packed_right_, packed_left_;
  Buffer<float> sums_;

  int64_t left_size() const { return kernels_.packed_columns_size(std::min(kDepth, n_), std::min(kRows, m_)); }
  int64_t panels(int right) const { return (rights_[right].columns + kWidth - 1) / kWidth; }
  int64_t all_panels() const { return (count_ > 0 ? panels(0) : 0) + (count_ > 1 ? panels(1) : 0); }
  Panel panel(int64_t p) const;
  int64_t padded_columns() const;
  void pack_block(int64_t row, int64_t depth, BFloat16* to, const Member& member) const;
  void multiply_block(int64_t begin, int64_t depth, const BFloat16* right, Range mine, BFloat16* left) const;
  void narrow(Range mine) const;
};

}  // namespace fused_lstm::cpu
