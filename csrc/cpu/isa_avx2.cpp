// 8 floats, 16 registers: five rows by two vectors a pass, two passes over a panel (i f, then g o).
#define FUSED_LSTM_VECTOR_BYTES 32
#define FUSED_LSTM_ROW_TILE 5
#define FUSED_LSTM_PASS_VECTORS 2
#include "cpu/kernels-inl.h"

namespace fused_lstm::cpu {
extern const Kernels<float> kAvx2Float;
extern const Kernels<double> kAvx2Double;
const Kernels<float> kAvx2Float = kKernels<float>;
const Kernels<double> kAvx2Double = kKernels<double>;
}  // namespace fused_lstm::cpu
