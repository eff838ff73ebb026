#pragma once
// The table of a CPU that multiplies pairs of bfloat16 (AVX512-BF16): products of bfloat16 rows with bfloat16 panels,
// summed in float32. As in kernels.h, row arguments are arrays of n pointers; here L is 16.
//
// The instruction takes two neighbours along k at a time, so panels are [pairs][vectors * L][2]; what an odd k lacks is
// zero in the panel and not read from a row, and more zeros follow up to whole tiles of AMX. It adds the second product
// of a pair first, rounds after each, and takes denormal operands and results for zero.

#include <cstdint>

#include "cell/float16.h"

namespace fused_lstm::cpu {

constexpr int kBf16Lanes = 16;
inline int64_t pairs_of(int64_t k) { return (k + 1) / 2; }
// of a panel
inline int64_t padded_pairs(int64_t k) { return (pairs_of(k) + 15) / 16 * 16; }

// c[r][c_begin ...] (=, or += when accumulating) a[r][a_begin ... a_begin+k) * panel [+ bias], whole vectors
struct Bf16GemmArgs {
  int64_t n, k;
  const BFloat16* const* a;
  int64_t a_begin;
  const BFloat16* panel;
  int vectors;        // 1 to 4
  const float* bias;  // [vectors * L] or null; only read when not accumulating
  bool accumulate;
  float* const* c;
  int64_t c_begin;
};

// The same with a left operand that pack_columns packed: m rows of c, pairs deep.
struct Bf16PackedGemmArgs {
  int64_t m, pairs;
  const BFloat16* packed;
  const BFloat16* panel;
  int vectors;
  bool accumulate;
  float* c;  // m rows, ld apart
  int64_t ld;
};

// One step of one unit group of the vanilla cell: product and cell in one go.
struct Bf16StepArgs {
  int64_t n, k;
  const BFloat16* const* h_prev;  // rows of k
  const BFloat16* panel;          // [pairs][4][L][2]
  int64_t x_k;                    // rows of x, where x is not null: the input is projected in the same go
  const BFloat16* const* x;
  const BFloat16* x_panel;
  const float* bias;              // [4][L]
  float* const* gates;            // rows of 4*Hp: pre-activations in, without x; activated gates out if save
  const float* const* c_prev;     // rows of Hp
  float* const* c;                // rows of Hp
  BFloat16* const* h;             // rows of H
  int64_t unit;                   // first unit of the group
  int64_t valid;                  // units of the group that exist, <= L
  bool save;
  float clip;                     // bound of c, 0: none
};

// The vanilla cell alone, where weights are read as they lie: units [begin, end), end <= Hp; h has `hidden` columns.
struct Bf16CellForwardArgs {
  int64_t n, begin, end, hidden;
  float* const* gates;
  const float* const* c_prev;
  float* const* c;
  BFloat16* const* h;
  bool save;
  float clip;
};

struct Bf16CellBackwardArgs {
  int64_t n, begin, end, hidden;
  const float* const* gates;
  BFloat16* const* dgates;       // rounded: what products read
  const float* const* dh;        // rows of padded units, starting at unit `begin`
  const BFloat16* const* dy;     // rows of `hidden` more gradient, or null
  const float* const* c;
  const float* const* c_prev;
  const float* const* dc_in;     // rows of Hp
  float* const* dc_out;          // rows of Hp; may alias dc_in row by row
  float* bias_sum;               // [4*Hp] in gate layout, added to, from unrounded gradients
  float clip;
};

// As DotArgs: n rows meet four weight rows as they lie, added to c.
struct Bf16DotArgs {
  int64_t n, k;
  const BFloat16* const* a;
  const BFloat16* const* w;
  float* const* c;
  const int64_t* c_column;
};

struct Bf16Kernels {
  int row_tile;  // rows that share one pass over a panel
  void (*gemm)(const Bf16GemmArgs&);
  void (*gemm_packed)(const Bf16PackedGemmArgs&);
  void (*step)(const Bf16StepArgs&);
  void (*dot4)(const Bf16DotArgs&);
  void (*cell_forward)(const Bf16CellForwardArgs&);
  void (*cell_backward)(const Bf16CellBackwardArgs&);
  // dst[padded pair][L][2] = w[u][k] for `valid` rows u of w (ld apart), zero for the rest; pairs are dst_stride apart
  void (*pack_transposed)(const BFloat16* w, int64_t ld, int64_t valid, int64_t k, BFloat16* dst, int64_t dst_stride);
  // dst[padded pair][width][2] = rows[2 * pair + 0, 1][begin ... begin+valid), zero beyond; width a multiple of L
  void (*pack_row_pairs)(const BFloat16* const* rows, int64_t n, int64_t begin, int64_t valid, int64_t width,
                         BFloat16* dst);
  // columns [begin, begin+m) of k rows, ld apart, as gemm_packed wants them: packed_columns_size elements
  void (*pack_columns)(const BFloat16* src, int64_t ld, int64_t k, int64_t begin, int64_t m, BFloat16* dst);
  int64_t (*packed_columns_size)(int64_t k, int64_t m);
  void (*narrow)(const float* from, BFloat16* to, int64_t n);
};

}  // namespace fused_lstm::cpu
