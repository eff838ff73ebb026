// torch.ops.fused_lstm_emulated: csrc/binding/op_cuda.cpp compiled for CPU tensors, see there.

#include "binding/compat.h"
#include "binding/schemas.h"

STABLE_TORCH_LIBRARY(fused_lstm_emulated, m) {
  m.def("lstm_layer" FUSED_LSTM_FORWARD_SCHEMA);
  m.def("lstm_layer_backward" FUSED_LSTM_BACKWARD_SCHEMA);
}
