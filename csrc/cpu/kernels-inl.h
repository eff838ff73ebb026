// The body of one ISA: everything hot, compiled with that ISA's flags by isa_<name>.cpp, which sets
//   FUSED_LSTM_VECTOR_BYTES, FUSED_LSTM_ROW_TILE (rows per register tile), FUSED_LSTM_PASS_VECTORS (4 or 2).
// All of it has internal linkage: an inline function that leaked out of here compiled for AVX-512 could be the
// copy that the linker keeps for everybody. For the same reason nothing of the standard library is called.

#include <cstdint>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "cell/variants.h"
#include "cpu/kernels.h"

#define INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FUSED_LSTM_CAN_SHUFFLE 1
#endif
#endif

namespace fused_lstm::cpu {
namespace {

#include "cpu/vec-inl.h"
#ifdef FUSED_LSTM_CAN_SHUFFLE
#include "cpu/transpose-inl.h"
#endif
#include "cpu/gemm-inl.h"
#include "cpu/cell-inl.h"

template <class T, Vec<T> (*F)(Vec<T>)>
void map(const T* x, T* y, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes<T>) store_some<T>(y + i, F(load_some<T>(x + i, n - i)), n - i);
}

#define FUSED_LSTM_CELL_FORWARD(C) cell_forward<C, T>,
#define FUSED_LSTM_CELL_BACKWARD(C) cell_backward<C, T>,
template <class T>
constexpr Kernels<T> kKernels{
    kLanes<T>,
    kRowTile,
    gemm<T>,
    gemm_packed<T>,
    step<T>,
    dot4<T>,
    {FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_CELL_FORWARD)},
    {FUSED_LSTM_FOR_EACH_CELL(FUSED_LSTM_CELL_BACKWARD)},
    pack_transposed<T>,
    pack_rows<T>,
    pack_columns<T>,
    map<T, exp_of<T>>,
    map<T, sigmoid<T>>,
    map<T, hyperbolic_tangent<T>>,
};

}  // namespace
}  // namespace fused_lstm::cpu
