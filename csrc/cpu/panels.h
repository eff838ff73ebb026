#pragma once
// Weights as the micro-kernel wants them: panels of up to four vectors of columns, [k][vectors * L], k contiguous
// rows deep, columns beyond the matrix zero.

#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/memory.h"
#include "cpu/team.h"

namespace fused_lstm::cpu {

template <class T>
class Panels {
 public:
  Panels() = default;
  Panels(const Kernels<T>& kernels, int64_t k, int64_t columns)
      : k_(k), columns_(columns), width_(4 * kernels.lanes), lanes_(kernels.lanes), data_(k * padded_columns()) {}

  int64_t k() const { return k_; }
  int64_t columns() const { return columns_; }
  int64_t count() const { return (columns_ + width_ - 1) / width_; }
  int64_t begin(int64_t panel) const { return panel * width_; }
  int64_t valid(int64_t panel) const { return std::min(width_, columns_ - begin(panel)); }
  int vectors(int64_t panel) const { return static_cast<int>((valid(panel) + lanes_ - 1) / lanes_); }
  Range padded(int64_t panel) const { return {begin(panel), begin(panel) + vectors(panel) * lanes_}; }
  T* at(int64_t panel) const { return data_.get() + panel * k_ * width_; }
  // row i of a panel
  T* at(int64_t panel, int64_t i) const { return at(panel) + i * vectors(panel) * lanes_; }

 private:
  int64_t k_ = 0, columns_ = 0, width_ = 0, lanes_ = 1;
  Buffer<T> data_;

  int64_t padded_columns() const { return (columns_ + lanes_ - 1) / lanes_ * lanes_; }
};

// How gates lie in buffers: groups of L units, the four gates of a group side by side. What is left of the units is a
// group as wide as they are many, so that products over gates have 4H columns and none for padding.
template <class T>
struct GateLayout {
  int64_t hidden;
  int lanes;
  bool whole_groups = false;  // or the last group is padded like the others, as kernels of bfloat16 pairs want it

  int64_t groups() const { return (hidden + lanes - 1) / lanes; }
  int64_t columns() const { return whole_groups ? 4 * lanes * groups() : 4 * hidden; }
  int64_t valid(int64_t group) const { return std::min<int64_t>(lanes, hidden - group * lanes); }
  int64_t column(int gate, int64_t unit) const {
    const int64_t group = unit / lanes;
    return group * 4 * lanes + gate * width(group) + unit % lanes;
  }
  // The row of a [4H, ...] weight that a column stands for, or -1 for a padded unit.
  int64_t weight_row(int64_t column) const {
    const int64_t group = column / (4 * lanes), within = column % (4 * lanes);
    const int64_t unit = group * lanes + within % width(group);
    return unit < hidden ? within / width(group) * hidden + unit : -1;
  }

 private:
  int64_t width(int64_t group) const { return whole_groups ? lanes : valid(group); }
};

// Each packs this member's part of the panels; sync the team before use.

// weight [4H, k] -> panel g holds the four gates of group g as columns: for products with x or h
template <class T>
void pack_gates(const Kernels<T>&, const GateLayout<T>&, const T* weight, const Panels<T>& to, const Member&);
// weight [columns, k] -> its transpose in panels: for products with rows of k
template <class T>
void pack_transpose(const Kernels<T>&, const T* weight, const Panels<T>& to, const Member&);
// rows[k] of `columns` -> panels: for products with rows of k
template <class T>
void pack_straight(const Kernels<T>&, const T* const* rows, const Panels<T>& to, const Member&);

// c[n rows] (=, +=) a[n rows] * panels [first, last), blocked so that a block of a stays in the L2 cache.
template <class T>
struct Product {
  const Kernels<T>* kernels;
  const Panels<T>* panels;
  Range range;            // of panels
  const T* const* a;
  int64_t a_begin = 0;
  int64_t n = 0;
  const T* bias = nullptr;  // [columns padded] or null
  bool accumulate = false;
  T* const* c = nullptr;
  int64_t c_begin = 0;
  bool whole_vectors = false;  // c has room for the panels' padding: write its zeros too
};
template <class T>
void multiply(const Product<T>&);

}  // namespace fused_lstm::cpu
