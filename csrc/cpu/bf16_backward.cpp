// Backward over time in bfloat16; as backward.cpp, for the vanilla cell with its gates kept. Gradients of gates are
// rounded to bfloat16 where products read them (dh, dx, dW), sums of them over rows (biases) are not.

#include <vector>

#include "cpu/bf16.h"
#include "cpu/bf16_outer.h"
#include "cpu/pass.h"
#include "cpu/shards.h"
#include "cpu/unit_numbers.h"
#include "cpu/weight_rows.h"

namespace fused_lstm::cpu {
namespace {

constexpr int64_t kPanel = Bf16Panels::kWidth;
// Rows of dx that are summed together before they are rounded.
constexpr int64_t kInputRows = 96;

class Backward : BackwardPass<float, BFloat16> {
 public:
  Backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
           const BackwardOutputs& out, int members)
      : BackwardPass(p, rows, in, grads, out),
        kernels_(*isa().bf16),
        layout_{p.hidden, kBf16Lanes, true},
        members_(members),
        recurs_(p.steps > 1 || out.dh0),
        x_rows_(p.total),
        dx_rows_(out.dx.data ? p.total : 0) {
    for (int d = 0; d < p.directions(); ++d) allocate(d), plan_outer(d);
    for (int i = 0; i < members; ++i) scratch_.push_back(Scratch(*this));
  }

  void run(const Parallel& parallel) {
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
      for (int d = 0; d < p_.directions(); ++d) outer_[d][0].run(m);
    };
    run_team(parallel, members_, body);
    for (int d = 0; d < p_.directions(); ++d) reduce_bias(d);
  }

 private:
  struct Scratch {
    Buffer<float> dh;  // one panel wide
    Buffer<float> dx;  // rows of one panel, summed over directions
    std::vector<const BFloat16*> a, dy;
    std::vector<const float*> gates, c, c_prev, dc_in, dh_rows;
    std::vector<BFloat16*> dgates;
    std::vector<float*> dc_out, dh_linked, dh_all, dx_rows;

    explicit Scratch(const Backward& b) : dh(b.p_.batch * kPanel), dx(b.out_.dx.data ? kInputRows * kPanel : 0) {
      a.resize(b.p_.batch), dy.resize(b.p_.batch), dgates.resize(b.p_.batch);
      for (auto* of : {&gates, &c, &c_prev, &dc_in, &dh_rows}) of->resize(b.p_.batch);
      for (auto* of : {&dc_out, &dh_linked, &dh_all}) of->resize(b.p_.batch);
      for (int64_t i = 0; i < b.p_.batch; ++i) dh_rows[i] = dh_all[i] = dh.get() + i * kPanel;
      for (int64_t i = 0; dx.get() && i < kInputRows; ++i) dx_rows.push_back(dx.get() + i * kPanel);
    }
  };

  const Bf16Kernels& kernels_;
  const GateLayout<BFloat16> layout_;
  const int members_;
  const bool recurs_;  // some product with W_hh is asked for
  DirectionBarriers barriers_;
  std::vector<Scratch> scratch_;

  Buffer<BFloat16> dgates_[2];  // [total, 4*Hp] with respect to pre-activations
  Buffer<float> dc_[2];         // [B, Hp] running
  UnitSums<float> sums_[2];
  Bf16Panels recurrent_[2], input_[2];
  WeightRows<BFloat16> weight_rows_[2];
  std::vector<const BFloat16*> x_rows_, h_rows_[2], dgate_rows_[2];
  std::vector<BFloat16*> dx_rows_;
  std::vector<Bf16OuterSum> outer_[2];

  BFloat16* dgates(int d, int64_t t, int64_t r) const {
    return dgates_[d].get() + rows_.compact(t, r) * p_.gate_width();
  }

  void allocate(int d) {
    dgates_[d] = Buffer<BFloat16>(p_.total * p_.gate_width());
    dc_[d] = Buffer<float>(p_.batch * p_.padded_hidden());
    fill_final_dc(d, dc_[d].get(), p_.padded_hidden());
    sums_[d] = UnitSums<float>(p_, members_);
    weight_rows_[d] = WeightRows<BFloat16>(p_, d, layout_, in_, out_);
    if (recurs_) recurrent_[d] = Bf16Panels(layout_.columns(), p_.hidden);
    if (out_.dx.data) input_[d] = Bf16Panels(layout_.columns(), p_.input);
    h_rows_[d].resize(p_.total), dgate_rows_[d].resize(p_.total);
  }

  void plan_outer(int d) {
    outer_[d].emplace_back(kernels_, dgates_[d].get(), p_.gate_width(), p_.total, layout_.columns(), members_);
    if (out_.dw_ih[d]) outer_[d][0].add({x_rows_.data(), p_.input, weight_rows_[d].dw_ih.data()});
    if (out_.dw_hh[d]) outer_[d][0].add({h_rows_[d].data(), p_.hidden, weight_rows_[d].dw_hh.data()});
    outer_[d][0].allocate();
  }

  void pack(int d, const Member& m) {
    if (recurs_) pack_straight(kernels_, weight_rows_[d].w_hh.data(), recurrent_[d], m);
    if (out_.dx.data) pack_straight(kernels_, weight_rows_[d].w_ih.data(), input_[d], m);
  }

  // Compact order of the products over all steps.
  void point_at_rows(int d, const Member& m) {
    const Range mine = part(p_.steps, m.index, m.size);
    for (int64_t t = mine.begin; t < mine.end; ++t)
      for (int64_t r = 0; r < rows_.count(t); ++r) {
        const int64_t i = rows_.compact(t, r);
        h_rows_[d][i] = history_.h_before(d, t, r);
        dgate_rows_[d][i] = dgates(d, t, r);
        if (d > 0) continue;
        x_rows_[i] = static_cast<const BFloat16*>(in_.x.data) + rows_.at(in_.x, t, r);
        if (out_.dx.data) dx_rows_[i] = static_cast<BFloat16*>(out_.dx.data) + rows_.at(out_.dx, t, r);
      }
  }

  void run_shard(const Shard& s, Scratch& x) {
    for (int64_t k = p_.steps - 1; k >= 0; --k) {
      step(s, history_.step(s.d, k), x);
      s.team.sync();
    }
    if (out_.dh0) store_dh0(s, x);
    s.team.sync();
    if (out_.dc0 && s.team.index == 0) store_dc0(s);
  }

  void step(const Shard& s, int64_t t, Scratch& x) {
    const int64_t n = active(s.rows, t);
    point_at_step(s, t, n, x);
    const int64_t linked = link(s, t, n, x);
    const int64_t count = (p_.hidden + kPanel - 1) / kPanel;
    const Range mine = part(count, s.team.index, s.team.size);
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      through_next_step(s, panel, n, linked, x);
      add_final_h(s, t, panel, n, x);
      const int64_t begin = panel * kPanel;
      const int64_t end = std::min(begin + kPanel, layout_.groups() * kBf16Lanes);
      kernels_.cell_backward({n, begin, end, p_.hidden, x.gates.data(), x.dgates.data(), x.dh_rows.data(),
                              grads_.dy.data ? x.dy.data() : nullptr, x.c.data(), x.c_prev.data(), x.dc_in.data(),
                              x.dc_out.data(), sums_[s.d].bias(&x - scratch_.data()),
                              static_cast<float>(p_.cell_clip)});
    }
  }

  void point_at_step(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.dgates[i] = dgates(s.d, t, r);
      x.gates[i] = kept_gates(s.d, t, r);
      x.c[i] = history_.cell(s.d, t, r);
      x.c_prev[i] = history_.c_before(s.d, t, r);
      x.dc_out[i] = dc_[s.d].get() + r * p_.padded_hidden();
      x.dc_in[i] = history_.cut_after(s.d, t, r) ? history_.zeros() : x.dc_out[i];
      if (grads_.dy.data) x.dy[i] = dy(s.d, t, r);
    }
  }

  // Which of this shard's rows at t hand their state on to a later step, and where its gradient is.
  int64_t link(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    int64_t linked = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (history_.ends(s.d, t, r) || history_.cut_after(s.d, t, r)) continue;
      x.a[linked] = dgates(s.d, history_.after(s.d, t), r);
      x.dh_linked[linked++] = x.dh_all[i];
    }
    return linked;
  }

  // Gradient that reaches h through the next step, one panel's columns of it, into x.dh.
  void through_next_step(const Shard& s, int64_t panel, int64_t n, int64_t linked, Scratch& x) {
    if (linked < n) std::memset(x.dh.get(), 0, n * kPanel * sizeof(float));
    if (linked == 0) return;
    Bf16Product m{&kernels_, &recurrent_[s.d], {panel, panel + 1}, x.a.data()};
    m.n = linked, m.c = x.dh_linked.data(), m.c_begin = -recurrent_[s.d].begin(panel);
    multiply(m);
  }

  void add_final_h(const Shard& s, int64_t t, int64_t panel, int64_t n, Scratch& x) {
    if (!grads_.dh_n) return;
    const int64_t begin = panel * kPanel, valid = std::min(kPanel, p_.hidden - begin);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (!history_.ends(s.d, t, r)) continue;
      const BFloat16* last = dh_n(s.d, r) + begin;
      for (int64_t j = 0; j < valid; ++j) x.dh_all[i][j] += widened(last[j]);
    }
  }

  void store_dh0(const Shard& s, Scratch& x) {
    int64_t linked = 0;
    const int64_t rows = s.rows.size();
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t r = s.rows.begin + i;
      if (!begins(s.d, r)) continue;
      x.a[linked] = dgates(s.d, first_step(s.d, r), r);
      x.dh_linked[linked++] = x.dh_all[i];
    }
    const Range mine = part(recurrent_[s.d].count(), s.team.index, s.team.size);
    for (int64_t panel = mine.begin; panel < mine.end; ++panel) {
      through_next_step(s, panel, rows, linked, x);
      const int64_t begin = recurrent_[s.d].begin(panel), valid = recurrent_[s.d].valid(panel);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t r = s.rows.begin + i;
        BFloat16* to = dh0(s.d, r) + begin;
        if (rows_.length(r) == 0 && grads_.dh_n)  // a row without steps hands h0 on
          std::memcpy(to, dh_n(s.d, r) + begin, valid * sizeof(BFloat16));
        else
          kernels_.narrow(x.dh_all[i], to, valid);  // zeros where nothing was linked
      }
    }
  }

  void store_dc0(const Shard& s) {
    for (int64_t r = s.rows.begin; r < s.rows.end; ++r) {
      const bool cut = rows_.length(r) > 0 && !begins(s.d, r);
      kernels_.narrow(cut ? history_.zeros() : dc_[s.d].get() + r * p_.padded_hidden(), dc0(s.d, r), p_.hidden);
    }
  }

  // Both directions before anything is rounded.
  void input_gradient(const Member& m) {
    const Range mine = part(p_.total, m.index, m.size);
    Scratch& x = scratch_[m.index];
    for (int64_t row = mine.begin; row < mine.end; row += kInputRows) {
      const int64_t n = std::min(kInputRows, mine.end - row);
      for (int64_t panel = 0; panel < input_[0].count(); ++panel) {
        const int64_t begin = input_[0].begin(panel), valid = input_[0].valid(panel);
        for (int d = 0; d < p_.directions(); ++d) {
          Bf16Product product{&kernels_, &input_[d], {panel, panel + 1}, dgate_rows_[d].data() + row};
          product.n = n, product.accumulate = d > 0, product.c = x.dx_rows.data(), product.c_begin = -begin;
          multiply(product);
        }
        for (int64_t i = 0; i < n; ++i) kernels_.narrow(x.dx_rows[i], dx_rows_[row + i] + begin, valid);
      }
    }
  }

  void reduce_bias(int d) {
    if (!out_.dbias[d]) return;
    std::vector<float> sums(4 * p_.hidden);
    sums_[d].reduce_bias(GateLayout<float>{p_.hidden, kBf16Lanes, true}, sums.data());
    kernels_.narrow(sums.data(), static_cast<BFloat16*>(out_.dbias[d]), 4 * p_.hidden);
  }
};

}  // namespace

void bf16_backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                   const BackwardOutputs& out, const Parallel& parallel) {
  Backward(p, rows, in, grads, out, useful_threads(p, parallel.threads)).run(parallel);
}

}  // namespace fused_lstm::cpu
