#include "cpu/recall.h"

#include "cell/variants.h"
#include "cpu/unit_numbers.h"

namespace fused_lstm::cpu {

template <class T>
Recall<T>::Recall(const Problem& p, const Rows& rows, const LayerInputs& in, const Kernels<T>& kernels,
                  const History<T>& history, int members)
    : p_(p), rows_(rows), in_(in), kernels_(kernels), history_(history), layout_{p.hidden, kernels.lanes} {
  if (!p.recompute) return;
  for (int d = 0; d < p.directions(); ++d) {
    bias_[d] = gate_bias(p, layout_, in.weights[d]);
    input_[d] = Panels<T>(kernels, p.input, layout_.columns());
    recurrent_[d] = Panels<T>(kernels, p.output(), layout_.columns());
  }
  for (int i = 0; i < members; ++i) {
    Scratch s{Buffer<T>(p.padded_hidden()), Buffer<T>(p.hidden), {}, {}, {}, {}, {}};
    for (auto* of : {&s.c_prev, &s.h_prev, &s.inputs}) of->resize(kChunkRows);
    s.c_rows.assign(kChunkRows, s.c.get());
    s.h_rows.assign(kChunkRows, s.h.get());
    scratch_.push_back(std::move(s));
  }
}

template <class T>
void Recall<T>::pack(int d, const Member& m) {
  const DirectionWeights& w = in_.weights[d];
  pack_gates(kernels_, layout_, static_cast<const T*>(w.w_ih), input_[d], m);
  pack_gates(kernels_, layout_, static_cast<const T*>(w.w_hh), recurrent_[d], m);
}

// What the cell reads of the rows from compact index `first` on, the first of them at step t or later.
template <class T>
void Recall<T>::point_at(int d, int64_t first, int64_t n, int64_t& t, Scratch& s) const {
  const CellShape& shape = kCellShapes[p_.cell];
  for (int64_t i = 0; i < n; ++i) {
    while (rows_.compact(t + 1, 0) <= first + i) ++t;
    const int64_t r = first + i - rows_.compact(t, 0);
    s.c_prev[i] = history_.c_before(d, t, r);
    if (shape.reads_h_prev) s.h_prev[i] = history_.h_before(d, t, r);
    if (shape.inputs) s.inputs[i] = history_.cell_inputs(d, t, r);
  }
}

template <class T>
void Recall<T>::run(int d, const Block& block, const RecallRows<T>& rows, const T* params, const Member& m) {
  const Range mine = part(block.rows.size(), m.index, m.size);
  const Range groups{0, layout_.groups()};
  Scratch& s = scratch_[m.index];
  int64_t t = block.steps.begin;
  for (int64_t at = mine.begin; at < mine.end; at += kChunkRows) {
    const int64_t n = std::min(kChunkRows, mine.end - at), first = block.rows.begin + at;
    point_at(d, first, n, t, s);
    Product<T> x{&kernels_, &input_[d], groups, rows.x + first};
    x.n = n, x.bias = bias_[d].get(), x.c = rows.gates + at;
    multiply(x);
    Product<T> h{&kernels_, &recurrent_[d], groups, rows.h + first};
    h.n = n, h.accumulate = true, h.c = rows.gates + at;
    multiply(h);
    T* const* unprojected = rows.unprojected ? rows.unprojected + at : s.h_rows.data();
    kernels_.cell_forward[p_.cell]({n, 0, groups.end * layout_.lanes, p_.hidden, p_.padded_hidden(), rows.gates + at,
                                    s.c_prev.data(), s.c_rows.data(), s.h_prev.data(), unprojected, params,
                                    s.inputs.data(), true, T(p_.cell_clip)});
  }
}

template class Recall<float>;
template class Recall<double>;

}  // namespace fused_lstm::cpu
