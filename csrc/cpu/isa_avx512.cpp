// 16 floats, 32 registers: six rows by the four gates in one pass.
#define FUSED_LSTM_VECTOR_BYTES 64
#define FUSED_LSTM_ROW_TILE 6
#define FUSED_LSTM_PASS_VECTORS 4
#include "cpu/kernels-inl.h"

namespace fused_lstm::cpu {
extern const Kernels<float> kAvx512Float;
extern const Kernels<double> kAvx512Double;
const Kernels<float> kAvx512Float = kKernels<float>;
const Kernels<double> kAvx512Double = kKernels<double>;
}  // namespace fused_lstm::cpu
