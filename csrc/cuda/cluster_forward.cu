// The cluster forward kernels of all shapes.

#include "cuda/cluster_forward.cuh"
#include "cuda/families.h"

namespace fused_lstm::cuda {

const char* cluster_forward(int shape, const ForwardRecurrence& work, Stream stream) {
#define FUSED_LSTM_INSTANCE(T, H, C, K) &launch_cluster_forward<ClusterForwardShape<T, H, C, K>>,
  constexpr const char* (*kLaunch[])(const ForwardRecurrence&,
                                     void*) = {FUSED_LSTM_FOR_EACH_CLUSTER_FORWARD_SHAPE(FUSED_LSTM_INSTANCE)};
#undef FUSED_LSTM_INSTANCE
  return kLaunch[shape](work, stream);
}

}  // namespace fused_lstm::cuda
