// Backward over time, then everything that is one product over all steps: dx, and the weights' gradients.

#include <vector>

#include "cpu/layer.h"
#include "cpu/outer.h"
#include "cpu/panels.h"
#include "cpu/pass.h"
#include "cpu/recall.h"
#include "cpu/shards.h"
#include "cpu/unit_numbers.h"
#include "cpu/weight_rows.h"

namespace fused_lstm::cpu {
namespace {

// With gates made again: rows whose gates, then their gradients, are held at a time.
constexpr int64_t kBlockRows = 1024;

template <class T>
class Backward : BackwardPass<T> {
 public:
  Backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
           const BackwardOutputs& out, int members)
      : BackwardPass<T>(p, rows, in, grads, out),
        kernels_(isa().kernels<T>()),
        layout_{p.hidden, kernels_.lanes},
        shape_(kCellShapes[p.cell]),
        members_(members),
        blocks_(p, rows, p.recompute ? kBlockRows : INT64_MAX),
        recall_(p, rows, in, kernels_, history_, members) {
    for (int d = 0; d < p.directions(); ++d) allocate(d), fill_initial(d);
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
      for (int b = blocks_.count() - 1; b >= 0; --b) {
        if (p_.recompute) recall(b, m);
        for (int i = 0; i < shards.count; ++i) run_shard(shards.list[i], b, scratch_[m.index]);
        m.sync();
        for (int d = 0; d < p_.directions(); ++d) over_block(d, b, m);
      }
    };
    run_team(parallel, members_, body);
    for (int d = 0; d < p_.directions(); ++d) reduce(d);
  }

 private:
  struct Scratch {
    Buffer<T> dh;  // one panel wide
    Block block{};  // at hand
    std::vector<int64_t> linked;
    std::vector<const T*> a, gates, c, c_prev, dc_in, dh_rows, dy, inputs;
    std::vector<T*> dgates, dc_out, dh_prev, dh_linked, dh_all;

    explicit Scratch(const Backward& b) : dh(b.p_.batch * b.panel_width()), linked(b.p_.batch) {
      for (auto* of : {&a, &gates, &c, &c_prev, &dc_in, &dh_rows, &dy, &inputs}) of->resize(b.p_.batch);
      for (auto* of : {&dgates, &dc_out, &dh_prev, &dh_linked, &dh_all}) of->resize(b.p_.batch);
      for (int64_t i = 0; i < b.p_.batch; ++i) dh_rows[i] = dh_all[i] = dh.get() + i * b.panel_width();
    }
  };

  using BackwardPass<T>::p_;
  using BackwardPass<T>::rows_;
  using BackwardPass<T>::in_;
  using BackwardPass<T>::grads_;
  using BackwardPass<T>::out_;
  using BackwardPass<T>::history_;
  const Kernels<T>& kernels_;
  const GateLayout<T> layout_;
  const CellShape shape_;
  const int members_;
  const Blocks blocks_;
  Recall<T> recall_;
  DirectionBarriers barriers_;
  std::vector<Scratch> scratch_;

  // of one block: [rows, ...]
  Buffer<T> dgates_[2];       // [4*Hp] with respect to pre-activations; before that the gates, if made again
  Buffer<T> dprojected_[2];   // [P] with respect to the projected output
  Buffer<T> unprojected_[2];  // [H] o * tanh(c), once more
  Buffer<T> border_[2];       // [B, 4*Hp] each row's dgates of the step done last, from blocks done
  Buffer<T> dc_[2];           // [B, Hp] running
  Buffer<T> dh_prev_[2];      // [B, Hp] running, what passes by the gates
  Buffer<T> scaled_[2];       // [total, P] recurrent_scale * h
  Buffer<T> params_[2];
  UnitSums<T> sums_[2];
  Panels<T> recurrent_[2], input_[2], projection_[2];
  WeightRows<T> weight_rows_[2];
  std::vector<const T*> x_rows_, h_rows_[2];
  std::vector<T*> dgate_rows_[2], dx_rows_, unprojected_rows_[2];
  std::vector<OuterSum<T>> outer_[2];

  int64_t panel_width() const { return 4 * kernels_.lanes; }

  int64_t place(const Block& b, int64_t t, int64_t r) const { return rows_.compact(t, r) - b.rows.begin; }
  T* dgates(int d, const Block& b, int64_t t, int64_t r) const {
    return dgates_[d].get() + place(b, t, r) * p_.gate_width();
  }
  // of the step that row r took last
  const T* done(int d, const Block& b, int64_t t, int64_t r) const {
    return b.has(t) ? dgates(d, b, t, r) : border_[d].get() + r * p_.gate_width();
  }
  T* dprojected(int d, const Block& b, int64_t t, int64_t r) const {
    return dprojected_[d].get() + place(b, t, r) * p_.output();
  }

  void allocate(int d) {
    dgates_[d] = Buffer<T>(blocks_.capacity() * p_.gate_width());
    if (blocks_.count() > 1) border_[d] = Buffer<T>(p_.batch * p_.gate_width());
    dc_[d] = Buffer<T>(p_.batch * p_.padded_hidden());
    if (shape_.reads_h_prev) dh_prev_[d] = Buffer<T>(p_.batch * p_.padded_hidden());
    if (p_.projection) {
      dprojected_[d] = Buffer<T>(blocks_.capacity() * p_.output());
      projection_[d] = Panels<T>(kernels_, p_.projection, p_.hidden);
      if (out_.dw_hr[d]) unprojected_[d] = Buffer<T>(blocks_.capacity() * p_.hidden);
    }
    if (in_.recurrent_scale && (out_.dw_hh[d] || p_.recompute)) scaled_[d] = Buffer<T>(p_.total * p_.output());
    sums_[d] = UnitSums<T>(p_, members_);
    params_[d] = padded_params<T>(p_, in_, d);
    recurrent_[d] = Panels<T>(kernels_, layout_.columns(), p_.output());
    if (out_.dx.data) input_[d] = Panels<T>(kernels_, layout_.columns(), p_.input);
  }

  void fill_initial(int d) {
    this->fill_final_dc(d, dc_[d].get(), p_.padded_hidden());
    weight_rows_[d] = WeightRows<T>(p_, d, layout_, in_, out_);
    x_rows_.resize(p_.total), dx_rows_.resize(p_.total), h_rows_[d].resize(p_.total);
    for (int64_t i = 0; i < blocks_.capacity(); ++i) {
      dgate_rows_[d].push_back(dgates_[d].get() + i * p_.gate_width());
      unprojected_rows_[d].push_back(unprojected_[d].get() + i * p_.hidden);
    }
  }

  void plan_outer(int d) {
    outer_[d].emplace_back(kernels_, dgates_[d].get(), p_.gate_width(), blocks_.capacity(), layout_.columns(),
                           members_);
    if (out_.dw_ih[d]) outer_[d][0].add({x_rows_.data(), p_.input, weight_rows_[d].dw_ih.data()});
    if (out_.dw_hh[d]) outer_[d][0].add({h_rows_[d].data(), p_.output(), weight_rows_[d].dw_hh.data()});
    outer_[d].emplace_back(kernels_, dprojected_[d].get(), p_.output(), blocks_.capacity(), p_.projection, members_);
    if (out_.dw_hr[d]) outer_[d][1].add({unprojected_rows_[d].data(), p_.hidden, weight_rows_[d].dw_hr.data()});
    for (OuterSum<T>& outer : outer_[d]) outer.allocate();
  }

  void pack(int d, const Member& m) {
    pack_straight(kernels_, weight_rows_[d].w_hh.data(), recurrent_[d], m);
    if (out_.dx.data) pack_straight(kernels_, weight_rows_[d].w_ih.data(), input_[d], m);
    if (p_.projection) pack_straight(kernels_, weight_rows_[d].w_hr.data(), projection_[d], m);
    if (p_.recompute) recall_.pack(d, m);
  }

  // Compact order of the products over all steps.
  void point_at_rows(int d, const Member& m) {
    const Range mine = part(p_.steps, m.index, m.size);
    for (int64_t t = mine.begin; t < mine.end; ++t)
      for (int64_t r = 0; r < rows_.count(t); ++r) {
        const int64_t i = rows_.compact(t, r);
        h_rows_[d][i] = history_.h_before(d, t, r);
        if (scaled_[d].get()) {
          T* to = scaled_[d].get() + i * p_.output();
          for (int64_t j = 0; j < p_.output(); ++j) to[j] = history_.scale(d, r)[j] * h_rows_[d][i][j];
          h_rows_[d][i] = to;
        }
        if (d > 0) continue;
        x_rows_[i] = static_cast<const T*>(in_.x.data) + rows_.at(in_.x, t, r);
        if (out_.dx.data) dx_rows_[i] = static_cast<T*>(out_.dx.data) + rows_.at(out_.dx, t, r);
        if (out_.dx.data && meets()) std::memset(dx_rows_[i], 0, p_.input * sizeof(T));
      }
  }

  // Whether directions come to a row of dx in different blocks: either may be the first.
  bool meets() const { return blocks_.count() > 1 && p_.directions() > 1; }

  void recall(int b, const Member& m) {
    for (int d = 0; d < p_.directions(); ++d)
      recall_.run(d, blocks_.at(d, b),
                  {x_rows_.data(), h_rows_[d].data(), dgate_rows_[d].data(),
                   unprojected_[d].get() ? unprojected_rows_[d].data() : nullptr},
                  params_[d].get(), m);
    m.sync();
  }

  void run_shard(const Shard& s, int b, Scratch& x) {
    x.block = blocks_.at(s.d, b);
    for (int64_t k = blocks_.begin(b + 1) - 1; k >= blocks_.begin(b); --k) {
      step(s, history_.step(s.d, k), x);
      s.team.sync();
    }
    if (b == 0) initial_state_gradient(s, x);
  }

  // Which of this shard's rows at t hand their state on to a later step, and where its gradient is.
  int64_t link(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    int64_t linked = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (history_.ends(s.d, t, r) || history_.cut_after(s.d, t, r)) continue;
      x.linked[linked] = i;
      x.a[linked] = done(s.d, x.block, history_.after(s.d, t), r);
      x.dh_linked[linked++] = x.dh_all[i];
    }
    return linked;
  }

  // Gradient that reaches h through the next step, one panel's columns of it, into x.dh.
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
        if (ds) ds += this->state_row(s.d, r) * p_.output() + begin;
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
      const T* dh_n = this->dh_n(s.d, r) + begin;
      for (int64_t j = 0; j < valid; ++j) x.dh_all[i][j] += dh_n[j];
    }
  }

  void point_at_step(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    const int64_t width = p_.padded_hidden();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.dgates[i] = dgates(s.d, x.block, t, r);
      x.gates[i] = p_.recompute ? x.dgates[i] : this->kept_gates(s.d, t, r);
      x.c[i] = history_.cell(s.d, t, r);
      x.c_prev[i] = history_.c_before(s.d, t, r);
      x.dc_out[i] = dc_[s.d].get() + r * width;
      x.dc_in[i] = history_.cut_after(s.d, t, r) ? history_.zeros() : x.dc_out[i];
      if (shape_.reads_h_prev) x.dh_prev[i] = dh_prev_[s.d].get() + r * width;
      if (shape_.inputs) x.inputs[i] = history_.cell_inputs(s.d, t, r);
      if (grads_.dy.data) x.dy[i] = this->dy(s.d, t, r);
    }
  }

  void cell(const Shard& s, int64_t n, Range units, const T* const* dy, Scratch& x) {
    const int64_t member = &x - scratch_.data();
    kernels_.cell_backward[p_.cell]({n, units.begin, units.end, p_.hidden, p_.padded_hidden(), x.gates.data(),
                                     x.dgates.data(), x.dh_rows.data(), dy, x.c.data(), x.c_prev.data(), x.dc_in.data(),
                                     x.dc_out.data(), x.dh_prev.data(), params_[s.d].get(), x.inputs.data(),
                                     sums_[s.d].bias(member), sums_[s.d].param(member), T(p_.cell_clip)});
  }

  void step(const Shard& s, int64_t t, Scratch& x) {
    const int64_t n = this->active(s.rows, t);
    point_at_step(s, t, n, x);
    const int64_t linked = link(s, t, n, x);
    const Range mine = part(recurrent_[s.d].count(), s.team.index, s.team.size);
    for (int64_t i = 0; i < mine.size(); ++i) {
      const int64_t p = there_and_back(s, mine, i, t);
      through_next_step(s, p, n, linked, x);
      finish_linked(s, p, linked, t, x);
      add_final_h(s, t, p, n, x);
      if (p_.projection)
        store_projected(s, t, p, n, x);
      else
        cell(s, n, recurrent_[s.d].padded(p), grads_.dy.data ? x.dy.data() : nullptr, x);
    }
    if (p_.projection) step_projected(s, t, n, x);
  }

  void store_projected(const Shard& s, int64_t t, int64_t panel, int64_t n, Scratch& x) {
    const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
    for (int64_t i = 0; i < n; ++i) {
      T* to = dprojected(s.d, x.block, t, s.rows.begin + i) + begin;
      const T* h = history_.y(s.d, t, s.rows.begin + i) + begin;
      for (int64_t j = 0; j < valid; ++j) {
        const T dh = x.dh_all[i][j] + (grads_.dy.data ? x.dy[i][begin + j] : T(0));
        to[j] = p_.proj_clip > 0 ? where_below(T(p_.proj_clip), h[j], dh) : dh;
      }
    }
  }

  void step_projected(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    s.team.sync();  // every projected output is needed for every unit
    for (int64_t i = 0; i < n; ++i) x.a[i] = dprojected(s.d, x.block, t, s.rows.begin + i);
    const Panels<T>& panels = projection_[s.d];
    const Range mine = part(panels.count(), s.team.index, s.team.size);
    for (int64_t p = mine.begin; p < mine.end; ++p) {
      Product<T> m{&kernels_, &panels, {p, p + 1}, x.a.data()};
      m.n = n, m.c = x.dh_all.data(), m.c_begin = -panels.begin(p), m.whole_vectors = true;
      multiply(m);
      cell(s, n, panels.padded(p), nullptr, x);
    }
  }

  void initial_state_gradient(const Shard& s, Scratch& x) {
    const int64_t rows = s.rows.size();
    if (out_.dh0 || out_.drecurrent_scale) {
      int64_t linked = 0;
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t r = s.rows.begin + i;
        if (!this->begins(s.d, r)) continue;
        x.linked[linked] = i;
        x.a[linked] = done(s.d, x.block, this->first_step(s.d, r), r);
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
      const T* from = rows_.length(r) > 0 ? x.dh_all[i] : nullptr;
      if (!from && grads_.dh_n) from = this->dh_n(s.d, r) + begin;  // a row without steps hands h0 on
      T* to = this->dh0(s.d, r) + begin;
      for (int64_t j = 0; j < valid; ++j) to[j] = from ? from[j] : T(0);
    }
  }

  void store_dc0(const Shard& s) {
    for (int64_t r = s.rows.begin; r < s.rows.end; ++r) {
      const bool cut = rows_.length(r) > 0 && !this->begins(s.d, r);
      const T* from = cut ? history_.zeros() : dc_[s.d].get() + r * p_.padded_hidden();
      std::memcpy(this->dc0(s.d, r), from, p_.hidden * sizeof(T));
    }
  }

  // What is one product over all rows of a block; its gates and dgates are free after this.
  void over_block(int d, int b, const Member& m) {
    const Block block = blocks_.at(d, b);
    const bool more = b + 1 < blocks_.count();
    if (out_.dx.data) input_gradient(d, block, m);
    outer_[d][0].run(m, block.rows.size(), block.rows.begin, more);
    if (out_.dw_hr[d] && !p_.recompute) recompute_unprojected(d, m);
    if (b > 0) keep_border(d, block, m);
    m.sync();
    outer_[d][1].run(m, block.rows.size(), 0, more);
  }

  void keep_border(int d, const Block& block, const Member& m) {
    const int64_t width = p_.gate_width();
    const Range mine = part(rows_.count(block.steps.begin), m.index, m.size);
    for (int64_t r = mine.begin; r < mine.end; ++r) {
      const int64_t t = p_.reversed(d) ? std::min(rows_.length(r), block.steps.end) - 1 : block.steps.begin;
      std::memcpy(border_[d].get() + r * width, dgates(d, block, t, r), width * sizeof(T));
    }
  }

  void input_gradient(int d, const Block& block, const Member& m) {
    const Range mine = part(block.rows.size(), m.index, m.size);
    Product<T> product{&kernels_, &input_[d], {0, input_[d].count()}, dgate_rows_[d].data() + mine.begin};
    product.n = mine.size(), product.accumulate = d > 0 || meets();
    product.c = dx_rows_.data() + block.rows.begin + mine.begin;
    multiply(product);
  }

  void recompute_unprojected(int d, const Member& m) {
    const Range mine = part(p_.total, m.index, m.size);
    for (int64_t i = mine.begin; i < mine.end; ++i)
      unproject(kernels_, layout_, this->kept_gates(d) + i * p_.gate_width(),
                this->kept_cells(d) + i * p_.padded_hidden(), unprojected_rows_[d][i]);
  }

  void reduce(int d) {
    sums_[d].reduce_bias(layout_, static_cast<T*>(out_.dbias[d]));
    T* params = static_cast<T*>(out_.dcell_params);
    sums_[d].reduce_param(params ? params + d * shape_.params * p_.hidden : nullptr);
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
