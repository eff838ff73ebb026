// Backward over time for cells that need a whole row, then the products over all steps. Members split rows.

#include <vector>

#include "cpu/layer.h"
#include "cpu/outer.h"
#include "cpu/panels.h"
#include "cpu/pass.h"
#include "cpu/rowwise.h"
#include "cpu/shards.h"

namespace fused_lstm::cpu {
namespace {

template <class T>
class RowwiseBackward : BackwardPass<T> {
 public:
  RowwiseBackward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                  const BackwardOutputs& out, int members)
      : BackwardPass<T>(p, rows, in, grads, out),
        H(p.hidden),
        shape_(kCellShapes[p.cell]),
        kernels_(isa().kernels<T>()),
        maths_(p, kernels_),
        members_(members) {
    if (out.drecurrent_scale) std::memset(out.drecurrent_scale, 0, p.directions() * p.batch * p.output() * sizeof(T));
    for (int d = 0; d < p.directions(); ++d) allocate(d), point_at_rows(d), plan_outer(d);
    for (int i = 0; i < members; ++i) scratch_.push_back(Scratch(*this));
  }

  void run(const Parallel& parallel) {
    auto body = [&](const Member& m) {
      for (int d = 0; d < p_.directions(); ++d) pack(d, m);
      m.sync();
      const Range mine = rows_of_member(p_, rows_, m);
      for (int d = 0; d < p_.directions(); ++d) {
        for (int64_t k = p_.steps - 1; k >= 0; --k) step(d, history_.step(d, k), mine, m.index);
        initial_state_gradient(d, mine, m.index);
      }
      m.sync();
      if (out_.dx.data) input_gradient(m);
      for (int d = 0; d < p_.directions(); ++d)
        for (const OuterSum<T>& outer : outer_[d]) outer.run(m);
    };
    run_team(parallel, members_, body);
    for (int d = 0; d < p_.directions(); ++d) reduce(d);
  }

 private:
  struct Scratch {
    RowBuffer<T> dh, dunprojected, past_c, product, c_new;
    Buffer<T> normalised, shown, ds;
    std::vector<const T*> a;
    std::vector<T*> to;
    std::vector<int64_t> linked;

    explicit Scratch(const RowwiseBackward& b)
        : dh(b.p_.batch, b.p_.output()),
          dunprojected(b.p_.projection ? b.p_.batch : 0, b.H),
          past_c(b.shape_.reads_h_prev ? b.p_.batch : 0, b.H),
          product(b.p_.batch, 4 * b.H),
          c_new(b.p_.batch, b.H),
          normalised(b.H),
          shown(b.H),
          ds(b.H),
          a(b.p_.batch),
          to(b.p_.batch),
          linked(b.p_.batch) {}
  };

  using BackwardPass<T>::p_;
  using BackwardPass<T>::rows_;
  using BackwardPass<T>::in_;
  using BackwardPass<T>::grads_;
  using BackwardPass<T>::out_;
  using BackwardPass<T>::history_;
  const int64_t H;
  const CellShape& shape_;
  const Kernels<T>& kernels_;
  const RowMaths<T> maths_;
  const int members_;
  std::vector<Scratch> scratch_;

  RowParams<T> params_[2];
  Buffer<T> dinput_[2];       // [total, 4H] with respect to W_ih x
  Buffer<T> drecurrent_[2];   // [total, 4H] with respect to W_hh h, where that differs: behind a norm
  Buffer<T> dc_[2];           // [B, H] running
  Buffer<T> past_h_[2];       // [B, H] running: what passes by the gates
  Buffer<T> dprojected_[2];   // [total, P]
  Buffer<T> unprojected_[2];  // [total, H]
  Buffer<T> scaled_[2];       // [total, P] recurrent_scale * h
  Buffer<T> kept_c_[2];       // [total, H] the new c, where zoneout hides it from the reserve
  Buffer<T> bias_sums_[2], param_sums_[2];  // by member
  Panels<T> forward_input_[2], forward_recurrent_[2];               // once more, for the norms
  Panels<T> input_[2], recurrent_[2], output_[2], projection_[2];  // the way back
  std::vector<const T*> x_rows_, h_rows_[2], c_rows_[2], unprojected_rows_[2], dinput_rows_[2];
  std::vector<const T*> w_ih_rows_[2], w_hh_rows_[2], w_hr_rows_[2];
  std::vector<T*> dx_rows_, dw_ih_rows_[2], dw_hh_rows_[2], dw_hr_rows_[2];
  std::vector<OuterSum<T>> outer_[2];

  T* dinput(int d, int64_t t, int64_t r) const { return dinput_[d].get() + rows_.compact(t, r) * 4 * H; }
  T* drecurrent(int d, int64_t t, int64_t r) const {
    return shape_.layer_norm ? drecurrent_[d].get() + rows_.compact(t, r) * 4 * H : dinput(d, t, r);
  }
  T* dprojected(int d, int64_t t, int64_t r) const { return dprojected_[d].get() + rows_.compact(t, r) * p_.output(); }
  int64_t recurrent_gates() const { return shape_.output_cell ? 3 * H : 4 * H; }

  static Buffer<T> zeroed(int64_t n) {
    Buffer<T> b(n);
    if (n) std::memset(b.get(), 0, n * sizeof(T));
    return b;
  }

  void allocate(int d) {
    const int64_t P = p_.output();
    params_[d] = RowParams<T>(shape_, static_cast<const T*>(in_.cell_params) + d * shape_.params * H, H);
    dinput_[d] = Buffer<T>(p_.total * 4 * H);
    if (shape_.layer_norm) {
      drecurrent_[d] = Buffer<T>(p_.total * 4 * H);
      forward_input_[d] = Panels<T>(kernels_, p_.input, 4 * H);
      forward_recurrent_[d] = Panels<T>(kernels_, P, 4 * H);
    }
    dc_[d] = Buffer<T>(p_.batch * H);
    this->fill_final_dc(d, dc_[d].get(), H);
    if (shape_.reads_h_prev) past_h_[d] = Buffer<T>(p_.batch * H);
    if (shape_.reads_h_prev && shape_.output_cell) kept_c_[d] = Buffer<T>(p_.total * H);
    if (p_.projection) {
      dprojected_[d] = Buffer<T>(p_.total * P);
      projection_[d] = Panels<T>(kernels_, p_.projection, H);
      if (out_.dw_hr[d]) unprojected_[d] = Buffer<T>(p_.total * H);
    }
    if (in_.recurrent_scale) scaled_[d] = Buffer<T>(p_.total * P);
    bias_sums_[d] = zeroed(members_ * 4 * H);
    param_sums_[d] = zeroed(members_ * shape_.params * H);
    recurrent_[d] = Panels<T>(kernels_, recurrent_gates(), P);
    if (shape_.output_cell) output_[d] = Panels<T>(kernels_, H, H);
    if (out_.dx.data) input_[d] = Panels<T>(kernels_, 4 * H, p_.input);
  }

  // Compact order of the products over all steps.
  void point_at_rows(int d) {
    x_rows_.resize(p_.total), dx_rows_.resize(p_.total), h_rows_[d].resize(p_.total), c_rows_[d].resize(p_.total);
    dinput_rows_[d].resize(p_.total), unprojected_rows_[d].resize(p_.total);
    for (int64_t t = 0; t < p_.steps; ++t)
      for (int64_t r = 0; r < rows_.count(t); ++r) {
        const int64_t i = rows_.compact(t, r);
        dinput_rows_[d][i] = dinput(d, t, r);
        h_rows_[d][i] = scaled_[d].get() ? scaled_[d].get() + i * p_.output() : history_.h_before(d, t, r);
        c_rows_[d][i] = kept_c_[d].get() ? kept_c_[d].get() + i * H : history_.cell(d, t, r);
        unprojected_rows_[d][i] = unprojected_[d].get() + i * H;
        x_rows_[i] = static_cast<const T*>(in_.x.data) + rows_.at(in_.x, t, r);
        if (out_.dx.data) dx_rows_[i] = static_cast<T*>(out_.dx.data) + rows_.at(out_.dx, t, r);
      }
    const auto list = [](const void* weight, int64_t n, int64_t k, auto& to) {
      for (int64_t j = 0; j < n; ++j) to.push_back(static_cast<T*>(const_cast<void*>(weight)) + j * k);
    };
    list(in_.weights[d].w_ih, 4 * H, p_.input, w_ih_rows_[d]), list(out_.dw_ih[d], 4 * H, p_.input, dw_ih_rows_[d]);
    list(in_.weights[d].w_hh, 4 * H, p_.output(), w_hh_rows_[d]);
    list(out_.dw_hh[d], 4 * H, p_.output(), dw_hh_rows_[d]);
    list(in_.weights[d].w_hr, p_.projection, H, w_hr_rows_[d]), list(out_.dw_hr[d], p_.projection, H, dw_hr_rows_[d]);
  }

  void plan_outer(int d) {
    const auto plan = [&](const T* left, int64_t ld, int64_t m, const OuterRight<T>& right) {
      outer_[d].emplace_back(kernels_, left, ld, p_.total, m, members_);
      outer_[d].back().add(right);
      outer_[d].back().allocate();
    };
    const T* to_recurrent = shape_.layer_norm ? drecurrent_[d].get() : dinput_[d].get();
    if (out_.dw_ih[d]) plan(dinput_[d].get(), 4 * H, 4 * H, {x_rows_.data(), p_.input, dw_ih_rows_[d].data()});
    if (out_.dw_hh[d])
      plan(to_recurrent, 4 * H, recurrent_gates(), {h_rows_[d].data(), p_.output(), dw_hh_rows_[d].data()});
    if (out_.dw_hh[d] && shape_.output_cell)
      plan(to_recurrent + 3 * H, 4 * H, H, {c_rows_[d].data(), H, dw_hh_rows_[d].data() + 3 * H});
    if (out_.dw_hr[d])
      plan(dprojected_[d].get(), p_.output(), p_.projection, {unprojected_rows_[d].data(), H, dw_hr_rows_[d].data()});
  }

  void pack(int d, const Member& m) {
    if (shape_.layer_norm) {
      pack_transpose(kernels_, static_cast<const T*>(in_.weights[d].w_ih), forward_input_[d], m);
      pack_transpose(kernels_, static_cast<const T*>(in_.weights[d].w_hh), forward_recurrent_[d], m);
    }
    pack_straight(kernels_, w_hh_rows_[d].data(), recurrent_[d], m);
    if (shape_.output_cell) pack_straight(kernels_, w_hh_rows_[d].data() + 3 * H, output_[d], m);
    if (out_.dx.data) pack_straight(kernels_, w_ih_rows_[d].data(), input_[d], m);
    if (p_.projection) pack_straight(kernels_, w_hr_rows_[d].data(), projection_[d], m);
  }

  void product(const Panels<T>& panels, const T* const* a, int64_t n, T* const* c, bool accumulate = false) const {
    Product<T> m{&kernels_, &panels, {0, panels.count()}, a};
    m.n = n, m.c = c, m.accumulate = accumulate;
    multiply(m);
  }

  typename RowMaths<T>::Sums sums(int d, int member) const {
    return {bias_sums_[d].get() + member * 4 * H, param_sums_[d].get() + member * shape_.params * H};
  }

  // Gradient that reaches h of rows [0, n) through the products of the steps after, into x.dh.
  // state_at: h that they read.
  template <class StateAt>
  void through_next_step(int d, Range mine, int64_t n, int64_t linked, const StateAt& state_at, Scratch& x) {
    const int64_t P = p_.output();
    for (int64_t i = 0; i < n; ++i) std::memset(x.dh[i], 0, P * sizeof(T));
    for (int64_t k = 0; k < linked; ++k) x.to[k] = x.dh[x.linked[k]];
    product(recurrent_[d], x.a.data(), linked, x.to.data());
    for (int64_t k = 0; k < linked; ++k) {
      const int64_t r = mine.begin + x.linked[k];
      T* dh = x.to[k];
      if (in_.recurrent_scale) {
        const T *scale = history_.scale(d, r), *h = state_at(r);
        T* ds = static_cast<T*>(out_.drecurrent_scale);
        if (ds) ds += this->state_row(d, r) * P;
        for (int64_t j = 0; j < P; ++j) {
          if (ds) ds[j] += dh[j] * h[j];
          dh[j] *= scale[j];
        }
      }
      if (shape_.reads_h_prev)
        for (int64_t j = 0; j < H; ++j) dh[j] += past_h_[d][r * H + j];
    }
  }

  void gradient_of_h(int d, int64_t t, Range mine, int64_t n, Scratch& x) {
    const int64_t P = p_.output();
    int64_t linked = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      if (history_.ends(d, t, r) || history_.cut_after(d, t, r)) continue;
      x.linked[linked] = i;
      x.a[linked++] = drecurrent(d, history_.after(d, t), r);
    }
    through_next_step(d, mine, n, linked, [&](int64_t r) { return history_.y(d, t, r); }, x);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      T* dh = x.dh[i];
      if (grads_.dh_n && history_.ends(d, t, r)) {
        const T* dh_n = this->dh_n(d, r);
        for (int64_t j = 0; j < P; ++j) dh[j] += dh_n[j];
      }
      if (grads_.dy.data) {
        const T* dy = this->dy(d, t, r);
        for (int64_t j = 0; j < P; ++j) dh[j] += dy[j];
      }
    }
  }

  // To the h that was not projected yet.
  T* const* unproject(int d, int64_t t, Range mine, int64_t n, Scratch& x) {
    if (!p_.projection) return x.dh.rows.data();
    for (int64_t i = 0; i < n; ++i) {
      const T* h = history_.y(d, t, mine.begin + i);
      T* to = dprojected(d, t, mine.begin + i);
      for (int64_t j = 0; j < p_.projection; ++j)
        to[j] = p_.proj_clip > 0 ? where_below(T(p_.proj_clip), h[j], x.dh[i][j]) : x.dh[i][j];
      x.a[i] = to;
    }
    product(projection_[d], x.a.data(), n, x.dunprojected.rows.data());
    return x.dunprojected.rows.data();
  }

  Row<T> row(int d, int64_t t, int64_t r, int64_t i, const Scratch& x) const {
    const int64_t at = rows_.compact(t, r);
    T* c_new = !shape_.reads_h_prev ? history_.cell(d, t, r)
               : kept_c_[d].get()   ? kept_c_[d].get() + at * H
                                    : x.c_new[i];
    return {this->kept_gates(d, t, r),
            nullptr,
            history_.c_before(d, t, r),
            nullptr,
            shape_.inputs ? history_.cell_inputs(d, t, r) : nullptr,
            c_new};
  }

  void step(int d, int64_t t, Range mine, int member) {
    Scratch& x = scratch_[member];
    const int64_t n = this->active(mine, t);
    gradient_of_h(d, t, mine, n, x);
    T* const* dh = unproject(d, t, mine, n, x);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      const Row<T> own = row(d, t, r, i, x);
      if (shape_.reads_h_prev) maths_.new_cell(own);
      T* dc = dc_[d].get() + r * H;
      if (history_.cut_after(d, t, r)) std::memset(dc, 0, H * sizeof(T));
      maths_.output_backward(own, params_[d], dh[i], dc, past_h_[d].get() ? past_h_[d].get() + r * H : nullptr,
                             shape_.reads_h_prev ? x.past_c[i] : nullptr, dinput(d, t, r),
                             unprojected_[d].get() ? unprojected_[d].get() + rows_.compact(t, r) * H : nullptr,
                             {x.normalised.get(), x.shown.get(), x.ds.get()}, sums(d, member));
    }
    if (shape_.output_cell) {
      for (int64_t i = 0; i < n; ++i) {
        x.a[i] = dinput(d, t, mine.begin + i) + 3 * H;
        x.to[i] = dc_[d].get() + (mine.begin + i) * H;
      }
      product(output_[d], x.a.data(), n, x.to.data(), true);
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      maths_.gates_backward(row(d, t, r, i, x), params_[d], dc_[d].get() + r * H,
                            shape_.reads_h_prev ? x.past_c[i] : nullptr, dinput(d, t, r), sums(d, member));
    }
    scale_h(d, t, mine, n);
    if (shape_.layer_norm) through_norms(d, t, mine, n, member);
  }

  void scale_h(int d, int64_t t, Range mine, int64_t n) {
    if (!scaled_[d].get()) return;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      const T *h = history_.h_before(d, t, r), *scale = history_.scale(d, r);
      T* to = scaled_[d].get() + rows_.compact(t, r) * p_.output();
      for (int64_t j = 0; j < p_.output(); ++j) to[j] = scale[j] * h[j];
    }
  }

  // Both products once more: what they were before the norms was not kept.
  void through_norms(int d, int64_t t, Range mine, int64_t n, int member) {
    Scratch& x = scratch_[member];
    T* dgamma = sums(d, member).params + (shape_.params - 10) * H;
    if (n == 0) return;
    const int64_t first = rows_.compact(t, mine.begin);
    product(forward_recurrent_[d], h_rows_[d].data() + first, n, x.product.rows.data());
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      maths_.product_backward(x.product[i], params_[d].gamma_hh, dinput(d, t, r), drecurrent(d, t, r), dgamma + 4 * H);
    }
    product(forward_input_[d], x_rows_.data() + first, n, x.product.rows.data());
    for (int64_t i = 0; i < n; ++i) {
      T* da = dinput(d, t, mine.begin + i);
      maths_.product_backward(x.product[i], params_[d].gamma_ih, da, da, dgamma);
    }
  }

  void initial_state_gradient(int d, Range mine, int member) {
    Scratch& x = scratch_[member];
    int64_t linked = 0;
    for (int64_t i = 0; i < mine.size(); ++i) {
      const int64_t r = mine.begin + i;
      const bool cut = rows_.length(r) > 0 && !this->begins(d, r);
      if (out_.dc0) std::memcpy(this->dc0(d, r), cut ? history_.zeros() : dc_[d].get() + r * H, H * sizeof(T));
      if (!this->begins(d, r)) continue;
      x.linked[linked] = i;
      x.a[linked++] = drecurrent(d, this->first_step(d, r), r);
    }
    if (!out_.dh0 && !out_.drecurrent_scale) return;
    through_next_step(d, mine, mine.size(), linked, [&](int64_t r) { return history_.initial_h(d, r); }, x);
    const int64_t P = p_.output();
    for (int64_t i = 0; out_.dh0 && i < mine.size(); ++i) {
      const int64_t r = mine.begin + i;
      // a row without steps hands h0 on
      const T* from = rows_.length(r) == 0 && grads_.dh_n ? this->dh_n(d, r) : x.dh[i];
      std::memcpy(this->dh0(d, r), from, P * sizeof(T));
    }
  }

  void input_gradient(const Member& m) {
    const Range mine = part(p_.total, m.index, m.size);
    for (int d = 0; d < p_.directions(); ++d)
      product(input_[d], dinput_rows_[d].data() + mine.begin, mine.size(), dx_rows_.data() + mine.begin, d > 0);
  }

  // In the order of members: the same bits whenever their number is the same.
  void reduce(int d) {
    const auto add_up = [&](const Buffer<T>& sums, int64_t n, T* to) {
      for (int64_t j = 0; to && j < n; ++j) {
        T sum = 0;
        for (int i = 0; i < members_; ++i) sum += sums[i * n + j];
        to[j] = sum;
      }
    };
    add_up(bias_sums_[d], 4 * H, static_cast<T*>(out_.dbias[d]));
    T* dparams = static_cast<T*>(out_.dcell_params);
    add_up(param_sums_[d], shape_.params * H, dparams ? dparams + d * shape_.params * H : nullptr);
  }
};

}  // namespace

template <class T>
void rowwise_backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                      const BackwardOutputs& out, const Parallel& parallel) {
  RowwiseBackward<T>(p, rows, in, grads, out, useful_threads(p, parallel.threads)).run(parallel);
}

template void rowwise_backward<float>(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&,
                                      const BackwardOutputs&, const Parallel&);
template void rowwise_backward<double>(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&,
                                       const BackwardOutputs&, const Parallel&);

}  // namespace fused_lstm::cpu
