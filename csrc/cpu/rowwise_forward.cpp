// Forward over time for cells that need a whole row. Members split rows and never meet until the end.

#include <vector>

#include "core/reserve.h"
#include "cpu/history.h"
#include "cpu/layer.h"
#include "cpu/panels.h"
#include "cpu/round.h"
#include "cpu/rowwise.h"
#include "cpu/shards.h"

namespace fused_lstm::cpu {
namespace {

// Rows that are projected together, at least, if there are so many.
constexpr int64_t kChunkRows = 96;

template <class T>
class RowwiseForward {
 public:
  RowwiseForward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out, int members)
      : p_(p),
        H(p.hidden),
        rows_(rows),
        in_(in),
        out_(out),
        shape_(kCellShapes[p.cell]),
        kernels_(isa().kernels<T>()),
        maths_(p, kernels_),
        state_(p.save_for_backward ? 0 : p.directions() * p.batch * p.padded_hidden()),
        history_(p, rows, in, out.y, cells(), p.save_for_backward),
        members_(members) {
    const int64_t recurrent = shape_.output_cell ? 3 * H : 4 * H;
    for (int d = 0; d < p.directions(); ++d) {
      input_[d] = Panels<T>(kernels_, p.input, 4 * H);
      recurrent_[d] = Panels<T>(kernels_, p.output(), recurrent);
      if (shape_.output_cell) output_[d] = Panels<T>(kernels_, H, H);
      if (p.projection) projection_[d] = Panels<T>(kernels_, H, p.projection);
      params_[d] = RowParams<T>(shape_, static_cast<const T*>(in.cell_params) + d * shape_.params * H, H);
      bias_[d] = Buffer<T>(4 * H);
      const T* b_ih = static_cast<const T*>(in.weights[d].b_ih);
      const T* b_hh = static_cast<const T*>(in.weights[d].b_hh);
      for (int64_t j = 0; j < 4 * H; ++j) bias_[d][j] = p.bias ? b_ih[j] + b_hh[j] : T(0);
    }
  }

  void run(const Parallel& parallel) {
    std::vector<Scratch> scratch;
    for (int i = 0; i < members_; ++i) scratch.push_back(Scratch(*this));
    if (p_.save_for_backward)  // padding must not hold what memory happened to hold
      std::memset(out_.reserve, 0, p_.directions() * rows_.capacity() * 5 * p_.padded_hidden() * sizeof(T));
    auto body = [&](const Member& m) {
      for (int d = 0; d < p_.directions(); ++d) pack(d, m);
      m.sync();
      const Range mine = rows_of_member(p_, rows_, m);
      for (int d = 0; d < p_.directions(); ++d) run_rows(d, mine, scratch[m.index]);
    };
    run_team(parallel, members_, body);
    for (int d = 0; d < p_.directions(); ++d) finish(d);
  }

 private:
  struct Scratch {
    RowBuffer<T> gates, recurrent, scaled, c_new, unprojected;
    Buffer<T> shown;
    std::vector<const T*> a, h_prev;
    std::vector<T*> projected, out;

    explicit Scratch(const RowwiseForward& f)
        : gates(f.p_.save_for_backward ? 0 : f.chunk_capacity(), 4 * f.H),
          recurrent(f.p_.batch, 4 * f.H),
          scaled(f.in_.recurrent_scale ? f.p_.batch : 0, f.p_.output()),
          c_new(f.p_.batch, f.H),
          unprojected(f.p_.projection ? f.p_.batch : 0, f.H),
          shown(f.H),
          a(f.chunk_capacity()),
          h_prev(f.p_.batch),
          projected(f.chunk_capacity()),
          out(f.p_.batch) {}
  };

  const Problem& p_;
  const int64_t H;
  const Rows& rows_;
  const LayerInputs& in_;
  const ForwardOutputs& out_;
  const CellShape& shape_;
  const Kernels<T>& kernels_;
  const RowMaths<T> maths_;
  Buffer<T> state_;  // inference: the running cell state
  T* cells_[2] = {};
  History<T> history_;
  const int members_;
  Panels<T> input_[2], recurrent_[2], output_[2], projection_[2];
  RowParams<T> params_[2];
  Buffer<T> bias_[2];

  T* const* cells() {
    const ReserveLayout reserve(p_, rows_.capacity());
    for (int d = 0; d < p_.directions(); ++d)
      cells_[d] = p_.save_for_backward ? static_cast<T*>(out_.reserve) + reserve.cells(d)
                                       : state_.get() + d * p_.batch * p_.padded_hidden();
    return cells_;
  }
  int64_t chunk_capacity() const { return kChunkRows + p_.batch; }
  int64_t active(Range mine, int64_t t) const {
    return std::max<int64_t>(0, std::min(mine.end, rows_.count(t)) - mine.begin);
  }
  T* reserve_gates(int d, int64_t t, int64_t r) const {
    const ReserveLayout reserve(p_, rows_.capacity());
    return static_cast<T*>(out_.reserve) + reserve.gates(d) + rows_.compact(t, r) * p_.gate_width();
  }

  void pack(int d, const Member& m) {
    const DirectionWeights& w = in_.weights[d];
    const T* w_hh = static_cast<const T*>(w.w_hh);
    pack_transpose(kernels_, static_cast<const T*>(w.w_ih), input_[d], m);
    pack_transpose(kernels_, w_hh, recurrent_[d], m);
    if (shape_.output_cell) pack_transpose(kernels_, w_hh + 3 * H * H, output_[d], m);
    if (p_.projection) pack_transpose(kernels_, static_cast<const T*>(w.w_hr), projection_[d], m);
  }

  void product(const Panels<T>& panels, const T* const* a, int64_t n, T* const* c, bool accumulate = false) const {
    Product<T> m{&kernels_, &panels, {0, panels.count()}, a};
    m.n = n, m.c = c, m.accumulate = accumulate;
    multiply(m);
  }

  void run_rows(int d, Range mine, Scratch& x) {
    if (!p_.save_for_backward)
      for (int64_t r = mine.begin; r < mine.end; ++r)
        std::memcpy(history_.cell(d, 0, r), history_.initial_c(d, r), p_.padded_hidden() * sizeof(T));
    for (int64_t k = 0; k < p_.steps;) {
      int64_t n = 0, end = k;
      do {
        const int64_t t = history_.step(d, end++);
        for (int64_t i = 0; i < active(mine, t); ++i, ++n) {
          x.a[n] = static_cast<const T*>(in_.x.data) + rows_.at(in_.x, t, mine.begin + i);
          x.projected[n] = p_.save_for_backward ? reserve_gates(d, t, mine.begin + i) : x.gates[n];
        }
      } while (end < p_.steps && n + mine.size() <= kChunkRows);
      product(input_[d], x.a.data(), n, x.projected.data());
      for (n = 0; k < end; ++k) {
        const int64_t t = history_.step(d, k);
        step(d, t, mine, x.projected.data() + n, x);
        n += active(mine, t);
      }
    }
  }

  void step(int d, int64_t t, Range mine, T* const* gates, Scratch& x) {
    const int64_t n = active(mine, t), width = p_.output();
    for (int64_t i = 0; i < n; ++i) {
      x.h_prev[i] = history_.h_before(d, t, mine.begin + i);
      if (!in_.recurrent_scale) continue;
      const T* scale = history_.scale(d, mine.begin + i);
      for (int64_t j = 0; j < width; ++j) x.scaled[i][j] = scale[j] * x.h_prev[i][j];
      x.h_prev[i] = x.scaled[i];
    }
    product(recurrent_[d], x.h_prev.data(), n, x.recurrent.rows.data());
    for (int64_t i = 0; i < n; ++i)
      maths_.gates_and_cell(row(d, t, mine.begin + i, gates[i], i, x), params_[d], bias_[d].get());
    if (shape_.output_cell) {
      for (int64_t i = 0; i < n; ++i) x.out[i] = gates[i] + 3 * H;
      product(output_[d], x.c_new.rows.data(), n, x.out.data(), true);
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t r = mine.begin + i;
      x.out[i] = history_.y(d, t, r);
      T* h = p_.projection ? x.unprojected[i] : x.out[i];
      maths_.output(row(d, t, r, gates[i], i, x), params_[d], x.shown.get(), h, history_.cell(d, t, r));
    }
    if (p_.projection) product(projection_[d], x.unprojected.rows.data(), n, x.out.data());
    for (int64_t i = 0; i < n; ++i) {
      if (p_.proj_clip > 0)
        for (int64_t j = 0; j < width; ++j) x.out[i][j] = limited_to(T(p_.proj_clip), x.out[i][j]);
      round_to(p_.dtype, x.out[i], width);
    }
  }

  Row<T> row(int d, int64_t t, int64_t r, T* gates, int64_t i, const Scratch& x) const {
    const bool kept = p_.save_for_backward || history_.cut_before(d, t, r);  // else in place
    return {gates,
            x.recurrent[i],
            kept ? history_.c_before(d, t, r) : history_.cell(d, t, r),
            history_.h_before(d, t, r),
            shape_.inputs ? history_.cell_inputs(d, t, r) : nullptr,
            x.c_new[i]};
  }

  void finish(int d) {
    const int64_t width = p_.output();
    for (int64_t r = 0; r < p_.batch; ++r) {
      const int64_t length = rows_.length(r), user = d * p_.batch + rows_.user_row(r);
      const int64_t last = p_.reversed(d) ? 0 : length - 1;
      const T* h = length ? history_.y(d, last, r) : history_.initial_h(d, r);
      const T* c = length ? history_.cell(d, last, r) : history_.initial_c(d, r);
      std::memcpy(static_cast<T*>(out_.h_n) + user * width, h, width * sizeof(T));
      std::memcpy(static_cast<T*>(out_.c_n) + user * H, c, H * sizeof(T));
      for (int64_t t = length; !rows_.is_packed() && t < p_.steps; ++t)
        std::memset(history_.y(d, t, r), 0, width * sizeof(T));
    }
  }
};

}  // namespace

template <class T>
void rowwise_forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
                     const Parallel& parallel) {
  const auto members = std::max<int64_t>(1, std::min<int64_t>(p.batch, useful_threads(p, parallel.threads)));
  RowwiseForward<T>(p, rows, in, out, static_cast<int>(members)).run(parallel);
}

template void rowwise_forward<float>(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&,
                                     const Parallel&);
template void rowwise_forward<double>(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&,
                                      const Parallel&);

}  // namespace fused_lstm::cpu
