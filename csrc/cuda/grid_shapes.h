#pragma once
// The shapes in which the grid kernels exist on the device. X(type, hidden units, warps of a block, tiles of weights
// that a warp keeps in registers). Weights take hidden / 8 registers of every thread in 16 bits, twice that as float;
// what is beyond 128 (144 where shared memory is short) lies in shared memory.

// clang-format off
#define FUSED_LSTM_FOR_EACH_GRID_FORWARD_SHAPE(X) \
  X(BFloat16, 256, 8, 8)                  \
  X(BFloat16, 512, 8, 8)                  \
  X(BFloat16, 768, 8, 8)                  \
  X(BFloat16, 1024, 8, 8)                 \
  X(BFloat16, 1536, 8, 8)                 \
  X(BFloat16, 2048, 8, 9)                 \
  X(Float16, 256, 8, 8)                   \
  X(Float16, 512, 8, 8)                   \
  X(Float16, 768, 8, 8)                   \
  X(Float16, 1024, 8, 8)                  \
  X(Float16, 1536, 8, 8)                  \
  X(Float16, 2048, 8, 9)                  \
  X(float, 256, 8, 8)                     \
  X(float, 512, 8, 8)                     \
  X(float, 768, 8, 8)                     \
  X(float, 1024, 8, 9)
// clang-format on
