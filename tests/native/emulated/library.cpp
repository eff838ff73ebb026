// torch.ops.fused_lstm_emulated: the CUDA operators compiled for CPU tensors, see csrc/binding/op_cuda.cpp.

#include "binding/compat.h"
#include "binding/schemas.h"
#include "cuda/emulator.h"

namespace {

// What the emulator does from now on: its seed, and whether kernels with weights on chip find no room.
void emulate(int64_t seed, bool refuse_launches) {
  auto& options = fused_lstm::cuda::emulator::g_options;
  options = {};
  options.seed = static_cast<uint64_t>(seed);
  if (refuse_launches) options.faults.forgotten.insert("launch");
}

// Of such kernels, since loading.
int64_t launches() { return static_cast<int64_t>(fused_lstm::cuda::emulator::g_launches); }

}  // namespace

STABLE_TORCH_LIBRARY(fused_lstm_emulated, m) {
  m.def("lstm_layer" FUSED_LSTM_FORWARD_SCHEMA);
  m.def("lstm_layer_backward" FUSED_LSTM_BACKWARD_SCHEMA);
  m.def("emulate(int seed, bool refuse_launches) -> ()");
  m.def("launches() -> int");
  m.def("cuda_served() -> int[]");
}

STABLE_TORCH_LIBRARY_IMPL(fused_lstm_emulated, CompositeExplicitAutograd, m) {
  m.impl("emulate", TORCH_BOX(&emulate));
  m.impl("launches", TORCH_BOX(&launches));
}
