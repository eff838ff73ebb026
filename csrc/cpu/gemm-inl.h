// The micro-kernel, written once over Vec<T>: R rows of the left operand against V vectors of a panel, all
// partial sums in registers. Every tile adds its products in the order of k, one chain per sum, so a row's
// result does not depend on which rows share its tile (what that costs at one row, L2 bandwidth hides).

constexpr int kRowTile = FUSED_LSTM_ROW_TILE;
constexpr int kPass = FUSED_LSTM_PASS_VECTORS;  // vectors of a panel that one pass keeps in registers

// The left operand as row pointers, or packed tile after tile as [k][R].
template <class T>
struct RowOperand {
  const T* row[kRowTile];
  template <int R>
  INLINE T at(int r, int64_t k) const {
    return row[r][k];
  }
};
template <class T>
struct PackedOperand {
  const T* tile;
  template <int R>
  INLINE T at(int r, int64_t k) const {
    return tile[k * R + r];
  }
};

template <int R, int V, class T, class Operand>
INLINE void multiply_add(Vec<T> (&sum)[R][V], const Operand& a, int64_t k, const T* panel, int64_t stride) {
  for (int64_t i = 0; i < k; ++i, panel += stride) {
    Vec<T> b[V];
    UNROLL for (int v = 0; v < V; ++v)
      b[v] = load<T>(panel + v * kLanes<T>);
    UNROLL for (int r = 0; r < R; ++r) {
      const Vec<T> x = broadcast<T>(a.template at<R>(r, i));
      UNROLL for (int v = 0; v < V; ++v)
        sum[r][v] += x * b[v];
    }
  }
}

// Calls body(first row, std::integral constant R) over near equal tiles of at most kRowTile rows.
template <int R>
struct Rows {
  static constexpr int value = R;
};
template <class Body>
INLINE void for_each_tile(int64_t n, Body&& body) {
  const int64_t tiles = (n + kRowTile - 1) / kRowTile;
  for (int64_t i = 0, begin = 0; i < tiles; ++i) {
    const int64_t rows = n / tiles + (i < n % tiles);
    switch (rows) {
      case 1: body(begin, Rows<1>{}); break;
      case 2: body(begin, Rows<2>{}); break;
      case 3: body(begin, Rows<3>{}); break;
      case 4: body(begin, Rows<4>{}); break;
#if FUSED_LSTM_ROW_TILE > 5
      case 5: body(begin, Rows<5>{}); break;
#endif
      default: body(begin, Rows<kRowTile>{}); break;
    }
    begin += rows;
  }
}

// One tile: sums of V vectors from column `column` on, started from bias, and stored to or added to c.
template <int R, int V, class T, class Operand>
NOINLINE void tile_gemm(const Operand& a, int64_t k, const T* panel, int64_t stride, const T* bias, bool accumulate,
                        T* const* c, int64_t c_begin, int64_t c_valid) {
  Vec<T> sum[R][V];
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int v = 0; v < V; ++v)
      sum[r][v] = bias ? load<T>(bias + v * kLanes<T>) : Vec<T>{};
  }
  if (accumulate) {
    UNROLL for (int r = 0; r < R; ++r) {
      if (c[r]) __builtin_prefetch(c[r] + c_begin, 1, 3);
    }
  }
  multiply_add<R, V, T>(sum, a, k, panel, stride);
  UNROLL for (int r = 0; r < R; ++r) {
    if (!c[r]) continue;
    UNROLL for (int v = 0; v < V; ++v) {
      const int64_t valid = c_valid - v * kLanes<T>;
      T* out = c[r] + c_begin + v * kLanes<T>;
      if (valid <= 0) continue;
      Vec<T> result = sum[r][v];
      if (accumulate) result += load_some<T>(out, valid);
      store_some<T>(out, result, valid);
    }
  }
}

template <int R, class T, class Operand>
INLINE void tile_panel(const Operand& a, int64_t k, const T* panel, int vectors, const T* bias, bool accumulate,
                       T* const* c, int64_t c_begin, int64_t c_valid) {
  const int64_t stride = vectors * int64_t{kLanes<T>};
  for (int v = 0; v < vectors; v += kPass) {
    const int64_t column = v * int64_t{kLanes<T>};
    const T* b = bias ? bias + column : nullptr;
    const T* w = panel + column;
    const int64_t begin = c_begin + column, valid = c_valid - column;
    switch (vectors - v < kPass ? vectors - v : kPass) {
      case 1: tile_gemm<R, 1, T>(a, k, w, stride, b, accumulate, c, begin, valid); break;
#if FUSED_LSTM_PASS_VECTORS > 2
      case 2: tile_gemm<R, 2, T>(a, k, w, stride, b, accumulate, c, begin, valid); break;
      case 3: tile_gemm<R, 3, T>(a, k, w, stride, b, accumulate, c, begin, valid); break;
#endif
      default: tile_gemm<R, kPass, T>(a, k, w, stride, b, accumulate, c, begin, valid); break;
    }
  }
}

template <int R, class T>
INLINE RowOperand<T> rows_at(const T* const* rows, int64_t column) {
  RowOperand<T> a;
  UNROLL for (int r = 0; r < R; ++r)
    a.row[r] = rows[r] + column;
  return a;
}

template <class T>
void gemm(const GemmArgs<T>& g) {
  for_each_tile(g.n, [&](int64_t i, auto tile) {
    constexpr int R = decltype(tile)::value;
    tile_panel<R, T>(rows_at<R>(g.a + i, g.a_begin), g.k, g.panel, g.vectors, g.bias, g.accumulate, g.c + i, g.c_begin,
                     g.c_valid);
  });
}

template <class T>
void gemm_packed(const PackedGemmArgs<T>& g) {
  const T* nothing = nullptr;
  for_each_tile(g.m, [&](int64_t i, auto tile) {
    constexpr int R = decltype(tile)::value;
    tile_panel<R, T>(PackedOperand<T>{g.packed + i * g.k}, g.k, g.panel, g.vectors, nothing, g.accumulate, g.c + i,
                     g.c_begin, g.c_valid);
  });
}

template <class T>
void pack_columns(const T* src, int64_t ld, int64_t k, int64_t begin, int64_t m, T* dst) {
  for_each_tile(m, [&](int64_t i, auto tile) {
    constexpr int R = decltype(tile)::value;
    const T* from = src + begin + i;
    T* to = dst + i * k;
    for (int64_t j = 0; j < k; ++j, from += ld, to += R) {
      UNROLL for (int r = 0; r < R; ++r)
        to[r] = from[r];
    }
  });
}

template <class T>
void pack_rows(const T* const* rows, int64_t n, int64_t begin, int64_t valid, int64_t width, T* dst) {
  for (int64_t i = 0; i < n; ++i, dst += width)
    for (int64_t j = 0; j < width; j += kLanes<T>)
      store<T>(dst + j, j < valid ? load_some<T>(rows[i] + begin + j, valid - j) : Vec<T>{});
}

// Squares of L by L, transposed in registers.
template <class T>
void pack_transposed(const T* const* rows, int64_t valid, int64_t k, T* dst, int64_t dst_stride) {
#ifdef FUSED_LSTM_CAN_SHUFFLE
  constexpr int L = kLanes<T>;
  for (int64_t i = 0; i < k; i += L) {
    Vec<T> square[L];
    if (valid == L && i + L <= k) {
      UNROLL for (int u = 0; u < L; ++u)
        square[u] = load<T>(rows[u] + i);
    } else {
      for (int u = 0; u < L; ++u) square[u] = u < valid ? load_some<T>(rows[u] + i, k - i) : Vec<T>{};
    }
    transpose<T>(square);
    T* to = dst + i * dst_stride;
    if (i + L <= k) {
      UNROLL for (int u = 0; u < L; ++u)
        store<T>(to + u * dst_stride, square[u]);
    } else {
      for (int u = 0; i + u < k; ++u) store<T>(to + u * dst_stride, square[u]);
    }
  }
#else
  for (int64_t i = 0; i < k; ++i)
    for (int u = 0; u < kLanes<T>; ++u) dst[i * dst_stride + u] = u < valid ? rows[u][i] : T(0);
#endif
}

// Sums of the lanes of four vectors, each by halves folded onto each other.
template <class T>
INLINE void horizontal_sums(const Vec<T> (&v)[4], T (&sums)[4]) {
  constexpr int L = kLanes<T>;
#ifdef FUSED_LSTM_CAN_SHUFFLE
  if constexpr (L >= 4) {
    const auto folded = [](Vec<T> a, Vec<T> b) {
      Vec<T> low, high;
      interleave(a, b, low, high);
      return low + high;
    };
    T lanes[L];
    store<T>(lanes, folded(folded(v[0], v[2]), folded(v[1], v[3])));
    for (int width = L / 2; width >= 4; width /= 2)
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    UNROLL for (int q = 0; q < 4; ++q)
      sums[q] = lanes[q];
    return;
  }
#endif
  UNROLL for (int q = 0; q < 4; ++q) {
    T lanes[L];
    store<T>(lanes, v[q]);
    for (int width = L / 2; width > 0; width /= 2)
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    sums[q] = lanes[0];
  }
}

// Rows [row, row + R): a weight that was loaded meets all of them.
template <int R, class T>
INLINE void dot4_rows(const DotArgs<T>& d, int64_t row) {
  constexpr int L = kLanes<T>;
  const RowOperand<T> a = rows_at<R>(d.a + row, 0);
  Vec<T> even[R][4] = {}, odd[R][4] = {};
  int64_t i = 0;
  for (; i + 2 * L <= d.k; i += 2 * L) {
    UNROLL for (int q = 0; q < 4; ++q) {
      const Vec<T> w = load<T>(d.w[q] + i), v = load<T>(d.w[q] + i + L);
      UNROLL for (int r = 0; r < R; ++r) {
        even[r][q] += load<T>(a.row[r] + i) * w;
        odd[r][q] += load<T>(a.row[r] + i + L) * v;
      }
    }
  }
  for (; i < d.k; i += L) {
    UNROLL for (int q = 0; q < 4; ++q) {
      const Vec<T> w = load_some<T>(d.w[q] + i, d.k - i);
      UNROLL for (int r = 0; r < R; ++r)
        even[r][q] += load_some<T>(a.row[r] + i, d.k - i) * w;
    }
  }
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int q = 0; q < 4; ++q)
      even[r][q] += odd[r][q];
    T sums[4];
    horizontal_sums<T>(even[r], sums);
    UNROLL for (int q = 0; q < 4; ++q) {
      T* out = d.c[row + r] + d.c_column[q];
      *out = d.accumulate ? *out + sums[q] : sums[q];
    }
  }
}

template <class T>
void dot4(const DotArgs<T>& d) {
  int64_t row = 0;
  for (; row + 2 <= d.n; row += 2) dot4_rows<2, T>(d, row);
  if (row < d.n) dot4_rows<1, T>(d, row);
}
