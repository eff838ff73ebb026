// The launches of the stepwise family. Never run on hardware so far: tests execute the same bodies as plain C++.

#include "cuda/stepwise.h"

#include "cell/variants.h"
#include "cuda/elements.h"
#include "cuda/step_row.h"

namespace fused_lstm::cuda {
namespace {

template <class S, class Cell>
FUSED_LSTM_HD Extra<Compute<S>> extra_of(const StepwiseLayer& l, int64_t row, int64_t u) {
  Extra<Compute<S>> x{};
  x.clips = l.cell_clip > 0, x.clip = Compute<S>(l.cell_clip);
  for (int k = 0; k < Cell::kParams; ++k) x.param[k] = read<S>(l.cell_params, k * l.hidden + u);
  for (int k = 0; k < Cell::kInputs; ++k) x.input[k] = read<S>(l.cell_inputs, (row * Cell::kInputs + k) * l.hidden + u);
  return x;
}

template <class S, class Cell>
struct ForwardBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepForward f;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t H = l.hidden, b = i / H, u = i % H, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    if (!r.alive) {
      if (!l.projected) write<S>(f.y, row * l.y_width + l.y_begin + u, C(0));
      return;
    }
    C a[4];
    for (int q = 0; q < 4; ++q) {
      const int64_t j = q * H + u;
      a[q] = value_at<S>(f.gates, (row * H + u) * 4 + q);
      if (!r.cut_before) a[q] += value_at<S>(f.recurrent, (b * H + u) * 4 + q);
      if (l.has_bias) a[q] += read<S>(l.b_ih, j) + read<S>(l.b_hh, j);
    }
    Extra<C> extra = extra_of<S, Cell>(l, row, u);
    if (Cell::kReadsHPrev) extra.h_prev = r.cut_before ? C(0) : read<S>(f.h_state, b * l.output + u);
    const C c_prev = r.cut_before ? C(0) : sum_at<S>(f.c_state, b * H + u);
    const CellState<C> out = Cell::forward(Gates<C>{a[0], a[1], a[2], a[3]}, c_prev, extra);
    sum_at<S>(f.c_state, b * H + u) = out.c;
    if (f.cells) {
      sum_at<S>(f.cells, row * H + u) = out.c;
      C* g = static_cast<C*>(f.gates) + (row * H + u) * 4;
      g[0] = out.gates.i, g[1] = out.gates.f, g[2] = out.gates.g, g[3] = out.gates.o;
    }
    if (l.projected)
      write<S>(f.unprojected, b * H + u, out.h);
    else
      put_h<S>(l, f, row, b, u, out.h);
  }
};

template <class S>
struct ProjectForwardBody {
  StepwiseLayer l;
  StepPlace p;
  StepForward f;
  const void* projected;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t b = i / l.output, j = i % l.output, row = p.here + b * l.row_stride;
    Compute<S> h = value_at<S>(projected, i);
    if (l.proj_clip > 0) h = limited_to(Compute<S>(l.proj_clip), h);
    if (row_at(l, p, b).alive)
      put_h<S>(l, f, row, b, j, h);
    else
      write<S>(f.y, row * l.y_width + l.y_begin + j, Compute<S>(0));
  }
};

template <class S>
struct StartBody {
  StepwiseLayer l;
  StepForward f;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    if (i < l.rows * l.output) {
      const Compute<S> h = l.h0 ? read<S>(l.h0, i) : Compute<S>(0);
      write<S>(f.h_state, i, h);
      if (l.scale) write<S>(f.h_input, i, read<S>(l.scale, i) * h);
    }
    if (i < l.rows * l.hidden) sum_at<S>(f.c_state, i) = l.c0 ? read<S>(l.c0, i) : Compute<S>(0);
  }
};

template <class S>
struct FinishForwardBody {
  StepwiseLayer l;
  StepForward f;
  void* h_n;
  void* c_n;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    if (i < l.rows * l.output) write<S>(h_n, i, read<S>(f.h_state, i));
    if (i < l.rows * l.hidden) write<S>(c_n, i, sum_at<S>(f.c_state, i));
  }
};

template <class S>
struct ProjectBackwardBody {
  StepwiseLayer l;
  StepPlace p;
  StepBackward g;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t b = i / l.output, j = i % l.output, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    Compute<S> dh = r.alive ? gradient_of_h<S>(l, g, r, row, b, j) : Compute<S>(0);
    if (l.proj_clip > 0) dh = where_below(Compute<S>(l.proj_clip), read<S>(g.y, row * l.y_width + l.y_begin + j), dh);
    write<S>(g.dprojected, row * l.output + j, dh);
    if (!r.alive) keep_first<S>(l, p, g, b, j);
  }
};

template <class S, class Cell>
struct BackwardBody {
  using C = Compute<S>;
  StepwiseLayer l;
  StepPlace p;
  StepBackward g;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    const int64_t H = l.hidden, b = i / H, u = i % H, row = p.here + b * l.row_stride;
    const Row r = row_at(l, p, b);
    if (!r.alive) {
      for (int q = 0; q < 4; ++q) write<S>(g.dgates, (row * H + u) * 4 + q, C(0));
      if (!l.projected) keep_first<S>(l, p, g, b, u);
      return;
    }
    const auto [dh, dc] = gradient_of_state<S>(l, g, r, Cell::kReadsHPrev, row, b, u);
    const C c_prev = cell_before<S>(l, p, g.cells, r, b, u);
    const C* s = static_cast<const C*>(g.gates) + (row * H + u) * 4;
    const CellGrad<C> d = Cell::backward(Gates<C>{s[0], s[1], s[2], s[3]}, c_prev, value_at<S>(g.cells, row * H + u),
                                         dh, dc, extra_of<S, Cell>(l, row, u));
    const C dgate[4] = {d.gates.i, d.gates.f, d.gates.g, d.gates.o};
    for (int q = 0; q < 4; ++q) {
      write<S>(g.dgates, (row * H + u) * 4 + q, dgate[q]);
      sum_at<S>(g.bias_sum, b * 4 * H + q * H + u) += dgate[q];
    }
    sum_at<S>(g.dc_state, i) = d.c_prev;
    if (Cell::kReadsHPrev) sum_at<S>(g.dh_bypass, i) = d.h_prev;
    for (int k = 0; k < Cell::kParams; ++k) sum_at<S>(g.param_sum, (b * Cell::kParams + k) * H + u) += d.param[k];
  }
};

// The initial state: what is left after every row's first step.
template <class S>
struct FinishBackwardBody {
  StepwiseLayer l;
  StepBackward g;
  bool bypass;
  void* dh0;
  void* dc0;

  FUSED_LSTM_HD void operator()(int64_t i) const {
    using C = Compute<S>;
    if (i < l.rows * l.output) {
      const int64_t b = i / l.output;
      C dh = C(0);
      if (empty(b)) {
        if (g.dh_n) dh = read<S>(g.dh_n, i);
      } else if (!cut(b)) {
        const bool late = l.reversed && length_of(l, b) < l.steps;
        dh = value_at<S>(late ? g.first_recurrent : g.recurrent, i);
        if (l.scale) {
          if (g.dscale && l.h0) sum_at<S>(g.dscale, i) += dh * read<S>(l.h0, i);
          dh *= read<S>(l.scale, i);
        }
        if (bypass) dh += sum_at<S>(g.dh_bypass, i);
      }
      if (dh0) write<S>(dh0, i, dh);
    }
    if (dc0 && i < l.rows * l.hidden) {
      const int64_t b = i / l.hidden;
      C dc = C(0);
      if (empty(b)) {
        if (g.dc_n) dc = read<S>(g.dc_n, i);
      } else if (!cut(b)) {
        dc = sum_at<S>(g.dc_state, i);
      }
      write<S>(dc0, i, dc);
    }
  }

 private:
  FUSED_LSTM_HD bool empty(int64_t b) const { return length_of(l, b) == 0; }
  // Only forward can be cut off from its initial state, by a reset at t = 0.
  FUSED_LSTM_HD bool cut(int64_t b) const { return !l.reversed && l.resets && l.resets[b * l.row_stride] != 0; }
};

template <template <class, class> class Body, class... Args>
const char* launch_cell(const StepwiseLayer& l, int64_t n, const Args&... args) {
  return by_dtype(l.dtype, [&](auto tag) -> const char* {
    using S = decltype(tag);
    int index = 0;
#define FUSED_LSTM_LAUNCH(Cell) \
  if (index++ == l.cell) return launch(n, l.stream, Body<S, Cell>{l, args...});
    FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_LAUNCH)
#undef FUSED_LSTM_LAUNCH
    return "there is no such cell";
  });
}

int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace

const char* start_forward(const StepwiseLayer& l, const StepForward& f) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(l.rows * larger(l.hidden, l.output), l.stream, StartBody<decltype(tag)>{l, f});
  });
}

// Rows without this step take part too: their y must become zero.
const char* step_forward(const StepwiseLayer& l, const StepPlace& p, const StepForward& f) {
  return launch_cell<ForwardBody>(l, p.rows * l.hidden, p, f);
}

const char* project_forward(const StepwiseLayer& l, const StepPlace& p, const StepForward& f, const void* projected) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(p.rows * l.output, l.stream, ProjectForwardBody<decltype(tag)>{l, p, f, projected});
  });
}

const char* finish_forward(const StepwiseLayer& l, const StepForward& f, void* h_n, void* c_n) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(l.rows * larger(l.hidden, l.output), l.stream, FinishForwardBody<decltype(tag)>{l, f, h_n, c_n});
  });
}

const char* project_backward(const StepwiseLayer& l, const StepPlace& p, const StepBackward& g) {
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(p.rows * l.output, l.stream, ProjectBackwardBody<decltype(tag)>{l, p, g});
  });
}

const char* step_backward(const StepwiseLayer& l, const StepPlace& p, const StepBackward& g) {
  return launch_cell<BackwardBody>(l, p.rows * l.hidden, p, g);
}

const char* finish_backward(const StepwiseLayer& l, const StepBackward& g, void* dh0, void* dc0) {
  const bool bypass = kCellShapes[l.cell].reads_h_prev;
  return by_dtype(l.dtype, [&](auto tag) {
    return launch(l.rows * larger(l.hidden, l.output), l.stream,
                  FinishBackwardBody<decltype(tag)>{l, g, bypass, dh0, dc0});
  });
}

}  // namespace fused_lstm::cuda
