// Forward over time. A chunk of steps is projected (x * W_ih for all of its rows at once, while weights and results
// stay in cache), then those steps run one after the other; the vanilla cell never leaves the registers in between.

#include <vector>

#include "core/reserve.h"
#include "cpu/history.h"
#include "cpu/layer.h"
#include "cpu/panels.h"
#include "cpu/round.h"
#include "cpu/shards.h"
#include "cpu/unit_numbers.h"

namespace fused_lstm::cpu {
namespace {

// Fewer rows than this never repay packing the weights: they are read once, as they lie.
constexpr int64_t kUnpackedRows = 12;
// Rows that are projected together: enough to amortise streaming W_ih, few enough to find their gates in L2.
constexpr int64_t kChunkRows = 96;

template <class T>
class Forward {
 public:
  Forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out)
      : p_(p),
        rows_(rows),
        in_(in),
        out_(out),
        kernels_(isa().kernels<T>()),
        layout_{p.hidden, kernels_.lanes},
        packed_(p.total > kUnpackedRows),
        fused_(packed_ && p.cell == kVanilla && !(p.cell_clip > 0)),
        state_(p.save_for_backward ? 0 : p.directions() * p.batch * p.padded_hidden()),
        history_(p, rows, in, out.y, cells(), p.save_for_backward) {
    for (int d = 0; d < p.directions(); ++d) {
      bias_[d] = gate_bias(p, layout_, in.weights[d]);
      params_[d] = Buffer<T>(kCellShapes[p.cell].params * p.padded_hidden());
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
      if (p_.save_for_backward) clear_unused(m);
      m.sync();
      const Shards shards = shards_of(p_, rows_, kernels_.row_tile, m, barriers);
      for (int i = 0; i < shards.count; ++i) run_shard(shards.list[i], scratch[m.index]);
    };
    run_team(parallel, static_cast<int>(scratch.size()), body);
    for (int d = 0; d < p_.directions(); ++d) finish(d);
  }

 private:
  // What one member needs for itself; allocated before the team starts, which must not throw.
  struct Scratch {
    Buffer<T> gates;      // where they are not kept: pre-activations of one chunk
    Buffer<T> scaled;     // recurrent_scale * h of one step
    std::vector<const T*> a, h_prev, c_prev, inputs;
    std::vector<T*> projected, c, h, gate_rows;

    explicit Scratch(const Forward& f)
        : gates(f.p_.keeps_gates() ? 0 : f.chunk_capacity() * f.p_.gate_width()),
          scaled(f.in_.recurrent_scale ? f.p_.batch * f.p_.output() : 0),
          a(f.chunk_capacity()),
          h_prev(f.p_.batch),
          c_prev(f.p_.batch),
          inputs(f.p_.batch),
          projected(f.chunk_capacity()),
          c(f.p_.batch),
          h(f.p_.batch),
          gate_rows(f.p_.batch) {}
  };

  const Problem& p_;
  const Rows& rows_;
  const LayerInputs& in_;
  const ForwardOutputs& out_;
  const Kernels<T>& kernels_;
  const GateLayout<T> layout_;
  const bool packed_, fused_;
  Buffer<T> state_;  // inference: the running cell state
  T* cells_[2] = {};
  History<T> history_;
  Buffer<T> bias_[2], params_[2], unprojected_[2];
  Panels<T> input_[2], recurrent_[2], projection_[2];

  T* const* cells() {
    const ReserveLayout reserve(p_, rows_.capacity());
    for (int d = 0; d < p_.directions(); ++d)
      cells_[d] = p_.save_for_backward ? static_cast<T*>(out_.reserve) + reserve.cells(d)
                                       : state_.get() + d * p_.batch * p_.padded_hidden();
    return cells_;
  }
  int64_t chunk_capacity() const { return kChunkRows + p_.batch; }
  int64_t active(const Shard& s, int64_t t) const {
    return std::max<int64_t>(0, std::min(s.rows.end, rows_.count(t)) - s.rows.begin);
  }
  Range my_groups(const Shard& s) const { return part(layout_.groups(), s.team.index, s.team.size); }

  void pack(const Member& m) {
    for (int d = 0; d < p_.directions(); ++d) {
      const DirectionWeights& w = in_.weights[d];
      if (packed_) {
        pack_gates(kernels_, layout_, static_cast<const T*>(w.w_ih), input_[d], m);
        pack_gates(kernels_, layout_, static_cast<const T*>(w.w_hh), recurrent_[d], m);
      }
      if (p_.projection) pack_transpose(kernels_, static_cast<const T*>(w.w_hr), projection_[d], m);
      if (m.index == 0) pack_params(d);
    }
  }

  void pack_params(int d) {
    const int params = kCellShapes[p_.cell].params;
    for (int64_t i = 0; i < params * p_.padded_hidden(); ++i) {
      const int64_t k = i / p_.padded_hidden(), unit = i % p_.padded_hidden();
      const T* from = static_cast<const T*>(in_.cell_params) + (d * params + k) * p_.hidden;
      params_[d][i] = unit < p_.hidden ? from[unit] : T(0);
    }
  }

  void run_shard(const Shard& s, Scratch& scratch) {
    if (!p_.save_for_backward) copy_initial_cells(s);
    s.team.sync();
    int64_t k = 0;
    while (k < p_.steps) {
      int64_t n = 0, end = k;
      do {
        const int64_t t = history_.step(s.d, end);
        for (int64_t i = 0; i < active(s, t); ++i, ++n) {
          const int64_t r = s.rows.begin + i;
          scratch.a[n] = static_cast<const T*>(in_.x.data) + rows_.at(in_.x, t, r);
          scratch.projected[n] =
              p_.keeps_gates() ? reserve_gates(s.d, t, r) : scratch.gates.get() + n * p_.gate_width();
        }
        ++end;
      } while (end < p_.steps && n + s.rows.size() <= kChunkRows);
      project_input(s, scratch, n);
      for (n = 0; k < end; ++k) {
        const int64_t t = history_.step(s.d, k);
        step(s, t, scratch.projected.data() + n, scratch);
        n += active(s, t);
      }
    }
  }

  T* reserve_gates(int d, int64_t t, int64_t r) const {
    const ReserveLayout reserve(p_, rows_.capacity());
    return static_cast<T*>(out_.reserve) + reserve.gates(d) + rows_.compact(t, r) * p_.gate_width();
  }

  // Padded units and padded steps: nobody reads them, but a result must not hold what memory happened to hold.
  void clear_unused(const Member& m) {
    const int64_t gates = p_.gate_width(), cells = p_.padded_hidden(), units = layout_.groups() * layout_.lanes;
    const Range used = part(p_.total, m.index, m.size);
    const Range unused = part(rows_.capacity() - p_.total, m.index, m.size);
    const ReserveLayout reserve(p_, rows_.capacity());
    for (int d = 0; d < p_.directions(); ++d) {
      T* g = static_cast<T*>(out_.reserve) + reserve.gates(d);
      T* c = static_cast<T*>(out_.reserve) + reserve.cells(d);
      for (int64_t i = used.begin; i < used.end && units < cells; ++i) {
        if (p_.keeps_gates()) std::memset(g + i * gates + 4 * units, 0, (gates - 4 * units) * sizeof(T));
        std::memset(c + i * cells + units, 0, (cells - units) * sizeof(T));
      }
      if (p_.keeps_gates()) std::memset(g + (p_.total + unused.begin) * gates, 0, unused.size() * gates * sizeof(T));
      std::memset(c + (p_.total + unused.begin) * cells, 0, unused.size() * cells * sizeof(T));
    }
  }

  // In place: the state of a row is its initial one until its first step.
  void copy_initial_cells(const Shard& s) {
    if (s.team.index != 0) return;
    for (int64_t r = s.rows.begin; r < s.rows.end; ++r)
      std::memcpy(history_.cell(s.d, 0, r), history_.initial_c(s.d, r), p_.padded_hidden() * sizeof(T));
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
    const int64_t n = active(s, t);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = s.rows.begin + i;
      x.h_prev[i] = history_.h_before(s.d, t, r);
      x.c_prev[i] = cell_before(s.d, t, r);
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

  // Without a cell of its own (kept in place), a row reads what initial_c left there.
  const T* cell_before(int d, int64_t t, int64_t r) const {
    if (p_.save_for_backward || history_.cut_before(d, t, r)) return history_.c_before(d, t, r);
    return history_.cell(d, t, r);
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

  void finish(int d) {
    const int64_t width = p_.output();
    for (int64_t r = 0; r < p_.batch; ++r) {
      const int64_t length = rows_.length(r), user = d * p_.batch + rows_.user_row(r);
      const int64_t last = p_.reversed(d) ? 0 : length - 1;
      const T* h = length ? history_.y(d, last, r) : history_.initial_h(d, r);
      const T* c = length ? history_.cell(d, last, r) : history_.initial_c(d, r);
      std::memcpy(static_cast<T*>(out_.h_n) + user * width, h, width * sizeof(T));
      std::memcpy(static_cast<T*>(out_.c_n) + user * p_.hidden, c, p_.hidden * sizeof(T));
      for (int64_t t = length; !rows_.is_packed() && t < p_.steps; ++t)
        std::memset(history_.y(d, t, r), 0, width * sizeof(T));
    }
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
