// avx512 and products of bfloat16 pairs, and the same with those of AMX: the float kernels are those of isa_avx512.cpp,
// so only the tiles are the same.
#define FUSED_LSTM_VECTOR_BYTES 64
#define FUSED_LSTM_ROW_TILE 6
#define FUSED_LSTM_PASS_VECTORS 4
#include <cstring>

#include "cpu/amx_tiles.h"
#include "cpu/bf16_kernels.h"
#include "cpu/kernels-inl.h"

namespace fused_lstm::cpu {
namespace {
#include "cpu/bf16-inl.h"
// behind it
#include "cpu/amx-inl.h"
}  // namespace

extern const Bf16Kernels kAvx512Bf16, kAmxBf16;
const Bf16Kernels kAvx512Bf16{
    kRowTile,        gemm_halves,       gemm_packed_halves,  half_step,
    dot4_halves,     half_cell_forward, half_cell_backward,  pack_transposed_halves,
    pack_half_pairs, pack_half_columns, packed_columns_size, narrow_floats,
};
const Bf16Kernels kAmxBf16{
    kTileRows,       gemm_tiles,        gemm_packed_tiles,        step_tiles,
    dot4_halves,     half_cell_forward, half_cell_backward,       pack_transposed_halves,
    pack_half_pairs, pack_tile_columns, packed_tile_columns_size, narrow_floats,
};
}  // namespace fused_lstm::cpu
