#include "cpu/panels.h"

namespace fused_lstm::cpu {

template <class T>
void pack_gates(const Kernels<T>& kernels, const GateLayout<T>& layout, const T* weight, const Panels<T>& to,
                const Member& member) {
  const int64_t k = to.k(), lanes = layout.lanes;
  const Range mine = part(layout.groups(), member.index, member.size);
  for (int64_t g = mine.begin; g < mine.end; ++g)
    for (int v = 0; v < to.vectors(g); ++v) {
      const T* rows[kMostLanes];
      const int64_t column = to.begin(g) + v * lanes, valid = std::min(lanes, to.columns() - column);
      for (int64_t u = 0; u < valid; ++u) rows[u] = weight + layout.weight_row(column + u) * k;
      kernels.pack_transposed(rows, valid, k, to.at(g) + v * lanes, to.vectors(g) * lanes);
    }
}

template <class T>
void pack_transpose(const Kernels<T>& kernels, const T* weight, const Panels<T>& to, const Member& member) {
  const int64_t k = to.k(), lanes = kernels.lanes;
  const Range mine = part(to.count(), member.index, member.size);
  for (int64_t p = mine.begin; p < mine.end; ++p)
    for (int v = 0; v < to.vectors(p); ++v) {
      const T* rows[kMostLanes];
      const int64_t column = to.begin(p) + v * lanes, valid = std::min(lanes, to.columns() - column);
      for (int64_t u = 0; u < valid; ++u) rows[u] = weight + (column + u) * k;
      kernels.pack_transposed(rows, valid, k, to.at(p) + v * lanes, to.vectors(p) * lanes);
    }
}

template <class T>
void pack_straight(const Kernels<T>& kernels, const T* const* rows, const Panels<T>& to, const Member& member) {
  const Range mine = part(to.count(), member.index, member.size);
  for (int64_t p = mine.begin; p < mine.end; ++p)
    kernels.pack_rows(rows, to.k(), to.begin(p), to.valid(p), to.vectors(p) * int64_t{kernels.lanes}, to.at(p));
}

template <class T>
void multiply(const Product<T>& m) {
  // 512 deep: a panel's slice streams from L2 while a row block of 96 x 512 floats (192 KiB) stays there.
  constexpr int64_t kDepth = 4096 / sizeof(T) / 2, kRows = 96;
  const int64_t k = m.panels->k();
  if (k == 0) {  // an empty product still has to write its bias
    for (int64_t i = 0; i < m.n && !m.accumulate; ++i)
      for (int64_t p = m.range.begin; p < m.range.end; ++p)
        for (int64_t j = 0; j < m.panels->valid(p); ++j)
          m.c[i][m.c_begin + m.panels->begin(p) + j] = m.bias ? m.bias[m.panels->begin(p) + j] : T(0);
    return;
  }
  for (int64_t row = 0; row < m.n; row += kRows)
    for (int64_t depth = 0; depth < k; depth += kDepth)
      for (int64_t p = m.range.begin; p < m.range.end; ++p) {
        GemmArgs<T> g{};
        g.n = std::min(kRows, m.n - row);
        g.k = std::min(kDepth, k - depth);
        g.a = m.a + row;
        g.a_begin = m.a_begin + depth;
        g.panel = m.panels->at(p, depth);
        g.vectors = m.panels->vectors(p);
        g.bias = m.bias ? m.bias + m.panels->begin(p) : nullptr;
        g.accumulate = m.accumulate || depth > 0;
        if (g.accumulate) g.bias = nullptr;
        g.c = m.c + row;
        g.c_begin = m.c_begin + m.panels->begin(p);
        g.c_valid = m.whole_vectors ? g.vectors * int64_t{m.kernels->lanes} : m.panels->valid(p);
        m.kernels->gemm(g);
      }
}

#define FUSED_LSTM_INSTANTIATE(T)                                                                               \
  template void pack_gates(const Kernels<T>&, const GateLayout<T>&, const T*, const Panels<T>&, const Member&); \
  template void pack_transpose(const Kernels<T>&, const T*, const Panels<T>&, const Member&);                   \
  template void pack_straight(const Kernels<T>&, const T* const*, const Panels<T>&, const Member&);             \
  template void multiply(const Product<T>&);
FUSED_LSTM_INSTANTIATE(float)
FUSED_LSTM_INSTANTIATE(double)

}  // namespace fused_lstm::cpu
