// Forward over time in bfloat16; as forward.cpp, for the vanilla cell.

#include <vector>

#include "cpu/bf16.h"
#include "cpu/bf16_panels.h"
#include "cpu/pass.h"
#include "cpu/shards.h"

namespace fused_lstm::cpu {
namespace {

// With so many rows a step, streaming W_ih every time costs less than keeping pre-activations: the step projects its
// input itself, and they never leave the registers. More of them where W_ih comes from beyond L2.
constexpr int64_t kFusedRows = 16, kFusedRowsOfLarge = 48, kLargeInput = 1 << 18;

class Forward : ForwardPass<float, BFloat16> {
 public:
  Forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out)
      : ForwardPass(p, rows, in, out),
        kernels_(*isa().bf16),
        layout_{p.hidden, kBf16Lanes, true},
        packed_(p.total > kUnpackedRows) {
    for (int d = 0; d < p.directions(); ++d) {
      bias_[d] = Buffer<float>(layout_.columns());
      if (packed_) input_[d] = Bf16Panels(p.input, layout_.columns());
      if (packed_) recurrent_[d] = Bf16Panels(p.hidden, layout_.columns());
    }
  }

  void run(const Parallel& parallel) {
    std::vector<Scratch> scratch;
    for (int i = 0; i < parallel.threads; ++i) scratch.push_back(Scratch(*this));
    DirectionBarriers barriers;
    auto body = [&](const Member& m) {
      pack(m);
      clear_unused(layout_.columns(), layout_.groups() * kBf16Lanes, m);
      m.sync();
      const Shards shards = shards_of(p_, rows_, kernels_.row_tile, m, barriers);
      for (int i = 0; i < shards.count; ++i) run_shard(shards.list[i], scratch[m.index]);
    };
    run_team(parallel, static_cast<int>(scratch.size()), body);
    finish(kernels_.narrow);
  }

 private:
  // What one member needs for itself; allocated before the team starts, which must not throw.
  struct Scratch {
    Buffer<float> gates;  // where they are not kept: pre-activations of one chunk
    std::vector<const BFloat16*> x, h_prev;
    std::vector<const float*> c_prev;
    std::vector<float*> projected, c;
    std::vector<BFloat16*> h;

    explicit Scratch(const Forward& f)
        : gates(f.chunk_gates()),
          x(f.chunk_capacity()),
          h_prev(f.p_.batch),
          c_prev(f.p_.batch),
          projected(f.chunk_capacity()),
          c(f.p_.batch),
          h(f.p_.batch) {}
  };

  const Bf16Kernels& kernels_;
  const GateLayout<BFloat16> layout_;
  const bool packed_;
  Buffer<float> bias_[2];
  Bf16Panels input_[2], recurrent_[2];

  Range my_groups(const Shard& s) const { return part(layout_.groups(), s.team.index, s.team.size); }

  void pack(const Member& m) {
    for (int d = 0; d < p_.directions(); ++d) {
      const DirectionWeights& w = in_.weights[d];
      if (packed_) {
        pack_gates(kernels_, layout_, static_cast<const BFloat16*>(w.w_ih), input_[d], m);
        pack_gates(kernels_, layout_, static_cast<const BFloat16*>(w.w_hh), recurrent_[d], m);
      }
      if (m.index == 0) pack_bias(d);
    }
  }

  void pack_bias(int d) {
    const BFloat16* b_ih = static_cast<const BFloat16*>(in_.weights[d].b_ih);
    const BFloat16* b_hh = static_cast<const BFloat16*>(in_.weights[d].b_hh);
    for (int64_t j = 0; j < layout_.columns(); ++j) {
      const int64_t row = layout_.weight_row(j);
      bias_[d][j] = p_.bias && row >= 0 ? widened(b_ih[row]) + widened(b_hh[row]) : 0.0f;
    }
  }

  void run_shard(const Shard& s, Scratch& x) {
    if (s.team.index == 0) start_in_place(s.d, s.rows);
    s.team.sync();
    for (int64_t k = 0, end; k < p_.steps;) {
      int64_t n = fill_chunk(s.d, s.rows, k, end, x.gates.get(), x.x.data(), x.projected.data());
      if (!fused(s)) project_input(s, x, n);
      for (n = 0; k < end; ++k) {
        const int64_t t = history_.step(s.d, k);
        step(s, t, n, x);
        n += active(s.rows, t);
      }
    }
  }

  void project_input(const Shard& s, Scratch& scratch, int64_t n) {
    const Range groups = my_groups(s);
    if (packed_) {
      Bf16Product m{&kernels_, &input_[s.d], groups, scratch.x.data()};
      m.n = n, m.bias = bias_[s.d].get(), m.c = scratch.projected.data();
      return multiply(m);
    }
    const int64_t first = 4 * kBf16Lanes * groups.begin, count = 4 * kBf16Lanes * groups.size();
    for (int64_t i = 0; i < n; ++i)
      std::memcpy(scratch.projected[i] + first, bias_[s.d].get() + first, count * sizeof(float));
    multiply_unpacked(s, in_.weights[s.d].w_ih, p_.input, scratch.x.data(), n, scratch.projected.data());
  }

  void multiply_unpacked(const Shard& s, const void* weight, int64_t k, const BFloat16* const* a, int64_t n,
                         float* const* c) {
    const Range groups = my_groups(s);
    const int64_t end = std::min(groups.end * kBf16Lanes, p_.hidden);
    for (int64_t unit = groups.begin * kBf16Lanes; unit < end; ++unit) {
      const BFloat16* w[4];
      int64_t column[4];
      for (int q = 0; q < 4; ++q) {
        w[q] = static_cast<const BFloat16*>(weight) + (q * p_.hidden + unit) * k;
        column[q] = layout_.column(q, unit);
      }
      kernels_.dot4({n, k, a, w, c, column});
    }
  }

  bool fused(const Shard& s) const {
    const bool large = p_.input * p_.gate_width() > kLargeInput;
    return packed_ && s.rows.size() >= (large ? kFusedRowsOfLarge : kFusedRows);
  }

  // Its inputs and gates begin at `first` of the chunk.
  void step(const Shard& s, int64_t t, int64_t first, Scratch& x) {
    const int64_t n = active(s.rows, t);
    float* const* gates = x.projected.data() + first;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.h_prev[i] = history_.h_before(s.d, t, r);
      x.c_prev[i] = cell_before(s.d, t, r);
      x.c[i] = history_.cell(s.d, t, r);
      x.h[i] = history_.y(s.d, t, r);
    }
    const Range groups = my_groups(s);
    const float clip = static_cast<float>(p_.cell_clip);
    if (packed_) {
      for (int64_t g = groups.begin; g < groups.end; ++g)
        kernels_.step({n, p_.hidden, x.h_prev.data(), recurrent_[s.d].at(g), p_.input,
                       fused(s) ? x.x.data() + first : nullptr, input_[s.d].at(g),
                       bias_[s.d].get() + g * Bf16Panels::kWidth, gates, x.c_prev.data(), x.c.data(), x.h.data(),
                       g * kBf16Lanes, layout_.valid(g), p_.keeps_gates(), clip});
    } else {
      multiply_unpacked(s, in_.weights[s.d].w_hh, p_.hidden, x.h_prev.data(), n, gates);
      kernels_.cell_forward({n, groups.begin * kBf16Lanes, groups.end * kBf16Lanes, p_.hidden, gates, x.c_prev.data(),
                             x.c.data(), x.h.data(), p_.keeps_gates(), clip});
    }
    s.team.sync();
  }
};

}  // namespace

void bf16_forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
                  const Parallel& parallel) {
  Parallel useful = parallel;
  useful.threads = useful_threads(p, parallel.threads);
  Forward(p, rows, in, out).run(useful);
}

}  // namespace fused_lstm::cpu
