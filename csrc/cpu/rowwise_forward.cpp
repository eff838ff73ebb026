// Forward over time for cells that need a whole row. Members split rows and never meet until the end.

#include <vector>

#include "cpu/layer.h"
#include "cpu/panels.h"
#include "cpu/pass.h"
#include "cpu/round.h"
#include "cpu/rowwise.h"
#include "cpu/shards.h"

namespace fused_lstm::cpu {
namespace {

template <class T>
class RowwiseForward : ForwardPass<T> {
 public:
  RowwiseForward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out, int members)
      : ForwardPass<T>(p, rows, in, out),
        H(p.hidden),
        shape_(kCellShapes[p.cell]),
        kernels_(isa().kernels<T>()),
        maths_(p, kernels_),
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
    auto body = [&](const Member& m) {
      for (int d = 0; d < p_.directions(); ++d) pack(d, m);
      this->clear_unused(4 * H, H, m);
      m.sync();
      const Range mine = rows_of_member(p_, rows_, m);
      for (int d = 0; d < p_.directions(); ++d) run_rows(d, mine, scratch[m.index]);
    };
    run_team(parallel, members_, body);
    this->finish();
  }

 private:
  struct Scratch {
    RowBuffer<T> recurrent, scaled, c_new, unprojected;
    Buffer<T> gates, shown;
    std::vector<const T*> a, h_prev;
    std::vector<T*> projected, out;

    explicit Scratch(const RowwiseForward& f)
        : recurrent(f.p_.batch, 4 * f.H),
          scaled(f.in_.recurrent_scale ? f.p_.batch : 0, f.p_.output()),
          c_new(f.p_.batch, f.H),
          unprojected(f.p_.projection ? f.p_.batch : 0, f.H),
          gates(f.chunk_gates()),
          shown(f.H),
          a(f.chunk_capacity()),
          h_prev(f.p_.batch),
          projected(f.chunk_capacity()),
          out(f.p_.batch) {}
  };

  using ForwardPass<T>::p_;
  using ForwardPass<T>::in_;
  using ForwardPass<T>::rows_;
  using ForwardPass<T>::history_;
  const int64_t H;
  const CellShape& shape_;
  const Kernels<T>& kernels_;
  const RowMaths<T> maths_;
  const int members_;
  Panels<T> input_[2], recurrent_[2], output_[2], projection_[2];
  RowParams<T> params_[2];
  Buffer<T> bias_[2];

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
    this->start_in_place(d, mine);
    for (int64_t k = 0, end; k < p_.steps;) {
      int64_t n = this->fill_chunk(d, mine, k, end, x.gates.get(), x.a.data(), x.projected.data());
      product(input_[d], x.a.data(), n, x.projected.data());
      for (n = 0; k < end; ++k) {
        const int64_t t = history_.step(d, k);
        step(d, t, mine, x.projected.data() + n, x);
        n += this->active(mine, t);
      }
    }
  }

  void step(int d, int64_t t, Range mine, T* const* gates, Scratch& x) {
    const int64_t n = this->active(mine, t), width = p_.output();
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
    return {gates,
            x.recurrent[i],
            this->cell_before(d, t, r),
            history_.h_before(d, t, r),
            shape_.inputs ? history_.cell_inputs(d, t, r) : nullptr,
            x.c_new[i]};
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
