#pragma once
// What the launches of a step need to know of one row: is it alive, where does its state come from, what reaches its h.

#include "cuda/elements.h"
#include "cuda/stepwise.h"

namespace fused_lstm::cuda {

// Values of the caller's that lie outside [0, T] count as the nearest end.
FUSED_LSTM_HD int64_t length_of(const StepwiseLayer& l, int64_t b) {
  if (!l.lengths) return l.steps;
  const int64_t length = l.lengths[b];
  return length < 0 ? 0 : length > l.steps ? l.steps : length;
}

// What every body needs to know of row b at step t.
struct Row {
  bool alive;       // has this step
  bool starts;      // has no step before, in this direction
  bool ends;        // has no step after
  bool cut_before;  // a reset parts it from the step before
  bool cut_after;
};

FUSED_LSTM_HD Row row_at(const StepwiseLayer& l, const StepPlace& p, int64_t b) {
  Row r;
  const int64_t length = length_of(l, b);
  const bool has_before = b < p.rows_before && (!l.reversed || p.t + 1 < length);
  const bool has_after = b < p.rows_after && (l.reversed || p.t + 1 < length);
  r.alive = b < p.rows && p.t < length;
  r.starts = !has_before;
  r.ends = !has_after;
  r.cut_before = r.cut_after = false;
  if (l.resets && r.alive) {
    // a reset at t parts t-1 from t: forward it lies before t, in reverse after it
    const int64_t shift = b * l.row_stride;
    const bool at_start_of = l.resets[p.here + shift] != 0;
    if (l.reversed) {
      r.cut_before = has_before && l.resets[p.before + shift] != 0;
      r.cut_after = has_after && at_start_of;
    } else {
      r.cut_before = at_start_of;
      r.cut_after = has_after && l.resets[p.after + shift] != 0;
    }
  }
  return r;
}

// h of row b at this step, to all places that want it.
template <class S>
FUSED_LSTM_HD void put_h(const StepwiseLayer& l, const StepForward& f, int64_t row, int64_t b, int64_t j,
                         Compute<S> h) {
  const int64_t at = b * l.output + j;
  write<S>(f.y, row * l.y_width + l.y_begin + j, h);
  write<S>(f.h_state, at, h);
  // the product must see the rounded h, as backward will
  if (l.scale) write<S>(f.h_input, at, read<S>(l.scale, at) * read<S>(f.h_state, at));
}

// Gradient that reaches h (projected, if it is) at step t. Adds to dscale on the way.
template <class S>
FUSED_LSTM_HD Compute<S> gradient_of_h(const StepwiseLayer& l, const StepBackward& g, const Row& r, int64_t row,
                                       int64_t b, int64_t j) {
  using C = Compute<S>;
  const int64_t at = b * l.output + j;
  C dh = g.dy ? read<S>(g.dy, row * l.y_width + l.y_begin + j) : C(0);
  if (r.ends) return g.dh_n ? dh + read<S>(g.dh_n, at) : dh;
  if (r.cut_after) return dh;
  C through = value_at<S>(g.recurrent, at);
  if (l.scale) {
    if (g.dscale) sum_at<S>(g.dscale, at) += through * read<S>(g.y, row * l.y_width + l.y_begin + j);
    through *= read<S>(l.scale, at);
  }
  return dh + through;
}

// Gradients that reach h (before its projection) and c of unit u at step t; `bypass`: some of h's passes by the gates.
template <class C>
struct StateGradient {
  C h, c;
};
template <class S>
FUSED_LSTM_HD StateGradient<Compute<S>> gradient_of_state(const StepwiseLayer& l, const StepBackward& g, const Row& r,
                                                          bool bypass, int64_t row, int64_t b, int64_t u) {
  using C = Compute<S>;
  const int64_t i = b * l.hidden + u;
  C dh = l.projected ? value_at<S>(g.dunprojected, i) : gradient_of_h<S>(l, g, r, row, b, u);
  if (r.ends) return {dh, g.dc_n ? read<S>(g.dc_n, i) : C(0)};
  if (r.cut_after) return {dh, C(0)};
  if (bypass) dh += sum_at<S>(g.dh_bypass, i);
  return {dh, sum_at<S>(g.dc_state, i)};
}

// In reverse a short row's first step is not everybody's: the next product will overwrite what it left.
template <class S>
FUSED_LSTM_HD void keep_first(const StepwiseLayer& l, const StepPlace& p, const StepBackward& g, int64_t b, int64_t j) {
  if (l.reversed && l.lengths && p.t == length_of(l, b))
    sum_at<S>(g.first_recurrent, b * l.output + j) = value_at<S>(g.recurrent, b * l.output + j);
}

// The cell state that entered the step.
template <class S>
FUSED_LSTM_HD Compute<S> cell_before(const StepwiseLayer& l, const StepPlace& p, const void* cells, const Row& r,
                                     int64_t b, int64_t u) {
  if (r.cut_before) return Compute<S>(0);
  if (!r.starts) return value_at<S>(cells, (p.before + b * l.row_stride) * l.hidden + u);
  return l.c0 ? read<S>(l.c0, b * l.hidden + u) : Compute<S>(0);
}

}  // namespace fused_lstm::cuda
