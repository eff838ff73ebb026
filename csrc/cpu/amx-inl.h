// The products of bf16_kernels.h by AMX tiles; behind bf16-inl.h, whose kernels serve fewer rows than a tile has.
// Two tiles of rows meet two of columns: four sums, each tile that was loaded is used twice.

constexpr int64_t kTileRows = 16, kTileDepth = 32;  // of the left operand
constexpr int64_t kTile = kTileRows * kTileDepth;
// Rows that do not lie evenly are copied so deep at a time.
constexpr int64_t kCopiedDepth = 1024;
constexpr int64_t kSumsWidth = 64;

// 16 rows as tiles. Up to `whole` they lie where they are, then in `rest`, tile after tile.
struct LeftTiles {
  const BFloat16* first;
  int64_t row_bytes, to_next;  // between rows; from a tile to the next, in numbers
  int64_t whole;
  const BFloat16* rest;

  template <int N>
  INLINE void load(Tiles& tiles, int64_t k) const {
    if (k < whole)
      tiles.load<N>(first + k / kTileDepth * to_next, row_bytes);
    else
      tiles.load<N>(rest + (k - whole) / kTileDepth * kTile, kTileDepth * sizeof(BFloat16));
  }
};

// Rows by pointers. If they are evenly apart, only an incomplete last tile is copied: what follows a row is not ours.
struct PointedRows {
  const BFloat16* const* rows;
  int64_t column;

  LeftTiles tiles(int64_t row, int64_t from, int64_t depth, BFloat16* room) const {
    const auto address = [&](int64_t i) { return reinterpret_cast<intptr_t>(rows[row + i]); };
    const int64_t apart = address(1) - address(0);
    bool even = true;
    for (int64_t i = 2; i < kTileRows; ++i) even &= address(i) - address(0) == i * apart;
    const int64_t whole = even ? depth / kTileDepth * kTileDepth : 0;
    BFloat16* to = room;
    for (int64_t k = whole; k < depth; k += kTileDepth)
      for (int64_t i = 0; i < kTileRows; ++i, to += kTileDepth)
        _mm512_storeu_si512(to, _mm512_maskz_loadu_epi16(first_halves(depth - k), rows[row + i] + column + from + k));
    return {rows[row] + column + from, apart, kTileDepth, whole, room};
  }
};

// What pack_tile_columns made.
struct PackedTiles {
  const BFloat16* packed;
  int64_t deep;  // tiles

  LeftTiles tiles(int64_t row, int64_t from, int64_t depth, BFloat16*) const {
    return {packed + (row / kTileRows * deep + from / kTileDepth) * kTile, kTileDepth * sizeof(BFloat16), kTile,
            depth + kTileDepth, nullptr};
  }
};

template <class Left>
struct Factor {
  Left left;
  int64_t k;
  const BFloat16* panel;
};

template <int R, int V>
INLINE void add_tiles(Tiles& tiles, const LeftTiles* left, int64_t depth, const BFloat16* panel, int64_t stride) {
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    const BFloat16* right = panel + k / 2 * stride;
    left[0].load<4>(tiles, k);
    if constexpr (R > 1) left[1].load<5>(tiles, k);
    tiles.load<6>(right, stride * sizeof(BFloat16));
    if constexpr (V > 1) tiles.load<7>(right + 2 * kBf16Lanes, stride * sizeof(BFloat16));
    tiles.multiply_add<0, 4, 6>();
    if constexpr (V > 1) tiles.multiply_add<1, 4, 7>();
    if constexpr (R > 1) tiles.multiply_add<2, 5, 6>();
    if constexpr (R > 1 && V > 1) tiles.multiply_add<3, 5, 7>();
  }
}

// sums of R times 16 rows from begin[0], begin[1] and V vectors from v on
template <int R, int V, class Left>
NOINLINE void sum_tiles(Tiles& tiles, const Factor<Left>* factors, int count, const int64_t* begin, int vectors, int v,
                        BFloat16* room, float* sums) {
  tiles.zero<0>(), tiles.zero<1>(), tiles.zero<2>(), tiles.zero<3>();
  const int64_t stride = 2 * kBf16Lanes * vectors;
  for (const Factor<Left>* f = factors; f < factors + count; ++f)
    for (int64_t from = 0; from < f->k; from += kCopiedDepth) {
      const int64_t depth = std::min(kCopiedDepth, f->k - from);
      LeftTiles left[R];
      for (int r = 0; r < R; ++r) left[r] = f->left.tiles(begin[r], from, depth, room + r * kTileRows * kCopiedDepth);
      add_tiles<R, V>(tiles, left, depth, f->panel + from / 2 * stride + 2 * kBf16Lanes * v, stride);
    }
  constexpr int64_t kApart = kSumsWidth * sizeof(float);
  float* to = sums + kBf16Lanes * v;
  tiles.store<0>(to, kApart);
  if constexpr (V > 1) tiles.store<1>(to + kBf16Lanes, kApart);
  to += kTileRows * kSumsWidth;
  if constexpr (R > 1) tiles.store<2>(to, kApart);
  if constexpr (R > 1 && V > 1) tiles.store<3>(to + kBf16Lanes, kApart);
}

// The sum of `count` products for n >= 16 rows: body(r, sums of row r), once for every row. The last tile of rows
// reaches back over rows that are done.
template <class Left, class Body>
INLINE void for_each_sum(const Factor<Left>* factors, int count, int64_t n, int vectors, const Body& body) {
  Tiles tiles;
  alignas(64) float sums[2 * kTileRows * kSumsWidth];
  alignas(64) BFloat16 room[2 * kTileRows * kCopiedDepth];
  for (int64_t row = 0; row < n; row += 2 * kTileRows) {
    const bool two = n - row > kTileRows;
    const int64_t last = n - kTileRows, middle = row + kTileRows;
    const int64_t begin[] = {std::min(row, last), std::min(middle, last)};
    for (int v = 0; v < vectors; v += 2) {
      const auto sum = two               ? vectors - v > 1 ? sum_tiles<2, 2, Left> : sum_tiles<2, 1, Left>
                       : vectors - v > 1 ? sum_tiles<1, 2, Left>
                                         : sum_tiles<1, 1, Left>;
      sum(tiles, factors, count, begin, vectors, v, room, sums);
    }
    for (int64_t r = row; r < std::min(n, middle); ++r) body(r, sums + (r - begin[0]) * kSumsWidth);
    for (int64_t r = middle; r < std::min(n, middle + kTileRows); ++r)
      body(r, sums + (kTileRows + r - begin[1]) * kSumsWidth);
  }
}

void gemm_tiles(const Bf16GemmArgs& g) {
  if (g.n < kTileRows) return gemm_halves(g);
  const Factor<PointedRows> factor{{g.a, g.a_begin}, g.k, g.panel};
  for_each_sum(&factor, 1, g.n, g.vectors, [&](int64_t r, const float* sums) {
    float* c = g.c[r] + g.c_begin;
    for (int64_t j = 0; j < kBf16Lanes * g.vectors; j += kBf16Lanes) {
      const Vec<float> start = g.accumulate ? load<float>(c + j) : g.bias ? load<float>(g.bias + j) : Vec<float>{};
      store<float>(c + j, start + load<float>(sums + j));
    }
  });
}

void gemm_packed_tiles(const Bf16PackedGemmArgs& g) {
  const int64_t rows = (g.m + kTileRows - 1) / kTileRows * kTileRows;  // packed: with zeros
  const Factor<PackedTiles> factor{{g.packed, (2 * g.pairs + kTileDepth - 1) / kTileDepth}, 2 * g.pairs, g.panel};
  for_each_sum(&factor, 1, rows, g.vectors, [&](int64_t r, const float* sums) {
    float* c = g.c + r * g.ld;
    for (int64_t j = 0; r < g.m && j < kBf16Lanes * g.vectors; j += kBf16Lanes)
      store<float>(c + j, g.accumulate ? load<float>(c + j) + load<float>(sums + j) : load<float>(sums + j));
  });
}

void step_tiles(const Bf16StepArgs& s) {
  if (s.n < kTileRows) return half_step(s);
  const Factor<PointedRows> factors[] = {{{s.h_prev, 0}, s.k, s.panel}, {{s.x, 0}, s.x_k, s.x_panel}};
  for_each_sum(factors, s.x ? 2 : 1, s.n, 4, [&](int64_t r, const float* sums) {
    float* gates = s.gates[r] + 4 * s.unit;
    const float* start = s.x ? s.bias : gates;
    const auto pre = [&](int q) { return load<float>(start + 16 * q) + load<float>(sums + 16 * q); };
    finish_unit_group({pre(0), pre(1), pre(2), pre(3)}, s.c_prev[r] + s.unit, s.c[r] + s.unit, s.h[r] + s.unit, s.valid,
                      s.save ? gates : nullptr, s.clip);
  });
}

// Tiles of 16 columns as rows: [16 columns][16 pairs], with zeros up to whole ones.
void pack_tile_columns(const BFloat16* src, int64_t ld, int64_t k, int64_t begin, int64_t m, BFloat16* dst) {
  const int64_t deep = (k + kTileDepth - 1) / kTileDepth;
  for (int64_t block = 0; block < deep; ++block)
    for (int64_t column = 0; column < m; column += kTileRows) {
      const __mmask16 inside = first_floats(m - column);
      Word pairs[16];
      for (int64_t i = 0, row = block * kTileDepth; i < 16; ++i, row += 2) {
        const BFloat16* even = src + row * ld + begin + column;
        pairs[i] = row < k ? zero_extended(_mm256_maskz_loadu_epi16(inside, even)) : _mm512_setzero_si512();
        if (row + 1 < k) pairs[i] = _mm512_or_si512(pairs[i], (Word)widen(_mm256_maskz_loadu_epi16(inside, even + ld)));
      }
      transpose_pairs(pairs);
      BFloat16* to = dst + (column / kTileRows * deep + block) * kTile;
      for (int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(to + i * kTileDepth, pairs[i]);
    }
}
int64_t packed_tile_columns_size(int64_t k, int64_t m) {
  return (m + kTileRows - 1) / kTileRows * ((k + kTileDepth - 1) / kTileDepth) * kTile;
}
