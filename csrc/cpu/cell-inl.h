// The cell over vectors of units: fused behind the recurrent product for the vanilla cell, alone for the others.

template <class T>
INLINE Gates<Value<T>> load_gates(const T* g) {
  constexpr int L = kLanes<T>;
  return {load<T>(g), load<T>(g + L), load<T>(g + 2 * L), load<T>(g + 3 * L)};
}
template <class T>
INLINE void store_gates(T* g, const Gates<Value<T>>& v) {
  constexpr int L = kLanes<T>;
  store<T>(g, v.i.v), store<T>(g + L, v.f.v), store<T>(g + 2 * L, v.g.v), store<T>(g + 3 * L, v.o.v);
}

// The same of a group of fewer units than lanes: its gates are as wide as it has units.
template <class T>
INLINE Gates<Value<T>> load_gates(const T* g, int64_t units) {
  if (units >= kLanes<T>) return load_gates<T>(g);
  const auto gate = [=](int q) { return load_some<T>(g + q * units, units); };
  return {gate(0), gate(1), gate(2), gate(3)};
}
template <class T>
INLINE void store_gates(T* g, const Gates<Value<T>>& v, int64_t units) {
  if (units >= kLanes<T>) return store_gates<T>(g, v);
  const Vec<T> gates[] = {v.i.v, v.f.v, v.g.v, v.o.v};
  for (int q = 0; q < 4; ++q) store_some<T>(g + q * units, gates[q], units);
}
// What such a group leaves unused of its columns must not hold what memory happened to hold.
template <class T>
INLINE void clear_unused_gates(T* g, int64_t units) {
  for (int64_t i = 4 * units; i < 4 * kLanes<T>; ++i) g[i] = T(0);
}

template <class T>
INLINE void add_gates(Gates<Value<T>>& sum, const Gates<Value<T>>& g) {
  sum.i.v += g.i.v, sum.f.v += g.f.v, sum.g.v += g.g.v, sum.o.v += g.o.v;
}

template <int R, class T>
NOINLINE void step_tile(const StepArgs<T>& s, int64_t row) {
  constexpr int L = kLanes<T>;
  constexpr int kPasses = 4 / kPass;
  const int64_t gate_begin = 4 * s.unit;
  const RowOperand<T> h = rows_at<R>(s.h_prev + row, 0);
  Vec<T> a[R][4];
  UNROLL for (int pass = 0; pass < kPasses; ++pass) {
    Vec<T> sum[R][kPass];
    UNROLL for (int r = 0; r < R; ++r) {
      UNROLL for (int v = 0; v < kPass; ++v)
        sum[r][v] = load<T>(s.gates[row + r] + gate_begin + (pass * kPass + v) * L);
    }
    multiply_add<R, kPass, T>(sum, h, s.k, s.panel + pass * kPass * L, 4 * L);
    UNROLL for (int r = 0; r < R; ++r) {
      UNROLL for (int v = 0; v < kPass; ++v)
        a[r][pass * kPass + v] = sum[r][v];
    }
  }
  UNROLL for (int r = 0; r < R; ++r) {
    const Gates<Value<T>> pre{a[r][0], a[r][1], a[r][2], a[r][3]};
    const CellState<Value<T>> out =
        Vanilla::forward(pre, Value<T>(load<T>(s.c_prev[row + r] + s.unit)), Extra<Value<T>>{});
    store<T>(s.c[row + r] + s.unit, out.c.v);
    store<T>(s.h[row + r] + s.unit, out.h.v);
    if (s.save) store_gates<T>(s.gates[row + r] + gate_begin, out.gates);
  }
}

// Vectors [v, v + V) of a product with `total` vectors, started from what is in gates.
template <int R, int V, class T>
INLINE void tail_pass(const StepArgs<T>& s, const RowOperand<T>& h, int64_t row, int v, int total,
                      T (*a)[4 * kLanes<T>]) {
  constexpr int L = kLanes<T>;
  Vec<T> sum[R][V];
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int i = 0; i < V; ++i)
      sum[r][i] = load<T>(s.gates[row + r] + 4 * s.unit + (v + i) * L);
  }
  multiply_add<R, V, T>(sum, h, s.k, s.panel + v * L, total * int64_t{L});
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int i = 0; i < V; ++i)
      store<T>(a[r] + (v + i) * L, sum[r][i]);
  }
}

// A group of fewer units than lanes: its gates share V vectors, and come apart on their way through memory.
template <int R, int V, class T>
NOINLINE void step_tail_tile(const StepArgs<T>& s, int64_t row) {
  const RowOperand<T> h = rows_at<R>(s.h_prev + row, 0);
  T a[R][4 * kLanes<T>] = {};
  if constexpr (V <= kPass) {
    tail_pass<R, V, T>(s, h, row, 0, V, a);
  } else {
    tail_pass<R, kPass, T>(s, h, row, 0, V, a);
    tail_pass<R, V - kPass, T>(s, h, row, kPass, V, a);
  }
  for (int r = 0; r < R; ++r) {
    const CellState<Value<T>> out = Vanilla::forward(load_gates<T>(a[r], s.valid),
                                                     Value<T>(load<T>(s.c_prev[row + r] + s.unit)), Extra<Value<T>>{});
    store<T>(s.c[row + r] + s.unit, out.c.v);
    store_some<T>(s.h[row + r] + s.unit, out.h.v, s.valid);
    if (!s.save) continue;
    store_gates<T>(s.gates[row + r] + 4 * s.unit, out.gates, s.valid);
    clear_unused_gates<T>(s.gates[row + r] + 4 * s.unit, s.valid);
  }
}

template <class T>
void step(const StepArgs<T>& s) {
  constexpr int L = kLanes<T>;
  for_each_tile(s.n, [&](int64_t row, auto tile) {
    constexpr int R = decltype(tile)::value;
    if (s.valid >= L) return step_tile<R, T>(s, row);
    switch ((4 * s.valid + L - 1) / L) {
      case 1: return step_tail_tile<R, 1, T>(s, row);
      case 2: return step_tail_tile<R, 2, T>(s, row);
      case 3: return step_tail_tile<R, 3, T>(s, row);
      default: return step_tail_tile<R, 4, T>(s, row);
    }
  });
}

template <class Cell, class T, class Args>
INLINE Extra<Value<T>> load_extra(const Args& a, int64_t row, int64_t unit, int64_t valid) {
  Extra<Value<T>> x;
  x.clips = a.clip > 0, x.clip = Value<T>(a.clip);
  UNROLL for (int p = 0; p < Cell::kParams; ++p)
    x.param[p] = load<T>(a.params + p * a.padded_hidden + unit);
  UNROLL for (int p = 0; p < Cell::kInputs; ++p)
    x.input[p] = valid > 0 ? load_some<T>(a.inputs[row] + p * a.hidden + unit, valid) : Vec<T>{};
  return x;
}

template <class Cell, class T>
void cell_forward(const CellForwardArgs<T>& a) {
  constexpr int L = kLanes<T>;
  for (int64_t row = 0; row < a.n; ++row)
    for (int64_t unit = a.begin; unit < a.end; unit += L) {
      const int64_t valid = a.hidden - unit;
      Extra<Value<T>> extra = load_extra<Cell, T>(a, row, unit, valid);
      if (Cell::kReadsHPrev) extra.h_prev = valid > 0 ? load_some<T>(a.h_prev[row] + unit, valid) : Vec<T>{};
      T* gates = a.gates[row] + 4 * unit;
      const CellState<Value<T>> out =
          Cell::forward(load_gates<T>(gates, valid), Value<T>(load<T>(a.c_prev[row] + unit)), extra);
      store<T>(a.c[row] + unit, out.c.v);
      if (valid > 0) store_some<T>(a.h[row] + unit, out.h.v, valid);
      if (!a.save) continue;
      store_gates<T>(gates, out.gates, valid);
      clear_unused_gates<T>(gates, valid);
    }
}

template <class Cell, class T>
void cell_backward(const CellBackwardArgs<T>& a) {
  constexpr int L = kLanes<T>;
  for (int64_t unit = a.begin; unit < a.end; unit += L) {
    const int64_t valid = a.hidden - unit;
    const auto at = [unit](const T* row) { return Value<T>(load<T>(row + unit)); };
    Gates<Value<T>> bias_sum{};
    Vec<T> param_sum[kMaxParams] = {};
    for (int64_t row = 0; row < a.n; ++row) {
      Vec<T> dh = load<T>(a.dh[row] + (unit - a.begin));
      if (a.dy && valid > 0) dh += load_some<T>(a.dy[row] + unit, valid);
      const CellGrad<Value<T>> d =
          Cell::backward(load_gates<T>(a.gates[row] + 4 * unit, valid), at(a.c_prev[row]), at(a.c[row]), Value<T>(dh),
                         at(a.dc_in[row]), load_extra<Cell, T>(a, row, unit, valid));
      store_gates<T>(a.dgates[row] + 4 * unit, d.gates, valid);
      store<T>(a.dc_out[row] + unit, d.c_prev.v);
      if (Cell::kReadsHPrev) store<T>(a.dh_prev[row] + unit, d.h_prev.v);
      add_gates<T>(bias_sum, d.gates);
      UNROLL for (int p = 0; p < Cell::kParams; ++p)
        param_sum[p] += d.param[p].v;
    }
    Gates<Value<T>> total = load_gates<T>(a.bias_sum + 4 * unit, valid);
    add_gates<T>(total, bias_sum);
    store_gates<T>(a.bias_sum + 4 * unit, total, valid);
    UNROLL for (int p = 0; p < Cell::kParams; ++p) {
      T* sum = a.param_sum + p * a.padded_hidden + unit;
      store<T>(sum, load<T>(sum) + param_sum[p]);
    }
  }
}
