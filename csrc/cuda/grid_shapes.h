#pragma once
// What the grid kernels are compiled for: how work is divided, what a shape needs, and the list of shapes on the device.
// Knows no CUDA, since the plan is made from it.

#include "cuda/operand.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

constexpr int kGridUnits = 16;                                   // of a block
constexpr int kGridRows = 8;                                     // of a tile
constexpr int kGridChunk = 2;                                    // tiles worked on at once
constexpr int kGridPairs = kGridChunk * kGridRows * kGridUnits;  // of a row and a unit, in a chunk

constexpr int kGridUsualTiles = 8;  // in a group: its share of shared memory must be there on every device

FUSED_LSTM_HD int grid_blocks(int hidden) { return (hidden + kGridUnits - 1) / kGridUnits; }  // of a group
FUSED_LSTM_HD int grid_tiles(int batch) { return (batch + kGridRows - 1) / kGridRows; }
// Of the group that has most.
FUSED_LSTM_HD int grid_most_tiles(int batch, int groups) { return (grid_tiles(batch) + groups - 1) / groups; }
FUSED_LSTM_HD int64_t grid_flag_bytes(const RecurrenceRows& r, int groups) {
  constexpr int64_t kLine = 128;
  return (int64_t{r.directions} * groups * grid_blocks(r.hidden) * 4 + kLine - 1) / kLine * kLine;
}

// Of a block's shared memory, what depends on the number of tiles: a float for every row and unit, the rows' lengths,
// the tiles' steps.
constexpr int grid_row_bytes(int tiles) { return (tiles * (kGridRows * (kGridUnits + 1) * 4 + 4) + 15) / 16 * 16; }

// kInner: length of the sums. A unit contributes kInner / kHidden to it.
template <class Factor_, int kHidden_, int kInner_, int kStrips_, int kWarps_, int kRegisterTiles_>
struct GridProductShape {
  using Factor = Factor_;
  static constexpr int kHidden = kHidden_, kInner = kInner_, kStrips = kStrips_, kWarps = kWarps_;
  static constexpr int kPer = Operand<Factor>::kPerWord, kDepth = Operand<Factor>::kDepth, kSpan = 2 * kDepth;
  static constexpr int kTiles = kInner / kDepth / kWarps;
  static constexpr int kRegisterTiles = kRegisterTiles_ < kTiles ? kRegisterTiles_ : kTiles;
  static constexpr int kRegisters = kRegisterTiles * kStrips * 4;  // full of weights
  static constexpr int kStripBytes = kWarps * 32 * 16;
  static constexpr int kWeightBytes = (kTiles - kRegisterTiles) * kStrips * kStripBytes;
  static constexpr int kTileElements = kInner * kGridRows;  // of the exchange
  static constexpr int kUnits = kHidden / kWarps;  // that a warp's part of the sum comes from
  static_assert(kInner % (kSpan * kWarps) == 0, "tiles are loaded in pairs");
  static_assert(kUnits / kGridUnits < 32, "a lane for every flag");

  // Of row 0 in its tile.
  FUSED_LSTM_HD static int64_t exchange_at(int64_t tile, int k) {
    return tile * kTileElements + k / kSpan * (kGridRows * kSpan) + k % kSpan;
  }
  // Two buffers of all rows.
  FUSED_LSTM_HD static int64_t exchange_bytes(const RecurrenceRows& r) {
    return int64_t{2} * r.directions * grid_tiles(r.batch) * kTileElements * sizeof(Factor);
  }
};

// T: float (products in TF32), BFloat16 or Float16. kHidden: H rounded up. kRegisterTiles: of a warp's tiles of
// weights, those that stay in registers, 16 for each.
template <class T_, int kHidden_, int kWarps_, int kRegisterTiles_>
struct GridForwardShape {
  using T = T_;
  static constexpr int kHidden = kHidden_, kWarps = kWarps_, kThreads = kWarps * 32;
  using Product = GridProductShape<T, kHidden, kHidden, 4, kWarps, kRegisterTiles_>;
  // Parts of sums: for each tile and warp 8 rows of 16 units, four gates each; rows are 16 bytes longer than that, so
  // that lanes do not meet in a bank.
  static constexpr int kPartRowBytes = (kGridUnits + 1) * 16, kPartBytes = kGridRows * kPartRowBytes;
  static constexpr int kPartials = Product::kWeightBytes, kAhead = kPartials + kGridChunk * kWarps * kPartBytes;
  static constexpr int kRows = kAhead + 2 * kGridPairs * 16;
  static constexpr int kStage = (kRows - kPartials) / Product::kStripBytes;

  static constexpr int shared_bytes(int tiles) { return kRows + grid_row_bytes(tiles); }  // with so many in a group
  static constexpr int kSharedBytes = shared_bytes(kGridUsualTiles);
};

// kHidden: H rounded up. kRegisterTiles: of a warp's tiles of weights, those that stay in registers, 4 for each.
template <class T_, int kHidden_, int kWarps_, int kRegisterTiles_>
struct GridBackwardShape {
  using T = T_;
  static constexpr int kHidden = kHidden_, kWarps = kWarps_, kThreads = kWarps * 32;
  using Product = GridProductShape<typename GradientOperand<T>::Type, kHidden, 4 * kHidden, 1, kWarps, kRegisterTiles_>;
  // Parts of sums: for each tile and warp 8 rows of 16 units; rows are 16 bytes longer than that, so that lanes do not
  // meet in a bank.
  static constexpr int kPartRowBytes = (kGridUnits + 4) * 4, kPartBytes = kGridRows * kPartRowBytes;
  static constexpr int kPartials = Product::kWeightBytes, kAhead = kPartials + kGridChunk * kWarps * kPartBytes;
  static constexpr int kRows = kAhead + 2 * kGridPairs * 16;
  static constexpr int kStage = (kRows - kPartials) / Product::kStripBytes;

  static constexpr int shared_bytes(int tiles) { return kRows + grid_row_bytes(tiles); }  // with so many in a group
  static constexpr int kSharedBytes = shared_bytes(kGridUsualTiles);
};

// Bytes of global memory that a launch needs, zero at its beginning.
template <class S>
int64_t grid_workspace(const RecurrenceRows& r, int batch_groups) {
  return grid_flag_bytes(r, batch_groups) + S::Product::exchange_bytes(r);
}

}  // namespace fused_lstm::cuda

// The shapes on the device. X(type, hidden units, warps of a block, tiles of weights that a warp keeps in registers).
// Weights take hidden / 8 registers of every thread in 16 bits, twice that as float. Where that is more than about 128,
// the rest lies in shared memory; exactly how many registers hold weights is found by trying what neither spills nor
// exceeds the shared memory of a multiprocessor of an A100 (163 KB). 108 of those own 1728 units; 2048 need 128.

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

// Backward. Weights take hidden / 8 registers in bfloat16 too; those of float16 become float.
#define FUSED_LSTM_FOR_EACH_GRID_BACKWARD_SHAPE(X) \
  X(BFloat16, 256, 8, 32)                  \
  X(BFloat16, 512, 8, 32)                  \
  X(BFloat16, 768, 8, 32)                  \
  X(BFloat16, 1024, 8, 32)                 \
  X(BFloat16, 1536, 8, 30)                 \
  X(BFloat16, 2048, 8, 29)                 \
  X(Float16, 256, 8, 32)                   \
  X(Float16, 512, 8, 32)                   \
  X(Float16, 768, 8, 30)                   \
  X(Float16, 1024, 8, 29)                  \
  X(float, 256, 8, 32)                     \
  X(float, 512, 8, 32)                     \
  X(float, 768, 8, 30)                     \
  X(float, 1024, 8, 29)
// clang-format on
