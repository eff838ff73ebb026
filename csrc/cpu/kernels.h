#pragma once
// The watershed: below this table code knows its ISA, above it nothing does. One ISA fills one Isa;
// drivers call through it with plain pointers. T is the type that kernels compute in: float or double.
//
// Everywhere `L` is the number of lanes of T. Row arguments are arrays of n pointers, one per row, because rows
// come from many places: the caller's strided tensor, an initial state, a row of zeros after a reset.
//
// Gate layout, of buffers and of weight panels: unit group (L units) major, then i f g o, then unit:
// the four gates of a group are four adjacent vectors. The last group may have fewer units; its gates
// are that much shorter and stay adjacent, which leaves the columns behind them unused.

#include <cstdint>

#include "cell/variants.h"

namespace fused_lstm::cpu {

// c[r][c_begin ...] (=, or += when accumulating) a[r][a_begin ... a_begin+k) * panel [+ bias]
template <class T>
struct GemmArgs {
  int64_t n, k;
  const T* const* a;
  int64_t a_begin;
  const T* panel;   // [k][vectors * L]
  int vectors;      // 1 to 4
  const T* bias;    // [vectors * L] or null; only read when not accumulating
  bool accumulate;
  T* const* c;
  int64_t c_begin;
  int64_t c_valid;  // columns that exist in c, <= vectors * L
};

// The same product with a transposed and packed left operand: c[m] += sum_k packed[k][m] * panel[k]
template <class T>
struct PackedGemmArgs {
  int64_t m, k;     // m rows of c, split into near equal tiles as pack_columns did
  const T* packed;
  const T* panel;   // [k][vectors * L]
  int vectors;
  bool accumulate;
  T* const* c;      // m pointers, null for rows that exist only as padding
  int64_t c_begin, c_valid;
};

// One step of one unit group of the vanilla cell: product and cell in one go.
template <class T>
struct StepArgs {
  int64_t n, k;
  const T* const* h_prev;   // rows of k
  const T* panel;           // [k][4][L], or as many vectors as 4 * valid columns need
  T* const* gates;          // rows of 4*Hp: pre-activations in; activated gates out if save
  const T* const* c_prev;   // rows of Hp
  T* const* c;              // rows of Hp
  T* const* h;              // rows of H
  int64_t unit;             // first unit of the group
  int64_t valid;            // units of the group that exist, <= L
  bool save;
};

// The cell alone, for units [begin, end), end <= Hp; h and inputs have `hidden` columns.
template <class T>
struct CellForwardArgs {
  int64_t n, begin, end, hidden, padded_hidden;
  T* const* gates;
  const T* const* c_prev;
  T* const* c;
  const T* const* h_prev;   // read only by cells with kReadsHPrev
  T* const* h;
  const T* params;          // [params][Hp]
  const T* const* inputs;   // rows of [inputs][H]
  bool save;
  T clip;                   // bound of c, 0: none
};

template <class T>
struct CellBackwardArgs {
  int64_t n, begin, end, hidden, padded_hidden;
  const T* const* gates;
  T* const* dgates;
  const T* const* dh;        // rows of padded units, starting at unit `begin`
  const T* const* dy;        // rows of `hidden` more gradient, or null
  const T* const* c;
  const T* const* c_prev;
  const T* const* dc_in;     // rows of Hp
  T* const* dc_out;          // rows of Hp; may alias dc_in row by row
  T* const* dh_prev;         // rows of Hp, written by cells with kReadsHPrev
  const T* params;
  const T* const* inputs;
  T* bias_sum;               // [4*Hp] in gate layout, added to
  T* param_sum;              // [params][Hp], added to
  T clip;
};

// dst[row][j] for `rows` weight rows side by side, from row-major weights: used when so few
// rows of input meet the weights that packing them would cost more than it saves.
template <class T>
struct DotArgs {
  int64_t n, k;
  const T* const* a;         // n rows of k
  const T* const* w;         // 4 weight rows of k
  T* const* c;               // n rows
  const int64_t* c_column;   // 4 columns
  bool accumulate;
};

constexpr int kMostLanes = 16;

template <class T>
struct Kernels {
  int lanes;
  int row_tile;  // rows that share one pass over a panel
  void (*gemm)(const GemmArgs<T>&);
  void (*gemm_packed)(const PackedGemmArgs<T>&);
  void (*step)(const StepArgs<T>&);
  void (*dot4)(const DotArgs<T>&);
  void (*cell_forward[kCellCount])(const CellForwardArgs<T>&);
  void (*cell_backward[kCellCount])(const CellBackwardArgs<T>&);
  // dst[k][L] = rows[u][k] for u < valid, zero for the rest; dst rows are dst_stride apart
  void (*pack_transposed)(const T* const* rows, int64_t valid, int64_t k, T* dst, int64_t dst_stride);
  // dst[i][width] = rows[i][begin ... begin+valid), zero beyond; width a multiple of L
  void (*pack_rows)(const T* const* rows, int64_t n, int64_t begin, int64_t valid, int64_t width, T* dst);
  // tiles of columns [begin, begin+m) of k rows, ld apart, as gemm_packed wants them
  void (*pack_columns)(const T* src, int64_t ld, int64_t k, int64_t begin, int64_t m, T* dst);
  // elementwise, for tests and for the odd job
  void (*exp)(const T* x, T* y, int64_t n);
  void (*sigmoid)(const T* x, T* y, int64_t n);
  void (*tanh)(const T* x, T* y, int64_t n);
};

struct Bf16Kernels;  // cpu/bf16_kernels.h

struct Isa {
  const char* name;
  bool (*supported)();
  const Kernels<float>* f32;
  const Kernels<double>* f64;
  const Bf16Kernels* bf16;  // null where bfloat16 has to become float first

  template <class T>
  const Kernels<T>& kernels() const {
    if constexpr (sizeof(T) == 4)
      return *f32;
    else
      return *f64;
  }
};

// The best ISA of this machine, or the one that FUSED_LSTM_CPU_ISA names. Throws when that one cannot run here.
const Isa& isa();

// Every ISA compiled in and supported here, best first; null-terminated.
const Isa* const* supported_isas();

}  // namespace fused_lstm::cpu
