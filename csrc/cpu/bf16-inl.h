// The kernels of bf16_kernels.h over AVX512-BF16; included once, by isa_avx512_bf16.cpp, behind kernels-inl.h, whose
// tiles of rows and activations it shares.

using Word = __m512i;  // 16 pairs, or 32 numbers side by side

INLINE __mmask16 first_floats(int64_t n) { return n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1); }
INLINE __mmask32 first_halves(int64_t n) { return n >= 32 ? 0xffffffffu : (1u << n) - 1; }

// maskz forms, as in vec-inl.h: gcc warns of what the others leave undefined
INLINE Word zero_extended(__m256i halves) { return _mm512_maskz_cvtepu16_epi32(0xffff, halves); }
INLINE Vec<float> widen(__m256i halves) {
  return (Vec<float>)_mm512_maskz_slli_epi32(0xffff, zero_extended(halves), 16);
}
INLINE Vec<float> load_halves(const BFloat16* p, int64_t valid) {
  return widen(_mm256_maskz_loadu_epi16(first_floats(valid), p));
}
INLINE void store_halves(BFloat16* p, Vec<float> v, int64_t valid) {
  const __m256i halves = (__m256i)_mm512_cvtneps_pbh((__m512)v);
  if (valid >= 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves);
  else
    _mm256_mask_storeu_epi16(p, first_floats(valid), halves);
}

// --- products ----------------------------------------------------------------------------------------------------------

typedef uint32_t PairBits __attribute__((may_alias, aligned(2)));

struct HalfRows {
  const BFloat16* row[kRowTile];
  template <int R>
  INLINE uint32_t at(int r, int64_t pair) const {
    return *reinterpret_cast<const PairBits*>(row[r] + 2 * pair);
  }
};
struct PackedHalves {
  const PairBits* tile;
  template <int R>
  INLINE uint32_t at(int r, int64_t pair) const {
    return tile[pair * R + r];
  }
};

INLINE Vec<float> add_products(Vec<float> sum, uint32_t a, Word b) {
  return (Vec<float>)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(static_cast<int>(a)), (__m512bh)b);
}

template <int R, int V, class Operand>
INLINE void add_pairs(Vec<float> (&sum)[R][V], const Operand& a, int64_t pairs, const BFloat16* panel, int64_t stride) {
  for (int64_t i = 0; i < pairs; ++i, panel += stride) {
    Word b[V];
    UNROLL for (int v = 0; v < V; ++v)
      b[v] = _mm512_loadu_si512(panel + 32 * v);
    UNROLL for (int r = 0; r < R; ++r) {
      const uint32_t x = a.template at<R>(r, i);
      UNROLL for (int v = 0; v < V; ++v)
        sum[r][v] = add_products(sum[r][v], x, b[v]);
    }
  }
}

// k numbers of each row: the last of an odd k alone, since what follows it is not ours
template <int R, int V>
INLINE void add_rows(Vec<float> (&sum)[R][V], const HalfRows& a, int64_t k, const BFloat16* panel, int64_t stride) {
  add_pairs<R, V>(sum, a, k / 2, panel, stride);
  if (k % 2 == 0) return;
  panel += k / 2 * stride;
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int v = 0; v < V; ++v)
      sum[r][v] = add_products(sum[r][v], a.row[r][k - 1].bits, _mm512_loadu_si512(panel + 32 * v));
  }
}

template <int R>
INLINE HalfRows half_rows_at(const BFloat16* const* rows, int64_t column) {
  HalfRows a;
  UNROLL for (int r = 0; r < R; ++r)
    a.row[r] = rows[r] + column;
  return a;
}

template <int R, int V>
NOINLINE void half_tile(const Bf16GemmArgs& g, int64_t row) {
  Vec<float> sum[R][V];
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int v = 0; v < V; ++v)
      sum[r][v] = g.accumulate ? load<float>(g.c[row + r] + g.c_begin + 16 * v)
                  : g.bias     ? load<float>(g.bias + 16 * v)
                               : Vec<float>{};
  }
  add_rows<R, V>(sum, half_rows_at<R>(g.a + row, g.a_begin), g.k, g.panel, 32 * V);
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int v = 0; v < V; ++v)
      store<float>(g.c[row + r] + g.c_begin + 16 * v, sum[r][v]);
  }
}

void gemm_halves(const Bf16GemmArgs& g) {
  for_each_tile(g.n, [&](int64_t row, auto tile) {
    constexpr int R = decltype(tile)::value;
    switch (g.vectors) {
      case 1: half_tile<R, 1>(g, row); break;
      case 2: half_tile<R, 2>(g, row); break;
      case 3: half_tile<R, 3>(g, row); break;
      default: half_tile<R, 4>(g, row); break;
    }
  });
}

template <int R, int V>
NOINLINE void packed_tile(const Bf16PackedGemmArgs& g, const PackedHalves& a, int64_t row) {
  float* c = g.c + row * g.ld;
  Vec<float> sum[R][V] = {};
  if (g.accumulate) {
    UNROLL for (int r = 0; r < R; ++r)
      __builtin_prefetch(c + r * g.ld, 1, 3);
  }
  add_pairs<R, V>(sum, a, g.pairs, g.panel, 32 * V);
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int v = 0; v < V; ++v) {
      float* to = c + r * g.ld + 16 * v;
      store<float>(to, g.accumulate ? load<float>(to) + sum[r][v] : sum[r][v]);
    }
  }
}

// Tiles a power of two apart would fall into the same sets of the cache while pack_columns writes to all of them.
INLINE int64_t tile_size(int64_t pairs) { return 2 * (kRowTile * pairs + 16); }

void gemm_packed_halves(const Bf16PackedGemmArgs& g) {
  const BFloat16* packed = g.packed;
  for_each_tile(g.m, [&](int64_t row, auto tile) {
    constexpr int R = decltype(tile)::value;
    const PackedHalves a{reinterpret_cast<const PairBits*>(packed)};
    packed += tile_size(g.pairs);
    switch (g.vectors) {
      case 1: packed_tile<R, 1>(g, a, row); break;
      case 2: packed_tile<R, 2>(g, a, row); break;
      case 3: packed_tile<R, 3>(g, a, row); break;
      default: packed_tile<R, 4>(g, a, row); break;
    }
  });
}

void dot4_halves(const Bf16DotArgs& d) {
  for (int64_t r = 0; r < d.n; ++r) {
    Vec<float> even[4] = {}, odd[4] = {};
    for (int64_t i = 0; i < d.k; i += 64) {
      const __mmask32 low = first_halves(d.k - i), high = d.k - i > 32 ? first_halves(d.k - i - 32) : 0;
      const __m512bh x = (__m512bh)_mm512_maskz_loadu_epi16(low, d.a[r] + i);
      const __m512bh y = (__m512bh)_mm512_maskz_loadu_epi16(high, d.a[r] + i + 32);
      UNROLL for (int q = 0; q < 4; ++q) {
        even[q] = (Vec<float>)_mm512_dpbf16_ps((__m512)even[q], x, (__m512bh)_mm512_maskz_loadu_epi16(low, d.w[q] + i));
        odd[q] =
            (Vec<float>)_mm512_dpbf16_ps((__m512)odd[q], y, (__m512bh)_mm512_maskz_loadu_epi16(high, d.w[q] + i + 32));
      }
    }
    UNROLL for (int q = 0; q < 4; ++q)
      even[q] += odd[q];
    float sums[4];
    horizontal_sums<float>(even, sums);
    UNROLL for (int q = 0; q < 4; ++q)
      d.c[r][d.c_column[q]] += sums[q];
  }
}

// --- packing -----------------------------------------------------------------------------------------------------------

// 16 rows of 16 pairs, transposed by four rounds of interleaving.
INLINE void transpose_pairs(Word (&rows)[16]) {
  const Word low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const Word high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  UNROLL for (int round = 0; round < 4; ++round) {
    Word next[16];
    UNROLL for (int i = 0; i < 8; ++i) {
      next[2 * i] = _mm512_permutex2var_epi32(rows[i], low, rows[i + 8]);
      next[2 * i + 1] = _mm512_permutex2var_epi32(rows[i], high, rows[i + 8]);
    }
    UNROLL for (int i = 0; i < 16; ++i)
      rows[i] = next[i];
  }
}

void pack_transposed_halves(const BFloat16* w, int64_t ld, int64_t valid, int64_t k, BFloat16* dst,
                            int64_t dst_stride) {
  for (int64_t i = 0; i < k; i += 32) {
    const __mmask32 inside = first_halves(k - i);
    Word rows[16];
    UNROLL for (int u = 0; u < 16; ++u)
      rows[u] = u < valid ? _mm512_maskz_loadu_epi16(inside, w + u * ld + i) : _mm512_setzero_si512();
    transpose_pairs(rows);
    UNROLL for (int u = 0; u < 16; ++u)
      _mm512_storeu_si512(dst + (i / 2 + u) * dst_stride, rows[u]);
  }
}

void pack_half_pairs(const BFloat16* const* rows, int64_t n, int64_t begin, int64_t valid, int64_t width,
                     BFloat16* dst) {
  for (int64_t i = 0; i < 2 * padded_pairs(n); i += 2, dst += 2 * width) {
    if (i >= n) {
      std::memset(dst, 0, 2 * width * sizeof(BFloat16));
      continue;
    }
    const BFloat16* even = rows[i] + begin;
    const BFloat16* odd = i + 1 < n ? rows[i + 1] + begin : nullptr;
    for (int64_t j = 0; j < width; j += 16) {
      const __mmask16 inside = j < valid ? first_floats(valid - j) : 0;
      const Word low = zero_extended(_mm256_maskz_loadu_epi16(inside, even + j));
      const Word high = odd ? (Word)widen(_mm256_maskz_loadu_epi16(inside, odd + j)) : _mm512_setzero_si512();
      _mm512_storeu_si512(dst + 2 * j, _mm512_or_si512(low, high));
    }
  }
}

// Rows outermost: columns of rows a power of two apart would throw each other out of the cache.
void pack_half_columns(const BFloat16* src, int64_t ld, int64_t k, int64_t begin, int64_t m, BFloat16* dst) {
  const int64_t pairs = pairs_of(k);
  for (int64_t i = 0; i < pairs; ++i) {
    const BFloat16* even = src + 2 * i * ld + begin;
    const BFloat16* odd = 2 * i + 1 < k ? even + ld : nullptr;
    BFloat16* to = dst;
    for_each_tile(m, [&](int64_t column, auto tile) {
      constexpr int R = decltype(tile)::value;
      constexpr __mmask8 kInside = static_cast<__mmask8>((1u << R) - 1);
      const __m256i low = _mm256_cvtepu16_epi32(_mm_maskz_loadu_epi16(kInside, even + column));
      const __m256i high =
          odd ? _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_maskz_loadu_epi16(kInside, odd + column)), 16)
              : _mm256_setzero_si256();
      _mm256_mask_storeu_epi32(to + 2 * R * i, kInside, _mm256_or_si256(low, high));
      to += tile_size(pairs);
    });
  }
}
int64_t packed_columns_size(int64_t k, int64_t m) { return (m + kRowTile - 1) / kRowTile * tile_size(pairs_of(k)); }

void narrow_floats(const float* from, BFloat16* to, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) store_halves(to + i, load_some<float>(from + i, n - i), n - i);
}

// --- the cell ----------------------------------------------------------------------------------------------------------

INLINE Extra<Value<float>> with_clip(float clip) {
  Extra<Value<float>> x;
  x.clips = clip > 0, x.clip = Value<float>(clip);
  return x;
}

INLINE void finish_unit_group(const Gates<Value<float>>& pre, const float* c_prev, float* c, BFloat16* h, int64_t valid,
                              float* gates, float clip) {
  const CellState<Value<float>> out = Vanilla::forward(pre, Value<float>(load<float>(c_prev)), with_clip(clip));
  store<float>(c, out.c.v);
  store_halves(h, out.h.v, valid);
  if (gates) store_gates<float>(gates, out.gates);
}

template <int R>
NOINLINE void half_step_tile(const Bf16StepArgs& s, int64_t row) {
  Vec<float> sum[R][4];
  UNROLL for (int r = 0; r < R; ++r) {
    UNROLL for (int q = 0; q < 4; ++q)
      sum[r][q] = load<float>(s.x ? s.bias + 16 * q : s.gates[row + r] + 4 * s.unit + 16 * q);
  }
  if (s.x) add_rows<R, 4>(sum, half_rows_at<R>(s.x + row, 0), s.x_k, s.x_panel, 32 * 4);
  add_rows<R, 4>(sum, half_rows_at<R>(s.h_prev + row, 0), s.k, s.panel, 32 * 4);
  UNROLL for (int r = 0; r < R; ++r)
    finish_unit_group({sum[r][0], sum[r][1], sum[r][2], sum[r][3]}, s.c_prev[row + r] + s.unit, s.c[row + r] + s.unit,
                      s.h[row + r] + s.unit, s.valid, s.save ? s.gates[row + r] + 4 * s.unit : nullptr, s.clip);
}

void half_step(const Bf16StepArgs& s) {
  for_each_tile(s.n, [&](int64_t row, auto tile) { half_step_tile<decltype(tile)::value>(s, row); });
}

void half_cell_forward(const Bf16CellForwardArgs& a) {
  for (int64_t row = 0; row < a.n; ++row)
    for (int64_t unit = a.begin; unit < a.end; unit += 16) {
      float* gates = a.gates[row] + 4 * unit;
      finish_unit_group(load_gates<float>(gates), a.c_prev[row] + unit, a.c[row] + unit, a.h[row] + unit,
                        a.hidden - unit, a.save ? gates : nullptr, a.clip);
    }
}

// Padded units hold NaN after an infinite x (0 * inf): zeros, since they meet the zeros of the weights' panels.
INLINE void store_half_gates(BFloat16* to, const Gates<Value<float>>& d, int64_t valid) {
  const Vec<float> all[4] = {d.i.v, d.f.v, d.g.v, d.o.v};
  const __mmask16 inside = first_floats(valid);
  UNROLL for (int q = 0; q < 4; ++q)
    store_halves(to + 16 * q, (Vec<float>)_mm512_maskz_mov_ps(inside, (__m512)all[q]), 16);
}

void half_cell_backward(const Bf16CellBackwardArgs& a) {
  const Extra<Value<float>> extra = with_clip(a.clip);
  for (int64_t unit = a.begin; unit < a.end; unit += 16) {
    const int64_t valid = a.hidden - unit;
    const auto at = [unit](const float* row) { return Value<float>(load<float>(row + unit)); };
    Gates<Value<float>> bias_sum{};
    for (int64_t row = 0; row < a.n; ++row) {
      Vec<float> dh = load<float>(a.dh[row] + (unit - a.begin));
      if (a.dy) dh += load_halves(a.dy[row] + unit, valid);
      const CellGrad<Value<float>> d = Vanilla::backward(load_gates<float>(a.gates[row] + 4 * unit), at(a.c_prev[row]),
                                                         at(a.c[row]), Value<float>(dh), at(a.dc_in[row]), extra);
      store_half_gates(a.dgates[row] + 4 * unit, d.gates, valid);
      store<float>(a.dc_out[row] + unit, d.c_prev.v);
      add_gates<float>(bias_sum, d.gates);
    }
    Gates<Value<float>> total = load_gates<float>(a.bias_sum + 4 * unit);
    add_gates<float>(total, bias_sum);
    store_gates<float>(a.bias_sum + 4 * unit, total);
  }
}
