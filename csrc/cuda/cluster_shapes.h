#pragma once
// What the cluster kernels are compiled for: how a shape divides its work, and the list of shapes on the device. Knows no
// CUDA, since the plan is made from it.

#include "cuda/operand.h"

namespace fused_lstm::cuda {

constexpr int kTileRows = 8;

// T: float (products in TF32), BFloat16 or Float16. kHidden: H rounded up, see the assertions.
template <class T_, int kHidden_, int kBlocks_, int kSplit_>
struct ClusterForwardShape {
  using T = T_;
  static constexpr int kHidden = kHidden_, kBlocks = kBlocks_, kSplit = kSplit_;
  static constexpr int kUnits = kHidden / kBlocks;  // of a block
  static constexpr int kGroups = kUnits / 8;
  static constexpr int kThreads = kGroups * kSplit * 32;
  static constexpr int kDepth = Operand<T>::kDepth;
  static constexpr int kTiles = kHidden / kDepth / kSplit;  // products deep
  static constexpr int kRowBytes = kTileRows * sizeof(T), kBufferBytes = kHidden * kRowBytes;
  static constexpr int kBarriers = 0, kState = 128, kPartials = kState + 2 * kBufferBytes;
  static constexpr int kPartialBytes = 8 * 32 * 4;  // what the lanes of a warp have summed up
  static constexpr int kSharedBytes = kPartials + (kSplit - 1) * kGroups * kPartialBytes;
  static constexpr int kWords = sizeof(T) / 2;  // of h that a lane holds: two values
  static_assert(kHidden % kBlocks == 0 && kUnits % 8 == 0, "a warp owns 8 units");
  static_assert(kHidden % (2 * kDepth * kSplit) == 0, "tiles are loaded in pairs");
  static_assert(kSplit == 1 || kGroups <= 15, "one named barrier a group");
  static_assert(kThreads <= 1024);
};

template <class T_, int kHidden_, int kBlocks_, int kWarps_>
struct ClusterBackwardShape {
  using T = T_;
  using Factor = typename GradientOperand<T>::Type;
  static constexpr int kRows = 8;  // of a tile
  static constexpr int kHidden = kHidden_, kBlocks = kBlocks_, kWarps = kWarps_;
  static constexpr int kThreads = kWarps * 32, kUnits = kHidden / kBlocks;
  static constexpr int kStrips = kHidden / 16 / kWarps;  // of 16 units whose dh a warp computes
  static constexpr int kDepth = Operand<Factor>::kDepth, kTiles = 4 * kUnits / kDepth;
  static constexpr int kPairs = (kUnits * kRows + kThreads - 1) / kThreads;  // of a unit and a row, for each thread
  static constexpr int kGateBytes = kRows * sizeof(Factor), kGatesBytes = 4 * kUnits * kGateBytes;
  static constexpr int kPartBytes = kUnits * kRows * 4, kInboxBytes = kBlocks * kPartBytes;
  static constexpr int kBarriers = 0, kGates = 128, kInboxes = kGates + 2 * kGatesBytes;
  static constexpr int kSharedBytes = kInboxes + 2 * kInboxBytes;
  static_assert(kHidden % kBlocks == 0 && kUnits % 8 == 0 && kHidden % (16 * kWarps) == 0);
};

}  // namespace fused_lstm::cuda

// The shapes on the device. Forward: X(type, hidden units, blocks of a cluster,
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
