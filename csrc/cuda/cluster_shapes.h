#pragma once
// The shapes in which the cluster kernels exist on the device. Forward: X(type, hidden units, blocks of a cluster,
// warps that share a sum). Chosen so that the weights fit into registers: 16-bit ones take hidden / (2 share) registers
// of every thread, float ones twice that. With these nothing spills; 128 units of 16 bits in a single block would, a
// little.

// clang-format off
#define FUSED_LSTM_FOR_EACH_CLUSTER_FORWARD_SHAPE(X) \
  X(BFloat16, 128, 2, 1)                     \
  X(BFloat16, 256, 4, 1)                     \
  X(BFloat16, 512, 16, 2)                    \
  X(Float16, 128, 2, 1)                      \
  X(Float16, 256, 4, 1)                      \
  X(Float16, 512, 16, 2)                     \
  X(float, 128, 2, 2)                        \
  X(float, 256, 8, 2)

// Likewise for backward: X(type, hidden units, blocks of a cluster, warps of a block). Weights of float16 become float
// there, and 512 units of those do not fit.
#define FUSED_LSTM_FOR_EACH_CLUSTER_BACKWARD_SHAPE(X) \
  X(BFloat16, 128, 2, 8)                              \
  X(BFloat16, 256, 4, 8)                              \
  X(BFloat16, 512, 16, 16)                            \
  X(Float16, 128, 2, 8)                               \
  X(Float16, 256, 8, 8)                               \
  X(float, 128, 2, 8)                                 \
  X(float, 256, 8, 8)
// clang-format on
