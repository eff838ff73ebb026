// The grid forward kernel for the device.

#include "cuda/grid_forward.cuh"

namespace fused_lstm::cuda {

#define FUSED_LSTM_INSTANCE(T, H, W, R) \
  template const char* launch_grid_forward<GridForwardShape<T, H, W, R>>(const ForwardRecurrence&, int, void*, void*);
FUSED_LSTM_FOR_EACH_GRID_FORWARD_SHAPE(FUSED_LSTM_INSTANCE)
#undef FUSED_LSTM_INSTANCE

}  // namespace fused_lstm::cuda
