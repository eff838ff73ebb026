#include "cpu/bf16_panels.h"

namespace fused_lstm::cpu {

void pack_gates(const Bf16Kernels& kernels, const GateLayout<BFloat16>& layout, const BFloat16* weight,
                const Bf16Panels& to, const Member& member) {
  const int64_t k = to.k();
  const Range mine = part(layout.groups(), member.index, member.size);
  for (int64_t g = mine.begin; g < mine.end; ++g)
    for (int q = 0; q < 4; ++q)
      kernels.pack_transposed(weight + (q * layout.hidden + g * kBf16Lanes) * k, k, layout.valid(g), k,
                              to.at(g) + 2 * q * kBf16Lanes, 2 * Bf16Panels::kWidth);
}

void pack_straight(const Bf16Kernels& kernels, const BFloat16* const* rows, const Bf16Panels& to,
                   const Member& member) {
  const Range mine = part(to.count(), member.index, member.size);
  for (int64_t p = mine.begin; p < mine.end; ++p)
    kernels.pack_row_pairs(rows, to.k(), to.begin(p), to.valid(p), to.width(p), to.at(p));
}

void multiply(const Bf16Product& m) {
  // 1024 deep: a panel's slice streams from L2 while a row block of 96 x 1024 (192 KiB) stays there
  constexpr int64_t kDepth = 1024, kRows = 96;
  const int64_t k = std::max<int64_t>(m.panels->k(), 1);  // an empty product still has to write its bias
  for (int64_t row = 0; row < m.n; row += kRows)
    for (int64_t depth = 0; depth < k; depth += kDepth)
      for (int64_t p = m.range.begin; p < m.range.end; ++p) {
        Bf16GemmArgs g{};
        g.n = std::min(kRows, m.n - row);
        g.k = std::min(kDepth, m.panels->k() - depth);
        g.a = m.a + row;
        g.a_begin = depth;
        g.panel = m.panels->at(p, depth);
        g.vectors = m.panels->vectors(p);
        g.bias = m.bias ? m.bias + m.panels->begin(p) : nullptr;
        g.accumulate = m.accumulate || depth > 0;
        g.c = m.c + row;
        g.c_begin = m.c_begin + m.panels->begin(p);
        m.kernels->gemm(g);
      }
}

}  // namespace fused_lstm::cpu
