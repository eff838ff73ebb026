#pragma once
// Weight gradients: sums over rows of outer products, left[i]^T right[i].

#include "cpu/panels.h"

namespace fused_lstm::cpu {

template <class T>
struct OuterRight {
  const T* const* rows;  // n rows
  int64_t columns;
  T* const* c;           // m rows of `columns`, null for padding: overwritten with the sums
};

template <class T>
class OuterSum {
 public:
  // left: n rows of m columns, ld apart. Up to two right operands share the work on it.
  OuterSum(const Kernels<T>& kernels, const T* left, int64_t ld, int64_t n, int64_t m, int members)
      : kernels_(kernels), left_(left), ld_(ld), n_(n), m_(m), members_(members) {}

  void add(const OuterRight<T>& right) {
    if (right.columns > 0) rights_[count_++] = right;
  }
  // Before run, outside of the team.
  void allocate();
  // By every member of the team. The order of every sum depends on n alone, not on the number of threads.
  void run(const Member& member) const { run(member, n_, 0, false); }
  // The same for left's first n rows and the right operands' rows from `first` on, added to what is there if asked.
  void run(const Member& member, int64_t n, int64_t first, bool accumulate) const;

 private:
  // depth x columns of the right operand are packed once for all, depth x rows of the left by each member
  static constexpr int64_t kDepth = 2048 / sizeof(T), kRows = 144;

  const Kernels<T>& kernels_;
  const T* left_;
  int64_t ld_, n_, m_;
  int members_, count_ = 0;
  OuterRight<T> rights_[2];
  Buffer<T> packed_right_, packed_left_;

  int64_t width() const { return 4 * kernels_.lanes; }
  int64_t panels(int right) const { return (rights_[right].columns + width() - 1) / width(); }
  int64_t all_panels() const { return (count_ > 0 ? panels(0) : 0) + (count_ > 1 ? panels(1) : 0); }
  int vectors(int right, int64_t panel) const;
  void pack_block(int64_t row, int64_t depth, T* to, const Member& member) const;
  void multiply_block(int64_t begin, int64_t depth, const T* right, bool accumulate, Range mine, T* left) const;
  void clear(Range mine) const;
};

}  // namespace fused_lstm::cpu
