#pragma once
// What every way over time starts from: the call, the reserve, and where a row's states are found. T: what is computed
// in. S: the caller's tensors.

#include <cstring>

#include "core/reserve.h"
#include "cpu/history.h"
#include "cpu/layer.h"
#include "cpu/team.h"

namespace fused_lstm::cpu {

template <class T, class S = T>
class Pass {
 protected:
  // reserve: null where forward keeps nothing; cells are then one row each, updated in place
  Pass(const Problem& p, const Rows& rows, const LayerInputs& in, const Sheet& y, void* reserve)
      : p_(p),
        rows_(rows),
        in_(in),
        reserve_layout_(p, rows.capacity()),
        reserve_(static_cast<T*>(reserve)),
        running_(reserve ? 0 : p.directions() * p.batch * p.padded_hidden()),
        history_(p, rows, in, y, cells(), reserve != nullptr) {}

  const Problem& p_;
  const Rows& rows_;
  const LayerInputs& in_;
  const ReserveLayout reserve_layout_;
  T* const reserve_;

 private:
  Buffer<T> running_;
  T* cells_[2] = {};

  T* const* cells() {
    for (int d = 0; d < p_.directions(); ++d)
      cells_[d] = reserve_ ? reserve_ + reserve_layout_.cells(d) : running_.get() + d * p_.batch * p_.padded_hidden();
    return cells_;
  }

 protected:
  const History<T, S> history_;

  T* kept_cells(int d) const { return reserve_ + reserve_layout_.cells(d); }
  T* kept_gates(int d) const { return reserve_ + reserve_layout_.gates(d); }
  T* kept_gates(int d, int64_t t, int64_t r) const { return kept_gates(d) + rows_.compact(t, r) * p_.gate_width(); }
  // How many of `mine` have a step t.
  int64_t active(Range mine, int64_t t) const {
    return std::max<int64_t>(0, std::min(mine.end, rows_.count(t)) - mine.begin);
  }
  // The first step that row r takes.
  int64_t first_step(int d, int64_t r) const { return p_.reversed(d) ? rows_.length(r) - 1 : 0; }
  // Place of row r in the caller's states.
  int64_t state_row(int d, int64_t r) const { return d * p_.batch + rows_.user_row(r); }
};

// Fewer rows than this never repay packing the weights: they are read once, as they lie.
constexpr int64_t kUnpackedRows = 12;
// Rows that are projected together: enough to amortise streaming W_ih, few enough to find their gates in L2.
constexpr int64_t kChunkRows = 96;

template <class T, class S = T>
class ForwardPass : protected Pass<T, S> {
 protected:
  ForwardPass(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out)
      : Pass<T, S>(p, rows, in, out.y, p.save_for_backward ? out.reserve : nullptr), out_(out) {}

  using Pass<T, S>::p_;
  using Pass<T, S>::rows_;
  using Pass<T, S>::in_;
  using Pass<T, S>::history_;
  const ForwardOutputs& out_;

  int64_t chunk_capacity() const { return kChunkRows + p_.batch; }
  // Gates of a chunk, where they are not kept.
  int64_t chunk_gates() const { return p_.keeps_gates() ? 0 : chunk_capacity() * p_.gate_width(); }

  // As many steps from k on as fill a chunk: where their inputs are, and where their gates go. Returns how many rows
  // that makes, and moves `end` behind the last step.
  int64_t fill_chunk(int d, Range mine, int64_t k, int64_t& end, T* gates, const S** x, T** projected) const {
    int64_t n = 0;
    end = k;
    do {
      const int64_t t = history_.step(d, end++);
      for (int64_t i = 0; i < this->active(mine, t); ++i, ++n) {
        const int64_t r = mine.begin + i;
        x[n] = static_cast<const S*>(in_.x.data) + rows_.at(in_.x, t, r);
        projected[n] = p_.keeps_gates() ? this->kept_gates(d, t, r) : gates + n * p_.gate_width();
      }
    } while (end < p_.steps && n + mine.size() <= kChunkRows);
    return n;
  }

  // Where cells are in place: the state of a row is its initial one until its first step.
  void start_in_place(int d, Range mine) const {
    for (int64_t r = mine.begin; !this->reserve_ && r < mine.end; ++r)
      std::memcpy(history_.cell(d, 0, r), history_.initial_c(d, r), p_.padded_hidden() * sizeof(T));
  }
  const T* cell_before(int d, int64_t t, int64_t r) const {
    if (this->reserve_ || history_.cut_before(d, t, r)) return history_.c_before(d, t, r);
    return history_.cell(d, t, r);
  }

  // Columns that no kernel writes and padded steps: nobody reads them, but a result must not hold what memory happened
  // to hold. `gates`, `units`: columns that are written.
  void clear_unused(int64_t gates, int64_t units, const Member& m) const {
    if (!this->reserve_) return;
    for (int d = 0; d < p_.directions(); ++d) {
      if (p_.keeps_gates()) clear_unused(this->kept_gates(d), gates, p_.gate_width(), m);
      clear_unused(this->kept_cells(d), units, p_.padded_hidden(), m);
    }
  }

  // h_n and c_n, and zeros in y where rows have no steps. store(from, to, n): T to S.
  template <class Store>
  void finish(const Store& store) const {
    const int64_t width = p_.output();
    for (int d = 0; d < p_.directions(); ++d)
      for (int64_t r = 0; r < p_.batch; ++r) {
        const int64_t length = rows_.length(r), last = p_.reversed(d) ? 0 : length - 1, to = this->state_row(d, r);
        const S* h = length ? history_.y(d, last, r) : history_.initial_h(d, r);
        std::memcpy(static_cast<S*>(out_.h_n) + to * width, h, width * sizeof(S));
        store(length ? history_.cell(d, last, r) : history_.initial_c(d, r), static_cast<S*>(out_.c_n) + to * p_.hidden,
              p_.hidden);
        for (int64_t t = length; !rows_.is_packed() && t < p_.steps; ++t)
          std::memset(history_.y(d, t, r), 0, width * sizeof(S));
      }
  }
  void finish() const {
    finish([](const T* from, S* to, int64_t n) { std::memcpy(to, from, n * sizeof(T)); });
  }

 private:
  void clear_unused(T* rows, int64_t written, int64_t width, const Member& m) const {
    const Range used = part(p_.total, m.index, m.size), unused = part(rows_.capacity() - p_.total, m.index, m.size);
    for (int64_t i = used.begin; written < width && i < used.end; ++i)
      std::memset(rows + i * width + written, 0, (width - written) * sizeof(T));
    std::memset(rows + (p_.total + unused.begin) * width, 0, unused.size() * width * sizeof(T));
  }
};

template <class T, class S = T>
class BackwardPass : protected Pass<T, S> {
 protected:
  BackwardPass(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
               const BackwardOutputs& out)
      : Pass<T, S>(p, rows, in, grads.y, const_cast<void*>(grads.reserve)),  // nobody writes to it
        grads_(grads),
        out_(out) {}

  using Pass<T, S>::p_;
  using Pass<T, S>::rows_;
  using Pass<T, S>::in_;
  using Pass<T, S>::history_;
  using Pass<T, S>::first_step;
  using Pass<T, S>::kept_gates;
  const BackwardInputs& grads_;
  const BackwardOutputs& out_;

  const S* dy(int d, int64_t t, int64_t r) const {
    return static_cast<const S*>(grads_.dy.data) + rows_.at(grads_.dy, t, r) + d * p_.output();
  }
  const S* dh_n(int d, int64_t r) const {
    return static_cast<const S*>(grads_.dh_n) + this->state_row(d, r) * p_.output();
  }
  S* dh0(int d, int64_t r) const { return static_cast<S*>(out_.dh0) + this->state_row(d, r) * p_.output(); }
  S* dc0(int d, int64_t r) const { return static_cast<S*>(out_.dc0) + this->state_row(d, r) * p_.hidden; }
  // Whether row r's initial state reaches its first step.
  bool begins(int d, int64_t r) const { return rows_.length(r) > 0 && !history_.cut_before(d, first_step(d, r), r); }

  // dc_n, or zeros: the running gradient of c [B, width] where it starts.
  void fill_final_dc(int d, T* dc, int64_t width) const {
    std::memset(dc, 0, p_.batch * width * sizeof(T));
    for (int64_t r = 0; grads_.dc_n && r < p_.batch; ++r) {
      const S* from = static_cast<const S*>(grads_.dc_n) + this->state_row(d, r) * p_.hidden;
      for (int64_t j = 0; j < p_.hidden; ++j) dc[r * width + j] = widened(from[j]);
    }
  }
};

}  // namespace fused_lstm::cpu
