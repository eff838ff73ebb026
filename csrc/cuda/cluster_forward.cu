// The cluster forward kernel for the device.

#include "cuda/cluster_forward.cuh"
#include "cuda/cluster_shapes.h"

namespace fused_lstm::cuda {

#define FUSED_LSTM_INSTANCE(T, H, C, K) \
  template const char* launch_cluster_forward<ClusterForwardShape<T, H, C, K>>(const ForwardRecurrence&, void*);
FUSED_LSTM_FOR_EACH_CLUSTER_FORWARD_SHAPE(FUSED_LSTM_INSTANCE)
#undef FUSED_LSTM_INSTANCE

}  // namespace fused_lstm::cuda
