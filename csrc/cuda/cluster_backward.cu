// The cluster backward kernels of all shapes.

#include "cuda/cluster_backward.cuh"
#include "cuda/families.h"

namespace fused_lstm::cuda {

const char* cluster_backward(int shape, const BackwardRecurrence& work, Stream stream) {
#define FUSED_LSTM_INSTANCE(T, H, C, K) &launch_cluster_backward<ClusterBackwardShape<T, H, C, K>>,
  constexpr const char* (*kLaunch[])(const BackwardRecurrence&,
                                     void*) = {FUSED_LSTM_FOR_EACH_CLUSTER_BACKWARD_SHAPE(FUSED_LSTM_INSTANCE)};
#undef FUSED_LSTM_INSTANCE
  return kLaunch[shape](work, stream);
}

}  // namespace fused_lstm::cuda
