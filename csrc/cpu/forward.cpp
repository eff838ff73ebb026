// Forward over time. A chunk of steps is projected (x * W_ih for all of its rows at once, while weights and results
// stay in cache), then those steps run one after the other; the vanilla cell never leaves the registers in between.

#include <vector>

#include "cpu/layer.h"
#include "cpu/panels.h"
#include "cpu/pass.h"
#include "cpu/round.h"
#include "cpu/shards.h"
#include "cpu/unit_numbers.h"

namespace fused_lstm::cpu {
namespace {

template <class T>
class Forward : ForwardPass<T> {
 public:
  Forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out)
      : ForwardPass<T>(p, rows, in, out),
        kernels_(isa().kernels<T>()),
        layout_{p.hidden, kernels_.lanes},
        packed_(p.total > kUnpackedRows),
        fused_(packed_ && p.cell == kVanilla && !(p.cell_clip > 0)) {
    for (int d = 0; d < p.directions(); ++d) {
      bias_[d] = gate_bias(p, layout_, in.weights[d]);
      params_[d] = padded_params<T>(p, in, d);
      if (packed_) input_[d] = Panels<T>(kernels_, p.input, layout_.columns());
      if (packed_) recurrent_[d] = Panels<T>(kernels_, p.output(), layout_.columns());
      if (p.projection) {
        projection_[d] = Panels<T>(kernels_, p.hidden, p.projection);
        unprojected_[d] = Buffer<T>(p.batch * p.hidden);
      }
    }
  }

  void run(const Parallel& parallel) {
    std::vector<Scratch> scratch;
    for (int i = 0; i < parallel.threads; ++i) scratch.push_back(Scratch(*this));
    DirectionBarriers barriers;
    auto body = [&](const Member& m) {
      pack(m);
      this->clear_unused(layout_.columns(), layout_.groups() * layout_.lanes, m);
      m.sync();
      const Shards shards = shards_of(p_, rows_, kernels_.row_tile, m, barriers);
      for (int i = 0; i < shards.count; ++i) run_shard(shards.list[i], scratch[m.index]);
    };
    run_team(parallel, static_cast<int>(scratch.size()), body);
    this->finish();
  }

 private:
  // What one member needs for itself; allocated before the team starts, which must not throw.
  struct Scratch {
    Buffer<T> gates;      // where they are not kept: pre-activations of one chunk
    Buffer<T> scaled;     // recurrent_scale * h of one step
    std::vector<const T*> a, h_prev, c_prev, inputs;
    std::vector<T*> projected, c, h;

    explicit Scratch(const Forward& f)
        : gates(f.chunk_gates()),
          scaled(f.in_.recurrent_scale ? f.p_.batch * f.p_.output() : 0),
          a(f.chunk_capacity()),
          h_prev(f.p_.batch),
          c_prev(f.p_.batch),
          inputs(f.p_.batch),
          projected(f.chunk_capacity()),
          c(f.p_.batch),
          h(f.p_.batch) {}
  };

  using ForwardPass<T>::p_;
  using ForwardPass<T>::in_;
  using ForwardPass<T>::rows_;
  using ForwardPass<T>::history_;
  const Kernels<T>& kernels_;
  const GateLayout<T> layout_;
  const bool packed_, fused_;
  Buffer<T> bias_[2], params_[2], unprojected_[2];
  Panels<T> input_[2], recurrent_[2], projection_[2];

  Range my_groups(const Shard& s) const { return part(layout_.groups(), s.team.index, s.team.size); }

  void pack(const Member& m) {
    for (int d = 0; d < p_.directions(); ++d) {
      const DirectionWeights& w = in_.weights[d];
      if (packed_) {
        pack_gates(kernels_, layout_, static_cast<const T*>(w.w_ih), input_[d], m);
        pack_gates(kernels_, layout_, static_cast<const T*>(w.w_hh), recurrent_[d], m);
      }
      if (p_.projection) pack_transpose(kernels_, static_cast<const T*>(w.w_hr), projection_[d], m);
    }
  }

  void run_shard(const Shard& s, Scratch& x) {
    if (s.team.index == 0) this->start_in_place(s.d, s.rows);
    s.team.sync();
    for (int64_t k = 0, end; k < p_.steps;) {
      int64_t n = this->fill_chunk(s.d, s.rows, k, end, x.gates.get(), x.a.data(), x.projected.data());
      project_input(s, x, n);
      for (n = 0; k < end; ++k) {
        const int64_t t = history_.step(s.d, k);
        step(s, t, x.projected.data() + n, x);
        n += this->active(s.rows, t);
      }
    }
  }

  void project_input(const Shard& s, Scratch& scratch, int64_t n) {
    const Range groups = my_groups(s);
    if (packed_) {
      Product<T> m{&kernels_, &input_[s.d], groups, scratch.a.data()};
      m.n = n, m.bias = bias_[s.d].get(), m.c = scratch.projected.data();
      return multiply(m);
    }
    const int64_t first = 4 * layout_.lanes * groups.begin, count = 4 * layout_.lanes * groups.size();
    for (int64_t i = 0; i < n; ++i)
      std::memcpy(scratch.projected[i] + first, bias_[s.d].get() + first, count * sizeof(T));
    multiply_unpacked(s, in_.weights[s.d].w_ih, p_.input, scratch.a.data(), n, scratch.projected.data());
  }

  void multiply_unpacked(const Shard& s, const void* weight, int64_t k, const T* const* a, int64_t n, T* const* c) {
    const Range groups = my_groups(s);
    const int64_t end = std::min(groups.end * layout_.lanes, p_.hidden);
    for (int64_t unit = groups.begin * layout_.lanes; unit < end; ++unit) {
      const T* w[4];
      int64_t column[4];
      for (int q = 0; q < 4; ++q) {
        w[q] = static_cast<const T*>(weight) + (q * p_.hidden + unit) * k;
        column[q] = layout_.column(q, unit);
      }
      kernels_.dot4({n, k, a, w, c, column, true});
    }
  }

  void step(const Shard& s, int64_t t, T* const* gates, Scratch& x) {
    const int64_t n = this->active(s.rows, t);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.h_prev[i] = history_.h_before(s.d, t, r);
      x.c_prev[i] = this->cell_before(s.d, t, r);
      x.c[i] = history_.cell(s.d, t, r);
      x.h[i] = p_.projection ? unprojected_[s.d].get() + r * p_.hidden : history_.y(s.d, t, r);
    }
    if (in_.recurrent_scale) scale_h(s, n, x);
    const Range groups = my_groups(s);
    if (fused_) {
      for (int64_t i = 0; i < groups.size(); ++i) {
        const int64_t g = there_and_back(s, groups, i, t);
        kernels_.step({n, p_.output(), x.h_prev.data(), recurrent_[s.d].at(g), gates, x.c_prev.data(), x.c.data(),
                       x.h.data(), g * layout_.lanes, layout_.valid(g), p_.keeps_gates()});
      }
    } else {
      step_in_two(s, t, n, gates, x);
    }
    if (p_.projection) {
      s.team.sync();  // every unit is needed for every projected output
      project_output(s, t, n, x);
    } else {
      round_units(s, n, x);
    }
    s.team.sync();
  }

  void scale_h(const Shard& s, int64_t n, Scratch& x) {
    const int64_t width = p_.output();
    for (int64_t i = 0; i < n; ++i) {
      T* to = x.scaled.get() + i * width;
      const T* scale = history_.scale(s.d, s.rows.begin + i);
      for (int64_t j = 0; j < width; ++j) to[j] = scale[j] * x.h_prev[i][j];
      x.h_prev[i] = to;
    }
  }

  void step_in_two(const Shard& s, int64_t t, int64_t n, T* const* gates, Scratch& x) {
    const Range groups = my_groups(s);
    if (packed_) {
      Product<T> m{&kernels_, &recurrent_[s.d], groups, x.h_prev.data()};
      m.n = n, m.accumulate = true, m.c = gates;
      multiply(m);
    } else {
      multiply_unpacked(s, in_.weights[s.d].w_hh, p_.output(), x.h_prev.data(), n, gates);
    }
    const CellShape& shape = kCellShapes[p_.cell];
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      if (shape.inputs) x.inputs[i] = history_.cell_inputs(s.d, t, r);
      if (shape.reads_h_prev) x.h_prev[i] = history_.h_before(s.d, t, r);  // unscaled
    }
    kernels_.cell_forward[p_.cell]({n, groups.begin * layout_.lanes, groups.end * layout_.lanes, p_.hidden,
                                    p_.padded_hidden(), gates, x.c_prev.data(), x.c.data(), x.h_prev.data(), x.h.data(),
                                    params_[s.d].get(), x.inputs.data(), p_.keeps_gates(), T(p_.cell_clip)});
  }

  void project_output(const Shard& s, int64_t t, int64_t n, Scratch& x) {
    for (int64_t i = 0; i < n; ++i) {
      x.h_prev[i] = x.h[i];
      x.h[i] = history_.y(s.d, t, s.rows.begin + i);
    }
    const Panels<T>& panels = projection_[s.d];
    const Range mine = part(panels.count(), s.team.index, s.team.size);
    Product<T> m{&kernels_, &panels, mine, x.h_prev.data()};
    m.n = n, m.c = x.h.data();
    multiply(m);
    const int64_t begin = panels.begin(mine.begin), end = std::min(panels.begin(mine.end), p_.projection);
    for (int64_t i = 0; i < n; ++i) {
      limit(x.h[i], begin, end);
      round_to(p_.dtype, x.h[i] + begin, end - begin);
    }
  }

  void limit(T* h, int64_t begin, int64_t end) const {
    if (!(p_.proj_clip > 0)) return;
    for (int64_t j = begin; j < end; ++j) h[j] = limited_to(T(p_.proj_clip), h[j]);
  }

  void round_units(const Shard& s, int64_t n, Scratch& x) {
    const Range groups = my_groups(s);
    const int64_t begin = groups.begin * layout_.lanes, end = std::min(groups.end * layout_.lanes, p_.hidden);
    for (int64_t i = 0; i < n; ++i) round_to(p_.dtype, x.h[i] + begin, end - begin);
  }
};

}  // namespace

template <class T>
void forward_in(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
                const Parallel& parallel) {
  Parallel useful = parallel;
  useful.threads = useful_threads(p, parallel.threads);
  Forward<T>(p, rows, in, out).run(useful);
}

template void forward_in<float>(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&,
                                const Parallel&);
template void forward_in<double>(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&,
                                 const Parallel&);

}  // namespace fused_lstm::cpu
