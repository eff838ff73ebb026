#pragma once
// The shapes in which the cluster kernels exist on the device: X(type, hidden units, blocks of a cluster, warps that
// share a sum). Chosen so that the weights fit into registers: 16-bit ones take hidden / (2 share) registers of every
// thread, float ones twice that. With these nothing spills; 128 units of 16 bits in a single block would, a little.

// clang-format off
#define FUSED_LSTM_FOR_EACH_CLUSTER_SHAPE(X) \
  X(BFloat16, 128, 2, 1)                     \
  X(BFloat16, 256, 4, 1)                     \
  X(BFloat16, 512, 16, 2)                    \
  X(Float16, 128, 2, 1)                      \
  X(Float16, 256, 4, 1)                      \
  X(Float16, 512, 16, 2)                     \
  X(float, 128, 2, 2)                        \
  X(float, 256, 8, 2)
// clang-format on
