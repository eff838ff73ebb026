// The cluster backward kernel for the device.

#include "cuda/cluster_backward.cuh"
#include "cuda/cluster_shapes.h"

namespace fused_lstm::cuda {

#define FUSED_LSTM_INSTANCE(T, H, C, K) \
  template const char* launch_cluster_backward<ClusterBackwardShape<T, H, C, K>>(const BackwardRecurrence&, void*);
FUSED_LSTM_FOR_EACH_CLUSTER_BACKWARD_SHAPE(FUSED_LSTM_INSTANCE)
#undef FUSED_LSTM_INSTANCE

}  // namespace fused_lstm::cuda
