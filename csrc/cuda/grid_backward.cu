// The grid backward kernel for the device.

#include "cuda/grid_backward.cuh"

namespace fused_lstm::cuda {

#define FUSED_LSTM_INSTANCE(T, H, W, R)                                                                           \
  template const char* launch_grid_backward<GridBackwardShape<T, H, W, R>>(const BackwardRecurrence&, int, void*, \
                                                                           void*);
FUSED_LSTM_FOR_EACH_GRID_BACKWARD_SHAPE(FUSED_LSTM_INSTANCE)
#undef FUSED_LSTM_INSTANCE

}  // namespace fused_lstm::cuda
