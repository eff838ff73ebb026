// Backward over time, then everything that is one product over all steps: dx, and the weights' gradients.

#include <vector>

#include "core/reserve.h"
#include "cpu/history.h"
#include "cpu/layer.h"
#include "cpu/outer.h"
#include "cpu/panels.h"
#include "cpu/shards.h"

namespace fused_lstm::cpu {
namespace {

template <class T>
class Backward {
 public:
  Backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
           const BackwardOutputs& out, int members)
      : p_(p),
        rows_(rows),
        in_(in),
        grads_(grads),
        out_(out),
        kernels_(isa().kernels<T>()),
        layout_{p.hidden, kernels_.lanes},
        shape_(kCellShapes[p.cell]),
        reserve_(p, rows.capacity()),
        members_(members),
        history_(p, rows, in, grads.y, cells(), true),
        zeros_(std::max({p.input, p.output(), p.hidden})) {
    std::memset(zeros_.get(), 0, std::max({p.input, p.output(), p.hidden}) * sizeof(T));
    for (int d = 0; d < p.directions(); ++d) {
      allocate(d);
      fill_initial(d);
    }
    if (T* ds = static_cast<T*>(out.drecurrent_scale)) std::fill_n(ds, p.directions() * p.batch * p.output(), T(0));
    for (int i = 0; i < members; ++i) scratch_.push_back(Scratch(*this));
  }

  void run(const Parallel& parallel) {
    for (int d = 0; d < p_.directions(); ++d) plan_outer(d);
    auto body = [&](const Member& m) {
      for (int d = 0; d < p_.directions(); ++d) {
        pack(d, m);
        point_at_rows(d, m);
      }
      m.sync();
      const Shards shards = shards_of(p_, rows_, kernels_.row_tile, m, barriers_);
      for (int i = 0; i < shards.count; ++i) run_shard(shards.list[i], scratch_[m.index]);
      m.sync();
      if (out_.dx.data) input_gradient(m);
      for (int d = 0; d < p_.directions(); ++d) {
        outer_[d][0].run(m);
        if (out_.dw_hr[d]) recompute_unprojected(d, m);
        m.sync();
        outer_[d][1].run(m);
      }
    };
    run_team(parallel, members_, body);
    for (int d = 0; d < p_.directions(); ++d) reduce(d);
  }

 private:
  struct Scratch {
    Buffer<T> dh;  // one panel wide
    std::vector<int64_t> linked;
    std::vector<const T*> a, gates, c, c_prev, dc_in, dh_rows, dy, inputs;
    std::vector<T*> dgates, dc_out, dh_prev, dh_linked, dh_all;

    explicit Scratch(const Backward& b)
        : dh(b.p_.batch * b.panel_width()),
          linked(b.p_.batch),
          a(b.p_.batch),
          gates(b.p_.batch),
          c(b.p_.batch),
          c_prev(b.p_.batch),
          dc_in(b.p_.batch),
          dh_rows(b.p_.batch),
          dy(b.p_.batch),
          inputs(b.p_.batch),
          dgates(b.p_.batch),
          dc_out(b.p_.batch),
          dh_prev(b.p_.batch),
          dh_linked(b.p_.batch),
          dh_all(b.p_.batch) {
      for (int64_t i = 0; i < b.p_.batch; ++i) dh_rows[i] = dh_all[i] = dh.get() + i * b.panel_width();
    }
  };

  const Problem& p_;
  const Rows& rows_;
  const LayerInputs& in_;
  const BackwardInputs& grads_;
  const BackwardOutputs& out_;
  const Kernels<T>& kernels_;
  const GateLayout<T> layout_;
  const CellShape shape_;
  const ReserveLayout reserve_;
  const int members_;
  T* cells_[2] = {};
  const History<T> history_;
  Buffer<T> zeros_;
  DirectionBarriers barriers_;
  std::vector<Scratch> scratch_;

  Buffer<T> dgates_[2];       // [total, 4*Hp] with respect to pre-activations
  Buffer<T> dc_[2];           // [B, Hp] running
  Buffer<T> dh_prev_[2];      // [B, Hp] running, what passes by the gates
  Buffer<T> dprojected_[2];   // [total, P] with respect to the projected output
  Buffer<T> unprojected_[2];  // [total, H] o * tanh(c), once more
  Buffer<T> scaled_[2];       // [total, P] recurrent_scale * h
  Buffer<T> bias_sums_[2], param_sums_[2], params_[2];
  Panels<T> recurrent_[2], input_[2], projection_[2];
  std::vector<const T*> x_rows_, h_rows_[2], weight_rows_[4], projection_rows_[2], unprojected_rows_[2];
  std::vector<T*> dgate_rows_[2], dx_rows_, dw_ih_rows_[2], dw_hh_rows_[2], dw_hr_rows_[2];
  std::vector<OuterSum<T>> outer_[2];

  int64_t panel_width() const { return 4 * kernels_.lanes; }

  T* const* cells() {
    T* base = static_cast<T*>(const_cast<void*>(grads_.reserve));  // History only reads
    for (int d = 0; d < p_.directions(); ++d) cells_[d] = base + reserve_.cells(d);
    return cells_;
  }
  const T* gates(int d, int64_t t, int64_t r) const {
    return static_cast<const T*>(grads_.reserve) + reserve_.gates(d) + rows_.compact(t, r) * p_.gate_width();
  }
  T* dgates(int d, int64_t t, int64_t r) const { return dgates_[d].get() + rows_.compact(t, r) * p_.gate_width(); }
  T* dprojected(int d, int64_t t, int64_t r) const { return dprojected_[d].get() + rows_.compact(t, r) * p_.output(); }

  void allocate(int d) {
    dgates_[d] = Buffer<T>(p_.total * p_.gate_width());
    dc_[d] = Buffer<T>(p_.batch * p_.padded_hidden());
    if (shape_.reads_h_prev) dh_prev_[d] = Buffer<T>(p_.batch * p_.padded_hidden());
    if (p_.projection) {
      dprojected_[d] = Buffer<T>(p_.total * p_.output());
      projection_[d] = Panels<T>(kernels_, p_.projection, p_.hidden);
      if (out_.dw_hr[d]) unprojected_[d] = Buffer<T>(p_.total * p_.hidden);
    }
    if (in_.recurrent_scale && out_.dw_hh[d]) scaled_[d] = Buffer<T>(p_.total * p_.output());
    bias_sums_[d] = Buffer<T>(members_ * p_.gate_width());
    std::memset(bias_sums_[d].get(), 0, members_ * p_.gate_width() * sizeof(T));
    const int64_t params = shape_.params * p_.padded_hidden();
    param_sums_[d] = Buffer<T>(members_ * params);
    if (params) std::memset(param_sums_[d].get(), 0, members_ * params * sizeof(T));
    params_[d] = Buffer<T>(params);
    recurrent_[d] = Panels<T>(kernels_, layout_.columns(), p_.output());
    if (out_.dx.data) input_[d] = Panels<T>(kernels_, layout_.columns(), p_.input);
  }

  void fill_initial(int d) {
    const int64_t width = p_.padded_hidden();
    std::memset(dc_[d].get(), 0, p_.batch * width * sizeof(T));
    for (int64_t r = 0; grads_.dc_n && r < p_.batch; ++r)
      std::memcpy(dc_[d].get() + r * width,
                  static_cast<const T*>(grads_.dc_n) + (d * p_.batch + rows_.user_row(r)) * p_.hidden,
                  p_.hidden * sizeof(T));
    for (int64_t i = 0; i < shape_.params * width; ++i) {
      const int64_t k = i / width, unit = i % width;
      const T* from = static_cast<const T*>(in_.cell_params) + (d * shape_.params + k) * p_.hidden;
      params_[d][i] = unit < p_.hidden ? from[unit] : T(0);
    }
    const T *w_ih = static_cast<const T*>(in_.weights[d].w_ih), *w_hh = static_cast<const T*>(in_.weights[d].w_hh);
    T *dw_ih = static_cast<T*>(out_.dw_ih[d]), *dw_hh = static_cast<T*>(out_.dw_hh[d]);
    for (int64_t j = 0; j < layout_.columns(); ++j) {
      const int64_t row = layout_.weight_row(j);
      weight_rows_[2 * d].push_back(row < 0 ? zeros_.get() : w_ih + row * p_.input);
      weight_rows_[2 * d + 1].push_back(row < 0 ? zeros_.get() : w_hh + row * p_.output());
      dw_ih_rows_[d].push_back(row < 0 || !dw_ih ? nullptr : dw_ih + row * p_.input);
      dw_hh_rows_[d].push_back(row < 0 || !dw_hh ? nullptr : dw_hh + row * p_.output());
    }
    for (int64_t j = 0; j < p_.projection; ++j) {
      projection_rows_[d].push_back(static_cast<const T*>(in_.weights[d].w_hr) + j * p_.hidden);
      dw_hr_rows_[d].push_back(out_.dw_hr[d] ? static_cast<T*>(out_.dw_hr[d]) + j * p_.hidden : nullptr);
    }
    x_rows_.resize(p_.total), dx_rows_.resize(p_.total);
    h_rows_[d].resize(p_.total), dgate_rows_[d].resize(p_.total), unprojected_rows_[d].resize(p_.total);
  }

  void plan_outer(int d) {
    outer_[d].emplace_back(kernels_, dgates_[d].get(), p_.gate_width(), p_.total, layout_.columns(), members_);
    if (out_.dw_ih[d]) outer_[d][0].add({x_rows_.data(), p_.input, dw_ih_rows_[d].data()});
    if (out_.dw_hh[d]) outer_[d][0].add({h_rows_[d].data(), p_.output(), dw_hh_rows_[d].data()});
    outer_[d].emplace_back(kernels_, dprojected_[d].get(), p_.output(), p_.total, p_.projection, members_);
    if (out_.dw_hr[d]) outer_[d][1].add({unprojected_rows_[d].data(), p_.hidden, dw_hr_rows_[d].data()});
    for (OuterSum<T>& outer : outer_[d]) outer.allocate();
  }

  void pack(int d, const Member& m) {
    pack_straight(kernels_, weight_rows_[2 * d + 1].data(), recurrent_[d], m);
    if (out_.dx.data) pack_straight(kernels_, weight_rows_[2 * d].data(), input_[d], m);
    if (p_.projection) pack_straight(kernels_, projection_rows_[d].data(), projection_[d], m);
  }

  // Compact order of the products over all steps.
  void point_at_rows(int d, const Member& m) {
    const Range mine = part(p_.steps, m.index, m.size);
    for (int64_t t = mine.begin; t < mine.end; ++t)
      for (int64_t r = 0; r < rows_.count(t); ++r) {
        const int64_t i = rows_.compact(t, r);
        dgate_rows_[d][i] = dgates(d, t, r);
        unprojected_rows_[d][i] = unprojected_[d].get() + i * p_.hidden;
        h_rows_[d][i] = history_.h_before(d, t, r);
        if (scaled_[d].get()) {
          T* to = scaled_[d].get() + i * p_.output();
          for (int64_t j = 0; j < p_.output(); ++j) to[j] = history_.scale(d, r)[j] * h_rows_[d][i][j];
          h_rows_[d][i] = to;
        }
        if (d > 0) continue;
        x_rows_[i] = static_cast<const T*>(in_.x.data) + rows_.at(in_.x, t, r);
        if (out_.dx.data) dx_rows_[i] = static_cast<T*>(out_.dx.data) + rows_.at(out_.dx, t, r);
      }
  }

  void run_shard(const Shard& s, Scratch& x) {
    for (int64_t k = p_.steps - 1; k >= 0; --k) {
      step(s, history_.step(s.d, k), x);
      s.team.sync();
    }
    initial_state_gradient(s, x);
  }

  // Which of this shard's rows at t hand their state on to a later step, and where its gradient is.
  int64_t link(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    int64_t linked = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (history_.ends(s.d, t, r) || history_.cut_after(s.d, t, r)) continue;
      x.linked[linked] = i;
      x.a[linked] = dgates(s.d, history_.after(s.d, t), r);
      x.dh_linked[linked++] = x.dh_all[i];
    }
    return linked;
  }

  // Gradient that reaches h through the next step, for the columns of one panel, into x.dh.
  void through_next_step(const Shard& s, int64_t panel, int64_t n, int64_t linked, Scratch& x) {
    const int64_t begin = recurrent_[s.d].begin(panel);
    if (linked < n)
      for (int64_t i = 0; i < n; ++i) std::memset(x.dh_all[i], 0, panel_width() * sizeof(T));
    Product<T> m{&kernels_, &recurrent_[s.d], {panel, panel + 1}, x.a.data()};
    m.n = linked, m.c = x.dh_linked.data(), m.c_begin = -begin, m.whole_vectors = true;
    multiply(m);
  }

  // What the product above lacks: the recurrent scale, and what passes by the gates.
  void finish_linked(const Shard& s, int64_t panel, int64_t linked, int64_t t, Scratch& x) {
    const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
    if (!in_.recurrent_scale && !shape_.reads_h_prev) return;
    for (int64_t k = 0; k < linked; ++k) {
      const int64_t r = s.rows.begin + x.linked[k];
      T* dh = x.dh_linked[k];
      if (in_.recurrent_scale) {
        const T* scale = history_.scale(s.d, r) + begin;
        // t < 0: the state is the initial one
        const T* h = (t < 0 ? history_.initial_h(s.d, r) : history_.y(s.d, t, r)) + begin;
        T* ds = static_cast<T*>(out_.drecurrent_scale);
        if (ds) ds += (s.d * p_.batch + rows_.user_row(r)) * p_.output() + begin;
        for (int64_t j = 0; j < valid; ++j) {
          if (ds) ds[j] += dh[j] * h[j];
          dh[j] *= scale[j];
        }
      }
      if (shape_.reads_h_prev)
        for (int64_t j = 0; j < valid; ++j) dh[j] += dh_prev_[s.d][r * p_.padded_hidden() + begin + j];
    }
  }

  void add_final_h(const Shard& s, int64_t t, int64_t panel, int64_t n, Scratch& x) {
    if (!grads_.dh_n) return;
    const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (!history_.ends(s.d, t, r)) continue;
      const T* dh_n = static_cast<const T*>(grads_.dh_n) + (s.d * p_.batch + rows_.user_row(r)) * p_.output() + begin;
      for (int64_t j = 0; j < valid; ++j) x.dh_all[i][j] += dh_n[j];
    }
  }

  void point_at_step(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    const int64_t width = p_.padded_hidden();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.gates[i] = gates(s.d, t, r);
      x.dgates[i] = dgates(s.d, t, r);
      x.c[i] = history_.cell(s.d, t, r);
      x.c_prev[i] = history_.c_before(s.d, t, r);
      x.dc_out[i] = dc_[s.d].get() + r * width;
      x.dc_in[i] = history_.cut_after(s.d, t, r) ? history_.zeros() : x.dc_out[i];
      if (shape_.reads_h_prev) x.dh_prev[i] = dh_prev_[s.d].get() + r * width;
      if (shape_.inputs) x.inputs[i] = history_.cell_inputs(s.d, t, r);
      if (grads_.dy.data)
        x.dy[i] = static_cast<const T*>(grads_.dy.data) + rows_.at(grads_.dy, t, r) + s.d * p_.output();
    }
  }

  void cell(const Shard& s, int64_t n, Range units, const T* const* dy, Scratch& x) {
    const int64_t member = &x - scratch_.data();
    kernels_.cell_backward[p_.cell](
        {n, units.begin, units.end, p_.hidden, p_.padded_hidden(), x.gates.data(), x.dgates.data(), x.dh_rows.data(),
         dy, x.c.data(), x.c_prev.data(), x.dc_in.data(), x.dc_out.data(), x.dh_prev.data(), params_[s.d].get(),
         x.inputs.data(), bias_sums_[s.d].get() + member * p_.gate_width(),
         param_sums_[s.d].get() + member * shape_.params * p_.padded_hidden(), T(p_.cell_clip)});
  }

  void step(const Shard& s, int64_t t, Scratch& x) {
    const int64_t n = std::max<int64_t>(0, std::min(s.rows.end, rows_.count(t)) - s.rows.begin);
    point_at_step(s, t, n, x);
    const int64_t linked = link(s, t, n, x);
    const Panels<T>& panels = recurrent_[s.d];
    const Range mine = part(panels.count(), s.team.index, s.team.size);
    for (int64_t p = mine.begin; p < mine.end; ++p) {
      through_next_step(s, p, n, linked, x);
      finish_linked(s, p, linked, t, x);
      add_final_h(s, t, p, n, x);
      if (p_.projection)
        store_projected(s, t, p, n, x);
      else
        cell(s, n, units_of(panels, p), grads_.dy.data ? x.dy.data() : nullptr, x);
    }
    if (p_.projection) step_projected(s, t, n, x);
  }

  Range units_of(const Panels<T>& panels, int64_t p) const {
    return {panels.begin(p), panels.begin(p) + panels.vectors(p) * int64_t{kernels_.lanes}};
  }

  void store_projected(const Shard& s, int64_t t, int64_t panel, int64_t n, Scratch& x) {
    const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
    for (int64_t i = 0; i < n; ++i) {
      T* to = dprojected(s.d, t, s.rows.begin + i) + begin;
      const T* h = history_.y(s.d, t, s.rows.begin + i) + begin;
      for (int64_t j = 0; j < valid; ++j) {
        const T dh = x.dh_all[i][j] + (grads_.dy.data ? x.dy[i][begin + j] : T(0));
        to[j] = p_.proj_clip > 0 ? where_below(T(p_.proj_clip), h[j], dh) : dh;
      }
    }
  }

  void step_projected(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    s.team.sync();  // every projected output is needed for every unit
    for (int64_t i = 0; i < n; ++i) x.a[i] = dprojected(s.d, t, s.rows.begin + i);
    const Panels<T>& panels = projection_[s.d];
    const Range mine = part(panels.count(), s.team.index, s.team.size);
    for (int64_t p = mine.begin; p < mine.end; ++p) {
      Product<T> m{&kernels_, &panels, {p, p + 1}, x.a.data()};
      m.n = n, m.c = x.dh_all.data(), m.c_begin = -panels.begin(p), m.whole_vectors = true;
      multiply(m);
      cell(s, n, units_of(panels, p), nullptr, x);
    }
  }

  void initial_state_gradient(const Shard& s, Scratch& x) {
    const int64_t rows = s.rows.size();
    if (out_.dh0 || out_.drecurrent_scale) {
      int64_t linked = 0;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t r = s.rows.begin + i, length = rows_.length(r);
        const int64_t first = p_.reversed(s.d) ? length - 1 : 0;
        if (length == 0 || history_.cut_before(s.d, first, r)) continue;
        x.linked[linked] = i;
        x.a[linked] = dgates(s.d, first, r);
        x.dh_linked[linked++] = x.dh_all[i];
      }
      const Range mine = part(recurrent_[s.d].count(), s.team.index, s.team.size);
      for (int64_t p = mine.begin; p < mine.end; ++p) {
        through_next_step(s, p, rows, linked, x);
        finish_linked(s, p, linked, -1, x);
        if (out_.dh0) store_dh0(s, p, x);
      }
    }
    s.team.sync();
    if (out_.dc0 && s.team.index == 0) store_dc0(s);
  }

  void store_dh0(const Shard& s, int64_t panel, Scratch& x) {
    const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
    for (int64_t i = 0; i < s.rows.size(); ++i) {
      const int64_t r = s.rows.begin + i;
      const int64_t at = (s.d * p_.batch + rows_.user_row(r)) * p_.output() + begin;
      const T* from = rows_.length(r) > 0 ? x.dh_all[i] : nullptr;
      if (!from && grads_.dh_n) from = static_cast<const T*>(grads_.dh_n) + at;  // a row without steps hands h0 on
      T* to = static_cast<T*>(out_.dh0) + at;
      for (int64_t j = 0; j < valid; ++j) to[j] = from ? from[j] : T(0);
    }
  }

  void store_dc0(const Shard& s) {
    for (int64_t r = s.rows.begin; r < s.rows.end; ++r) {
      const int64_t length = rows_.length(r), first = p_.reversed(s.d) ? length - 1 : 0;
      const bool cut = length > 0 && history_.cut_before(s.d, first, r);
      const T* from = cut ? history_.zeros() : dc_[s.d].get() + r * p_.padded_hidden();
      std::memcpy(static_cast<T*>(out_.dc0) + (s.d * p_.batch + rows_.user_row(r)) * p_.hidden, from,
                  p_.hidden * sizeof(T));
    }
  }

  void input_gradient(const Member& m) {
    const Range mine = part(p_.total, m.index, m.size);
    for (int d = 0; d < p_.directions(); ++d) {
      Product<T> product{&kernels_, &input_[d], {0, input_[d].count()}, dgate_rows_[d].data() + mine.begin};
      product.n = mine.size(), product.accumulate = d > 0, product.c = dx_rows_.data() + mine.begin;
      multiply(product);
    }
  }

  void recompute_unprojected(int d, const Member& m) {
    const Range mine = part(p_.total, m.index, m.size);
    const int64_t width = p_.padded_hidden();
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      T* to = unprojected_[d].get() + i * p_.hidden;
      kernels_.tanh(cells_[d] + i * width, to, p_.hidden);
      const T* g = static_cast<const T*>(grads_.reserve) + reserve_.gates(d) + i * p_.gate_width();
      for (int64_t unit = 0; unit < p_.hidden; ++unit) to[unit] *= g[layout_.column(3, unit)];
    }
  }

  // In the order of members: the same bits whenever their number is the same.
  void reduce(int d) {
    for (int64_t j = 0; out_.dbias[d] && j < layout_.columns(); ++j) {
      if (layout_.weight_row(j) < 0) continue;
      T sum = 0;
      for (int i = 0; i < members_; ++i) sum += bias_sums_[d][i * p_.gate_width() + j];
      static_cast<T*>(out_.dbias[d])[layout_.weight_row(j)] = sum;
    }
    const int64_t width = p_.padded_hidden(), params = shape_.params;
    for (int64_t k = 0; out_.dcell_params && k < params; ++k)
      for (int64_t unit = 0; unit < p_.hidden; ++unit) {
        T sum = 0;
        for (int i = 0; i < members_; ++i) sum += param_sums_[d][(i * params + k) * width + unit];
        static_cast<T*>(out_.dcell_params)[(d * params + k) * p_.hidden + unit] = sum;
      }
  }
};

}  // namespace

template <class T>
void backward_in(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                 const BackwardOutputs& out, const Parallel& parallel) {
  Backward<T>(p, rows, in, grads, out, useful_threads(p, parallel.threads)).run(parallel);
}

template void backward_in<float>(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&,
                                 const BackwardOutputs&, const Parallel&);
template void backward_in<double>(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&,
                                  const BackwardOutputs&, const Parallel&);

}  // namespace fused_lstm::cpu
