// The grid forward kernels of all shapes.

#include "cuda/grid_forward.cuh"

#include "cuda/families.h"

namespace fused_lstm::cuda {

const char* grid_forward(int shape, const ForwardRecurrence& work, int batch_groups, void* workspace, Stream stream) {
#define FUSED_LSTM_INSTANCE(T, H, W, R) &launch_grid_forward<GridForwardShape<T, H, W, R>>,
  constexpr const char* (*kLaunch[])(const ForwardRecurrence&, int, void*,
                                     void*) = {FUSED_LSTM_FOR_EACH_GRID_FORWARD_SHAPE(FUSED_LSTM_INSTANCE)};
#undef FUSED_LSTM_INSTANCE
  return kLaunch[shape](work, batch_groups, workspace, stream);
}

}  // namespace fused_lstm::cuda
