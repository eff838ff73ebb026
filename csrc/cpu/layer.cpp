// The border where 16-bit tensors become float and come back. float32 and float64 pass through untouched.

#include "cpu/layer.h"

#include <algorithm>
#include <vector>

#include "cell/variants.h"
#include "cpu/bf16.h"
#include "cpu/memory.h"
#include "cpu/round.h"

namespace fused_lstm::cpu {
namespace {

class Converter {
 public:
  Converter(const Problem& p, const Rows& rows, const Parallel& parallel) : p_(p), rows_(rows), parallel_(parallel) {}

  const float* widened(const void* from, int64_t count) {
    if (!from) return nullptr;
    float* to = fresh(count);
    widen(p_.dtype, from, to, count);
    return to;
  }
  float* fresh(int64_t count) {
    buffers_.emplace_back(std::max<int64_t>(count, 1));
    return buffers_.back().get();
  }
  // A contiguous float sheet of the same steps and rows.
  Sheet like(const Sheet& s, int64_t features) {
    if (!s.data) return {};
    const int64_t rows = rows_.is_packed() ? rows_.total() : p_.steps * p_.batch;
    return {fresh(rows * features), p_.batch * features, features};
  }
  Sheet widened(const Sheet& s, int64_t features) {
    const Sheet to = like(s, features);
    each_step(s, [&](int64_t t, int64_t r) {
      widen(p_.dtype, static_cast<const uint16_t*>(s.data) + rows_.at(s, t, r),
            static_cast<float*>(to.data) + rows_.at(to, t, r), features);
    });
    return to;
  }
  void narrowed(const Sheet& from, const Sheet& to, int64_t features) {
    each_step(to, [&](int64_t t, int64_t r) {
      narrow(p_.dtype, static_cast<const float*>(from.data) + rows_.at(from, t, r),
             static_cast<uint16_t*>(to.data) + rows_.at(to, t, r), features);
    });
  }
  void narrowed(const void* from, void* to, int64_t count) {
    if (to) narrow(p_.dtype, static_cast<const float*>(from), to, count);
  }

  LayerInputs widened(const LayerInputs& in) {
    const int64_t directions = p_.directions(), gates = 4 * p_.hidden;
    const CellShape& shape = kCellShapes[p_.cell];
    LayerInputs out;
    out.x = widened(in.x, p_.input);
    out.resets = in.resets;
    out.h0 = widened(in.h0, directions * p_.batch * p_.output());
    out.c0 = widened(in.c0, directions * p_.batch * p_.hidden);
    out.recurrent_scale = widened(in.recurrent_scale, directions * p_.batch * p_.output());
    out.cell_params = widened(in.cell_params, directions * shape.params * p_.hidden);
    for (int d = 0; d < directions; ++d) {
      const DirectionWeights& w = in.weights[d];
      out.weights[d] = {widened(w.w_ih, gates * p_.input), widened(w.w_hh, gates * p_.output()), widened(w.b_ih, gates),
                        widened(w.b_hh, gates), widened(w.w_hr, p_.projection * p_.hidden)};
      out.cell_inputs[d] = widened(in.cell_inputs[d], shape.inputs * p_.hidden);
    }
    return out;
  }

 private:
  const Problem& p_;
  const Rows& rows_;
  const Parallel& parallel_;
  std::vector<Buffer<float>> buffers_;

  // Padding included, where there is any: outputs are written there, inputs hold numbers that nobody will read.
  template <class Body>
  void each_step(const Sheet& s, const Body& body) {
    if (!s.data) return;
    auto work = [&](const Member& m) {
      const Range mine = part(p_.steps, m.index, m.size);
      for (int64_t t = mine.begin; t < mine.end; ++t)
        for (int64_t r = 0; r < (rows_.is_packed() ? rows_.count(t) : p_.batch); ++r) body(t, r);
    };
    run_team(parallel_, parallel_.threads, work);
  }
};

template <class T>
void forward_by_cell(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
                     const Parallel& parallel) {
  (kCellShapes[p.cell].elementwise() ? forward_in<T> : rowwise_forward<T>)(p, rows, in, out, parallel);
}
template <class T>
void backward_by_cell(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                      const BackwardOutputs& out, const Parallel& parallel) {
  (kCellShapes[p.cell].elementwise() ? backward_in<T> : rowwise_backward<T>)(p, rows, in, grads, out, parallel);
}

void forward_16bit(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
                   const Parallel& parallel) {
  Converter convert(p, rows, parallel);
  const int64_t directions = p.directions(), y_width = directions * p.output();
  const int64_t h = directions * p.batch * p.output(), c = directions * p.batch * p.hidden;
  const ForwardOutputs wide{convert.like(out.y, y_width), convert.fresh(h), convert.fresh(c), out.reserve};
  forward_by_cell<float>(p, rows, convert.widened(in), wide, parallel);
  convert.narrowed(wide.y, out.y, y_width);
  convert.narrowed(wide.h_n, out.h_n, h);
  convert.narrowed(wide.c_n, out.c_n, c);
}

void backward_16bit(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
                    const BackwardOutputs& out, const Parallel& parallel) {
  Converter convert(p, rows, parallel);
  const int64_t directions = p.directions(), y_width = directions * p.output();
  const int64_t h = directions * p.batch * p.output(), c = directions * p.batch * p.hidden, gates = 4 * p.hidden;
  const int64_t params = directions * kCellShapes[p.cell].params * p.hidden;
  const BackwardInputs wide_grads{convert.widened(grads.dy, y_width), convert.widened(grads.dh_n, h),
                                  convert.widened(grads.dc_n, c), convert.widened(grads.y, y_width), grads.reserve};
  const auto fresh = [&](const void* asked, int64_t count) { return asked ? convert.fresh(count) : nullptr; };
  BackwardOutputs wide;
  wide.dx = convert.like(out.dx, p.input);
  if (wide.dx.data && !rows.is_rectangle())
    std::fill_n(static_cast<float*>(wide.dx.data), rows.capacity() * p.input, 0.0f);
  wide.dh0 = fresh(out.dh0, h);
  wide.dc0 = fresh(out.dc0, c);
  wide.drecurrent_scale = fresh(out.drecurrent_scale, h);
  wide.dcell_params = fresh(out.dcell_params, params);
  for (int d = 0; d < directions; ++d) {
    wide.dw_ih[d] = fresh(out.dw_ih[d], gates * p.input);
    wide.dw_hh[d] = fresh(out.dw_hh[d], gates * p.output());
    wide.dbias[d] = fresh(out.dbias[d], gates);
    wide.dw_hr[d] = fresh(out.dw_hr[d], p.projection * p.hidden);
  }
  backward_by_cell<float>(p, rows, convert.widened(in), wide_grads, wide, parallel);
  convert.narrowed(wide.dx, out.dx, p.input);
  convert.narrowed(wide.dh0, out.dh0, h);
  convert.narrowed(wide.dc0, out.dc0, c);
  convert.narrowed(wide.drecurrent_scale, out.drecurrent_scale, h);
  convert.narrowed(wide.dcell_params, out.dcell_params, params);
  for (int d = 0; d < directions; ++d) {
    convert.narrowed(wide.dw_ih[d], out.dw_ih[d], gates * p.input);
    convert.narrowed(wide.dw_hh[d], out.dw_hh[d], gates * p.output());
    convert.narrowed(wide.dbias[d], out.dbias[d], gates);
    convert.narrowed(wide.dw_hr[d], out.dw_hr[d], p.projection * p.hidden);
  }
}

}  // namespace

void forward(const Problem& p, const Rows& rows, const LayerInputs& in, const ForwardOutputs& out,
             const Parallel& parallel) {
  if (serves_bf16(p, in)) return bf16_forward(p, rows, in, out, parallel);
  switch (p.dtype) {
    case DType::kFloat32: return forward_by_cell<float>(p, rows, in, out, parallel);
    case DType::kFloat64: return forward_by_cell<double>(p, rows, in, out, parallel);
    default: return forward_16bit(p, rows, in, out, parallel);
  }
}

void backward(const Problem& p, const Rows& rows, const LayerInputs& in, const BackwardInputs& grads,
              const BackwardOutputs& out, const Parallel& parallel) {
  if (serves_bf16_backward(p, in)) return bf16_backward(p, rows, in, grads, out, parallel);
  switch (p.dtype) {
    case DType::kFloat32: return backward_by_cell<float>(p, rows, in, grads, out, parallel);
    case DType::kFloat64: return backward_by_cell<double>(p, rows, in, grads, out, parallel);
    default: return backward_16bit(p, rows, in, grads, out, parallel);
  }
}

}  // namespace fused_lstm::cpu
