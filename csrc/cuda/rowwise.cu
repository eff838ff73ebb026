// The launches of steps that need a whole row. Never run on hardware so far: tests execute the bodies as plain C++.

#include "cuda/rowwise.h"

#include <cmath>

#include "cell/variants.h"
#include "cuda/elements.h"
#include "cuda/step_row.h"

namespace fused_lstm::cuda {
namespace {

// The cell of a call, as device code may read it; `at` finds its learned parameters for unit u.
struct Parts {
  bool peepholes, coupled, zoneout, layer_norm, output_cell;
  int params;

  explicit Parts(int cell)
      : peepholes(kCellShapes[cell].parts & kPeepholes),
        coupled(kCellShapes[cell].parts & kCoupled),
        zoneout(kCellShapes[cell].parts & kZoneout),
        layer_norm(kCellShapes[cell].layer_norm),
        output_cell(kCellShapes[cell].output_cell),
        params(kCellShapes[cell].params) {}

  // rows of cell_params: p_i p_f p_o, gamma_ih (4), gamma_hh (4), gamma_c, beta_c
  FUSED_LSTM_HD int gamma_ih(int gate) const { return params - 10 + gate; }
  FUSED_LSTM_HD int gamma_hh(int gate) const { return params - 6 + gate; }
  FUSED_LSTM_HD int gamma_c() const { return params - 2; }
  FUSED_LSTM_HD int beta_c() const { return params - 1; }
};

// (x - mean) * scale has mean 0 and deviation 1.
template <class C>
struct Norm {
  C mean, scale;

  FUSED_LSTM_HD C operator()(C x) const { return (x - mean) * scale; }
};

// Of n values: of(u) gives the sum over those of unit u, of a function that it is given.
template <class C, class Of>
FUSED_LSTM_ROW_BODY Norm<C> norm_of(const Team& team, int64_t H, int64_t n, const Of& of) {
  C sum = C(0), squares = C(0);
  for (int64_t u = team.index(); u < H; u += team.size()) sum += of(u, [](C x) { return x; });
  const C mean = team.sum(sum) / C(n);
  for (int64_t u = team.index(); u < H; u += team.size())
    squares += of(u, [mean](C x) { return (x - mean) * (x - mean); });
  return {mean, C(1) / std::sqrt(team.sum(squares) / C(n) + C(kLayerNormEps))};
}
template <class C>
FUSED_LSTM_ROW_BODY Norm<C> norm_of_gates(const Team& team, int64_t H, const C* row) {
  return norm_of<C>(team, H, 4 * H, [row](int64_t u, auto f) {
    return f(row[4 * u]) + f(row[4 * u + 1]) + f(row[4 * u + 2]) + f(row[4 * u + 3]);
  });
}
template <class C>
FUSED_LSTM_ROW_BODY Norm<C> norm_of_units(const Team& team, int64_t H, const C* row) {
  return norm_of<C>(team, H, H, [row](int64_t u, auto f) { return f(row[u]); });
}

template <class S>
FUSED_LSTM_HD Compute<S> param(const StepwiseLayer& l, int k, int64_t u) {
  return read<S>(l.cell_params, k * l.hidden + u);
}
template <class S>
FUSED_LSTM_HD Compute<S> keep(const StepwiseLayer& l, int64_t row, int k, int64_t u) {
  return read<S>(l.cell_inputs, (row * 2 + k) * l.hidden + u);
}
template <class S>
FUSED_LSTM_HD Compute<S> new_cell(const StepwiseLayer& l, Compute<S> i, Compute<S> f, Compute<S> g, Compute<S> c_prev) {
  const Compute<S> c = f * c_prev + i * g;
  return l.cell_clip > 0 ? limited_to(Compute<S>(l.cell_clip), c) : c;
}

template <class S>
struct GatesBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepForward f;
  RowwiseForward w;
  Parts parts;

  FUSED_LSTM_ROW_BODY void operator()(int64_t b, const Team& team) const {
    const int64_t H = l.hidden, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    if (!r.alive) return;
    C* x = static_cast<C*>(f.gates) + row * 4 * H;
    const C* h = static_cast<const C*>(f.recurrent) + b * 4 * H;
    Norm<C> of_x{C(0), C(1)}, of_h = of_x;
    if (parts.layer_norm) of_x = norm_of_gates(team, H, x);
    if (parts.layer_norm && !r.cut_before) of_h = norm_of_gates(team, H, h);
    for (int64_t u = team.index(); u < H; u += team.size()) {
      const C c_prev = r.cut_before ? C(0) : sum_at<S>(f.c_state, b * H + u);
      C a[4];
      for (int q = 0; q < 4; ++q)
        a[q] = pre_activation(q, u, of_x(x[4 * u + q]), r.cut_before ? C(0) : of_h(h[4 * u + q]));
      if (parts.peepholes) a[0] += param<S>(l, 0, u) * c_prev, a[1] += param<S>(l, 1, u) * c_prev;
      const C forget = sigmoid_of(a[1]), input = parts.coupled ? C(1) - forget : sigmoid_of(a[0]), g = tanh_of(a[2]);
      x[4 * u] = input, x[4 * u + 1] = forget, x[4 * u + 2] = g, x[4 * u + 3] = a[3];
      sum_at<S>(w.c_new, b * H + u) = new_cell<S>(l, input, forget, g, c_prev);
    }
  }

 private:
  FUSED_LSTM_ROW_BODY C pre_activation(int q, int64_t u, C from_x, C from_h) const {
    if (parts.layer_norm) from_x *= param<S>(l, parts.gamma_ih(q), u), from_h *= param<S>(l, parts.gamma_hh(q), u);
    if (parts.output_cell && q == 3) from_h = C(0);
    const int64_t j = q * l.hidden + u;
    return from_x + from_h + (l.has_bias ? read<S>(l.b_ih, j) + read<S>(l.b_hh, j) : C(0));
  }
};

template <class S>
struct OutputBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepForward f;
  RowwiseForward w;
  Parts parts;

  FUSED_LSTM_ROW_BODY void operator()(int64_t b, const Team& team) const {
    const int64_t H = l.hidden, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    const C* c_new = static_cast<const C*>(w.c_new) + b * H;
    Norm<C> norm{C(0), C(1)};
    if (r.alive && parts.layer_norm) norm = norm_of_units(team, H, c_new);
    for (int64_t u = team.index(); u < H; u += team.size()) {
      if (r.alive)
        unit(r, norm, c_new[u], row, b, u);
      else if (!l.projected)
        write<S>(f.y, row * l.y_width + l.y_begin + u, C(0));
    }
  }

 private:
  FUSED_LSTM_ROW_BODY void unit(const Row& r, const Norm<C>& norm, C c_new, int64_t row, int64_t b, int64_t u) const {
    const int64_t H = l.hidden, i = b * H + u;
    C& slot = sum_at<S>(f.gates, (row * H + u) * 4 + 3);
    C a = slot;
    if (parts.peepholes) a += param<S>(l, 2, u) * c_new;
    if (parts.output_cell) a += value_at<S>(w.from_c, i);
    const C o = slot = sigmoid_of(a);
    const C shown =
        parts.layer_norm ? param<S>(l, parts.gamma_c(), u) * norm(c_new) + param<S>(l, parts.beta_c(), u) : c_new;
    C h = o * tanh_of(shown), c = c_new;
    if (parts.zoneout) {
      const C h_prev = r.cut_before ? C(0) : read<S>(f.h_state, i),
              c_prev = r.cut_before ? C(0) : sum_at<S>(f.c_state, i);
      h = h_prev + keep<S>(l, row, 0, u) * (h - h_prev);
      c = c_prev + keep<S>(l, row, 1, u) * (c - c_prev);
    }
    sum_at<S>(f.c_state, i) = c;
    if (f.cells) sum_at<S>(f.cells, row * H + u) = c;
    if (l.projected)
      write<S>(f.unprojected, i, h);
    else
      put_h<S>(l, f, row, b, u, h);
  }
};

template <class S>
struct OutputBackwardBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepBackward g;
  RowwiseBackward w;
  Parts parts;

  FUSED_LSTM_ROW_BODY void operator()(int64_t b, const Team& team) const {
    const int64_t H = l.hidden, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    C* c_new = static_cast<C*>(w.c_new) + row * H;
    for (int64_t u = team.index(); u < H; u += team.size()) {
      if (!r.alive) {
        clear(row, b, u);
        continue;
      }
      const C* s = static_cast<const C*>(g.gates) + (row * H + u) * 4;
      c_new[u] = new_cell<S>(l, s[0], s[1], s[2], cell_before<S>(l, p, g.cells, r, b, u));
    }
    if (!r.alive) return;
    Norm<C> norm{C(0), C(1)};
    if (parts.layer_norm) norm = norm_of_units(team, H, c_new);
    C sum = C(0), slope = C(0);
    for (int64_t u = team.index(); u < H; u += team.size()) {
      const C ds = unit(r, norm, c_new[u], row, b, u);
      sum += ds, slope += ds * norm(c_new[u]);
    }
    if (!parts.layer_norm) return;
    const C mean = team.sum(sum) / C(H), tilt = team.sum(slope) / C(H);
    for (int64_t u = team.index(); u < H; u += team.size())
      sum_at<S>(w.dc_new, b * H + u) += norm.scale * (value_at<S>(w.room, b * H + u) - mean - norm(c_new[u]) * tilt);
  }

 private:
  // Nothing of a row that is over may reach the products over all steps.
  FUSED_LSTM_ROW_BODY void clear(int64_t row, int64_t b, int64_t u) const {
    const int64_t H = l.hidden;
    for (int q = 0; q < 4; ++q) {
      write<S>(g.dgates, (row * H + u) * 4 + q, C(0));
      if (parts.layer_norm) write<S>(w.dgates_h, (row * H + u) * 4 + q, C(0));
    }
    sum_at<S>(w.c_new, row * H + u) = C(0), sum_at<S>(w.da_o, b * H + u) = C(0);
    if (w.unprojected) write<S>(w.unprojected, row * H + u, C(0));
    if (!l.projected) keep_first<S>(l, p, g, b, u);
  }

  // Gradient of the normalised cell, or (without a norm, when it is part of dc_new already) nothing of use.
  FUSED_LSTM_ROW_BODY C unit(const Row& r, const Norm<C>& norm, C c_new, int64_t row, int64_t b, int64_t u) const {
    const int64_t H = l.hidden, i = b * H + u;
    auto [dh, dc] = gradient_of_state<S>(l, g, r, parts.zoneout, row, b, u);
    if (parts.zoneout) {
      const C k_h = keep<S>(l, row, 0, u), k_c = keep<S>(l, row, 1, u);
      sum_at<S>(g.dh_bypass, i) = dh - dh * k_h, sum_at<S>(w.past_c, i) = dc - dc * k_c;
      dh *= k_h, dc *= k_c;
    }
    const C o = value_at<S>(g.gates, (row * H + u) * 4 + 3);
    const C gamma = parts.layer_norm ? param<S>(l, parts.gamma_c(), u) : C(1);
    const C t = tanh_of(parts.layer_norm ? gamma * norm(c_new) + param<S>(l, parts.beta_c(), u) : c_new);
    const C ao = dh * t * (o * (C(1) - o)), ds = dh * o * (C(1) - t * t);
    if (w.unprojected) write<S>(w.unprojected, row * H + u, o * t);
    sum_at<S>(w.da_o, i) = ao;
    if (parts.peepholes) dc += ao * param<S>(l, 2, u), add(b, 2, u, ao * c_new);
    if (parts.layer_norm) {
      add(b, parts.gamma_c(), u, ds * norm(c_new)), add(b, parts.beta_c(), u, ds);
      sum_at<S>(w.room, i) = ds * gamma;
    } else {
      dc += ds;
    }
    sum_at<S>(w.dc_new, i) = dc;
    return ds * gamma;
  }

  FUSED_LSTM_ROW_BODY void add(int64_t b, int k, int64_t u, C x) const {
    sum_at<S>(g.param_sum, (b * parts.params + k) * l.hidden + u) += x;
  }
};

template <class S>
struct GatesBackwardBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepBackward g;
  RowwiseBackward w;
  Parts parts;

  FUSED_LSTM_ROW_BODY void operator()(int64_t b, const Team& team) const {
    const int64_t H = l.hidden, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    if (!r.alive) return;
    for (int64_t u = team.index(); u < H; u += team.size()) unit(r, row, b, u);
    if (!parts.layer_norm) return;
    through_norm(team, static_cast<const C*>(w.x_product) + row * 4 * H, row, b, parts.gamma_ih(0), g.dgates);
    through_norm(team, static_cast<const C*>(w.h_product) + row * 4 * H, row, b, parts.gamma_hh(0), w.dgates_h);
  }

 private:
  FUSED_LSTM_ROW_BODY C& param_sum(int64_t b, int k, int64_t u) const {
    return sum_at<S>(g.param_sum, (b * parts.params + k) * l.hidden + u);
  }

  FUSED_LSTM_ROW_BODY void unit(const Row& r, int64_t row, int64_t b, int64_t u) const {
    const int64_t H = l.hidden, at = b * H + u;
    const C* s = static_cast<const C*>(g.gates) + (row * H + u) * 4;
    const C i = s[0], f = s[1], gg = s[2], c_prev = cell_before<S>(l, p, g.cells, r, b, u);
    C d = value_at<S>(w.dc_new, at);
    if (parts.output_cell) d += value_at<S>(w.through_output, at);
    if (l.cell_clip > 0) d = where_below(C(l.cell_clip), value_at<S>(w.c_new, row * H + u), d);
    const C ai = parts.coupled ? C(0) : d * gg * (i * (C(1) - i));
    const C af = (parts.coupled ? d * (c_prev - gg) : d * c_prev) * (f * (C(1) - f));
    const C a[4] = {ai, af, d * i * (C(1) - gg * gg), value_at<S>(w.da_o, at)};
    C dc = d * f;
    if (parts.peepholes) {
      dc += ai * param<S>(l, 0, u) + af * param<S>(l, 1, u);
      param_sum(b, 0, u) += ai * c_prev, param_sum(b, 1, u) += af * c_prev;
    }
    if (parts.zoneout) dc += value_at<S>(w.past_c, at);
    sum_at<S>(g.dc_state, at) = dc;
    for (int q = 0; q < 4; ++q) {
      sum_at<S>(g.bias_sum, b * 4 * H + q * H + u) += a[q];
      if (parts.layer_norm)
        sum_at<S>(w.room, at * 4 + q) = a[q];
      else
        write<S>(g.dgates, (row * H + u) * 4 + q, a[q]);
    }
  }

  // da, which lies in `room`, to the gradient of one of the two products.
  FUSED_LSTM_ROW_BODY void through_norm(const Team& team, const C* product, int64_t row, int64_t b, int gamma,
                                        void* to) const {
    const int64_t H = l.hidden;
    const Norm<C> norm = norm_of_gates(team, H, product);
    C sum = C(0), slope = C(0);
    for (int64_t u = team.index(); u < H; u += team.size())
      for (int q = 0; q < 4; ++q) {
        const C a = value_at<S>(w.room, (b * H + u) * 4 + q), x = norm(product[4 * u + q]);
        const C d = a * param<S>(l, gamma + q, u);
        param_sum(b, gamma + q, u) += a * x;
        sum += d, slope += d * x;
      }
    const C mean = team.sum(sum) / C(4 * H), tilt = team.sum(slope) / C(4 * H);
    for (int64_t u = team.index(); u < H; u += team.size())
      for (int q = 0; q < 4; ++q) {
        const C d = value_at<S>(w.room, (b * H + u) * 4 + q) * param<S>(l, gamma + q, u);
        write<S>(to, (row * H + u) * 4 + q, norm.scale * (d - mean - norm(product[4 * u + q]) * tilt));
      }
  }
};

template <template <class> class Body, class Step, class More>
const char* launch_by_dtype(const StepwiseLayer& l, const StepPlace& p, const Step& step, const More& more) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch_rows(p.rows, l.stream, Body<decltype(tag)>{l, p, step, more, Parts(l.cell)});
  });
}

}  // namespace

const char* rowwise_gates(const StepwiseLayer& l, const StepPlace& p, const StepForward& f, const RowwiseForward& w) {
  return launch_by_dtype<GatesBody>(l, p, f, w);
}
const char* rowwise_output(const StepwiseLayer& l, const StepPlace& p, const StepForward& f, const RowwiseForward& w) {
  return launch_by_dtype<OutputBody>(l, p, f, w);
}
const char* rowwise_output_backward(const StepwiseLayer& l, const StepPlace& p, const StepBackward& g,
                                    const RowwiseBackward& w) {
  return launch_by_dtype<OutputBackwardBody>(l, p, g, w);
}
const char* rowwise_gates_backward(const StepwiseLayer& l, const StepPlace& p, const StepBackward& g,
                                   const RowwiseBackward& w) {
  return launch_by_dtype<GatesBackwardBody>(l, p, g, w);
}

}  // namespace fused_lstm::cuda
