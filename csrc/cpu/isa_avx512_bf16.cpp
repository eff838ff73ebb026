// avx512 and products of bfloat16 pairs: the float kernels are those of isa_avx512.cpp, so only the tiles are the same.
#define FUSED_LSTM_VECTOR_BYTES 64
#define FUSED_LSTM_ROW_TILE 6
#define FUSED_LSTM_PASS_VECTORS 4
#include "cpu/bf16_kernels.h"
#include "cpu/kernels-inl.h"

namespace fused_lstm::cpu {
namespace {
#include "cpu/bf16-inl.h"
}  // namespace

extern const Bf16Kernels kAvx512Bf16;
const Bf16Kernels kAvx512Bf16{
    kRowTile,        gemm_halves,       gemm_packed_halves,  half_step,
    dot4_halves,     half_cell_forward, half_cell_backward,  pack_transposed_halves,
    pack_half_pairs, pack_half_columns, packed_columns_size, narrow_floats,
};
}  // namespace fused_lstm::cpu
