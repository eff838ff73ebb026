#pragma once
// What the grid kernels share, forward and backward: who works on what, in which order, and where the workspace is.
//
// Tiles of 8 rows are dealt to groups of blocks, a range to each. Groups know nothing of each other. In a group every
// block owns 16 units and works on all the group's tiles, two at once: a chunk. All blocks of a group take chunks in the
// same order, step after step, and publish one after the other; so a single number, the count of chunks published, is
// all that a block's flag has to say. While one chunk travels the next is worked on.
//
// What travels lies in the workspace in two buffers, one for even steps, one for odd. A block overwrites its part of a
// chunk in a step only after it has heard, for that chunk, from all blocks of the step before; each of them published
// after its threads had met, hence had read all that is overwritten now. Every block must hear from every other for
// this: the warps of a block, taken together, wait for all of them before the block meets and its results are written.
//
// No block may wait for one that is not running: launches are cooperative.

#include "cuda/grid_shapes.h"
#include "cuda/primitives.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

template <class Recurrence>
struct GridArguments {
  Recurrence recurrence;
  unsigned char* workspace;  // zero
  int batch_groups;
};

// Where a thread is in the work of its group. Step: 0, 1, ... as the kernel counts them.
struct GridTurn {
  int step, chunk;
};

// kRowsAt: where the part of shared memory begins that grid_row_bytes describes.
template <int kThreads, int kRowsAt>
class GridGroup {
 public:
  static constexpr int kPairs = kGridPairs / kThreads;  // of a thread, in a chunk; all of the same unit
  static_assert(kGridPairs % kThreads == 0 && kThreads % kGridUnits == 0);

  FUSED_LSTM_DEVICE GridGroup(const RecurrenceRows& r, int batch_groups) : r_(r) {
    blocks = grid_blocks(r.hidden), index = block_index() / blocks;
    rank = block_index() % blocks, direction = index / batch_groups;
    const int share = index % batch_groups, all = grid_tiles(r.batch);
    first_tile = all * share / batch_groups, tiles = all * (share + 1) / batch_groups - first_tile;
    chunks = (tiles + kGridChunk - 1) / kGridChunk;
    unit = rank * kGridUnits + thread_rank() % kGridUnits;
  }

  // Ends with a meeting of the block.
  FUSED_LSTM_DEVICE void read_lengths() {
    for (int i = thread_rank(); i < tiles * kGridRows; i += kThreads)
      shared_store(lengths() + 4 * i, r_.length_of(first_tile * kGridRows + i));
    block_sync();
    for (int tile = thread_rank(); tile < tiles; tile += kThreads) {
      int most = 0;
      for (int i = 0; i < kGridRows; ++i) {
        const int length = shared_load<int>(lengths() + 4 * (tile * kGridRows + i));
        most = length > most ? length : most;
      }
      shared_store(lengths() + 4 * (tiles * kGridRows + tile), most);
    }
    block_sync();
    steps = 0;
    for (int tile = 0; tile < tiles; ++tile) steps = tile_steps(tile) > steps ? tile_steps(tile) : steps;
  }

  FUSED_LSTM_DEVICE int tile_steps(int tile) const {
    return shared_load<int>(lengths() + 4 * (tiles * kGridRows + tile));
  }
  FUSED_LSTM_DEVICE bool has_second(int chunk) const { return chunk * kGridChunk + 1 < tiles; }
  FUSED_LSTM_DEVICE int chunk_steps(int chunk) const {
    const int first = tile_steps(chunk * kGridChunk),
              second = has_second(chunk) ? tile_steps(chunk * kGridChunk + 1) : 0;
    return first > second ? first : second;
  }

  // --- pairs of a row and a unit -------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE static int pair(int i) { return thread_rank() + i * kThreads; }
  FUSED_LSTM_DEVICE static int tile_in_chunk(int i) { return pair(i) / (kGridRows * kGridUnits); }
  FUSED_LSTM_DEVICE static int row_in_tile(int i) { return pair(i) / kGridUnits % kGridRows; }
  FUSED_LSTM_DEVICE static int unit_in_block() { return thread_rank() % kGridUnits; }
  FUSED_LSTM_DEVICE int tile(int chunk, int i) const { return chunk * kGridChunk + tile_in_chunk(i); }
  FUSED_LSTM_DEVICE int row_in_group(int chunk, int i) const { return tile(chunk, i) * kGridRows + row_in_tile(i); }
  FUSED_LSTM_DEVICE int row(int chunk, int i) const { return first_tile * kGridRows + row_in_group(chunk, i); }
  // Whether there are such a row and unit.
  FUSED_LSTM_DEVICE bool real(int chunk, int i) const {
    return tile(chunk, i) < tiles && row(chunk, i) < r_.batch && unit < r_.hidden;
  }
  FUSED_LSTM_DEVICE int length(int chunk, int i) const {  // of a real row
    return shared_load<int>(lengths() + 4 * row_in_group(chunk, i));
  }
  // A float that only the pair's thread reads and writes.
  FUSED_LSTM_DEVICE SharedAddress state(int chunk, int i) const {
    return kRowsAt + 4 * (row_in_group(chunk, i) * kGridUnits + unit_in_block());
  }

  int direction, index, rank, blocks, first_tile, tiles, chunks, unit, steps = 0;

 private:
  const RecurrenceRows& r_;
  FUSED_LSTM_DEVICE SharedAddress lengths() const { return kRowsAt + tiles * kGridRows * kGridUnits * 4; }
};

}  // namespace fused_lstm::cuda
