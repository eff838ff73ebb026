// The grid backward kernels of all shapes.

#include "cuda/grid_backward.cuh"

#include "cuda/families.h"

namespace fused_lstm::cuda {

const char* grid_backward(int shape, const BackwardRecurrence& work, int batch_groups, void* workspace, Stream stream) {
#define FUSED_LSTM_INSTANCE(T, H, W, R) &launch_grid_backward<GridBackwardShape<T, H, W, R>>,
  constexpr const char* (*kLaunch[])(const BackwardRecurrence&, int, void*,
                                     void*) = {FUSED_LSTM_FOR_EACH_GRID_BACKWARD_SHAPE(FUSED_LSTM_INSTANCE)};
#undef FUSED_LSTM_INSTANCE
  return kLaunch[shape](work, batch_groups, workspace, stream);
}

}  // namespace fused_lstm::cuda
