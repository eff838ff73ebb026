#pragma once
// Where the state that enters a step is to be found: the step before in its direction, an initial state, or zeros
// after a cut. Everything forward and backward know about directions, resets and ragged rows is in here.

#include <cstring>

#include "cell/float16.h"
#include "core/problem.h"
#include "core/rows.h"
#include "cpu/memory.h"

namespace fused_lstm::cpu {

// T: cells and initial cells. S: the caller's tensors.
template <class T, class S = T>
class History {
 public:
  // cells: rows of Hp for each direction, compact (t, r) order if `compact`, else one row per r, updated in place
  History(const Problem& p, const Rows& rows, const LayerInputs& in, const Sheet& y, T* const cells[2], bool compact)
      : p_(p), rows_(rows), in_(in), y_(y), cells_{cells[0], cells[1]}, compact_(compact) {
    const int64_t width = std::max(p.padded_hidden(), p.output());
    zeros_ = Buffer<T>(width);
    std::memset(zeros_.get(), 0, width * sizeof(T));
    if (in.c0) pad_initial_cells();
  }

  const T* zeros() const { return zeros_.get(); }
  const S* zero_h() const { return reinterpret_cast<const S*>(zeros_.get()); }

  // The k-th step that direction d takes.
  int64_t step(int d, int64_t k) const { return p_.reversed(d) ? p_.steps - 1 - k : k; }
  // Row r has no step before t in direction d.
  bool starts(int d, int64_t t, int64_t r) const {
    return p_.reversed(d) ? t + 1 == p_.steps || r >= rows_.count(t + 1) : t == 0;
  }
  bool ends(int d, int64_t t, int64_t r) const {
    return p_.reversed(d) ? t == 0 : t + 1 == p_.steps || r >= rows_.count(t + 1);
  }
  int64_t before(int d, int64_t t) const { return p_.reversed(d) ? t + 1 : t - 1; }
  int64_t after(int d, int64_t t) const { return p_.reversed(d) ? t - 1 : t + 1; }

  bool has_cuts() const { return in_.resets.data != nullptr; }
  // A reset at t cuts between t-1 and t: nothing crosses, in either direction.
  bool cut_before(int d, int64_t t, int64_t r) const {
    if (!has_cuts()) return false;
    if (!p_.reversed(d)) return reset(t, r);
    return !starts(d, t, r) && reset(t + 1, r);
  }
  bool cut_after(int d, int64_t t, int64_t r) const {
    return has_cuts() && !ends(d, t, r) && cut_before(d, after(d, t), r);
  }

  S* y(int d, int64_t t, int64_t r) const { return static_cast<S*>(y_.data) + rows_.at(y_, t, r) + d * p_.output(); }
  T* cell(int d, int64_t t, int64_t r) const {
    return cells_[d] + (compact_ ? rows_.compact(t, r) : r) * p_.padded_hidden();
  }
  const S* initial_h(int d, int64_t r) const {
    if (!in_.h0) return zero_h();
    return static_cast<const S*>(in_.h0) + (d * p_.batch + rows_.user_row(r)) * p_.output();
  }
  const T* initial_c(int d, int64_t r) const {
    return in_.c0 ? c0_.get() + (d * p_.batch + r) * p_.padded_hidden() : zeros();
  }

  const S* h_before(int d, int64_t t, int64_t r) const {
    if (cut_before(d, t, r)) return zero_h();
    return starts(d, t, r) ? initial_h(d, r) : y(d, before(d, t), r);
  }
  const T* c_before(int d, int64_t t, int64_t r) const {
    if (cut_before(d, t, r)) return zeros();
    return starts(d, t, r) ? initial_c(d, r) : cell(d, before(d, t), r);
  }

  const S* scale(int d, int64_t r) const {
    if (!in_.recurrent_scale) return nullptr;
    return static_cast<const S*>(in_.recurrent_scale) + (d * p_.batch + rows_.user_row(r)) * p_.output();
  }
  const S* cell_inputs(int d, int64_t t, int64_t r) const {
    const Sheet& s = in_.cell_inputs[d];
    return static_cast<const S*>(s.data) + rows_.at(s, t, r);
  }

 private:
  const Problem& p_;
  const Rows& rows_;
  const LayerInputs& in_;
  Sheet y_;
  T* cells_[2];
  bool compact_;
  Buffer<T> zeros_;
  Buffer<T> c0_;  // [D, B, Hp], longest row first

  bool reset(int64_t t, int64_t r) const {
    return static_cast<const unsigned char*>(in_.resets.data)[rows_.at(in_.resets, t, r)] != 0;
  }
  void pad_initial_cells() {
    const int64_t width = p_.padded_hidden();
    c0_ = Buffer<T>(p_.directions() * p_.batch * width);
    for (int d = 0; d < p_.directions(); ++d)
      for (int64_t r = 0; r < p_.batch; ++r) {
        T* to = c0_.get() + (d * p_.batch + r) * width;
        const S* from = static_cast<const S*>(in_.c0) + (d * p_.batch + rows_.user_row(r)) * p_.hidden;
        for (int64_t j = 0; j < p_.hidden; ++j) to[j] = widened(from[j]);
        std::memset(to + p_.hidden, 0, (width - p_.hidden) * sizeof(T));
      }
  }
};

}  // namespace fused_lstm::cpu
