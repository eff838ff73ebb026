#pragma once
// The product of the grid kernels: weights that stay on chip times what blocks exchange through global memory.
//
// A warp has all of the block's rows of the left operand (strips of 16) and 1 / kWarps of the sum over k; so nothing of
// the right operand is read twice by a block. Its tiles of weights are in registers as far as they fit, the rest lies
// in shared memory as the words that a lane needs, 16 bytes each.
//
// The order of k is free, as long as both operands agree. Lane (g, q) reads 16 bytes of row g, and these are its words
// for two tiles: that is what column() says. For this the exchange holds, for each tile of rows and every kSpan of k, 8
// rows of 64 bytes: a warp reads 512 bytes that lie side by side.

#include "cuda/grid_group.cuh"

namespace fused_lstm::cuda {

template <class P>
class GridProduct {
 public:
  using Factor = typename P::Factor;

  FUSED_LSTM_DEVICE GridProduct() : part_(thread_rank() / 32), g_(thread_rank() % 32 / 4), q_(thread_rank() % 4) {}

  // word(row, k): the weights of a row and P::kPer columns from k on. What registers will hold goes through shared
  // memory, kStage tiles of a strip at a time: the code that fetches a word exists once, in a loop, and needs no
  // registers beside those that fill.
  template <int kStage, class Word>
  FUSED_LSTM_DEVICE void load(SharedAddress stage, Word word) {
    constexpr int kAll = P::kRegisterTiles * P::kStrips, kRest = (P::kTiles - P::kRegisterTiles) * P::kStrips;
    UNROLL for (int first = 0; first < kAll; first += kStage) {
      fetch(stage, first, first + kStage < kAll ? kStage : kAll - first, word);
      UNROLL for (int i = 0; i < kStage; ++i) {
        if (first + i >= kAll) continue;
        const Words4 a = shared_load<Words4>(stage + i * P::kStripBytes + thread_rank() * 16);
        UNROLL for (int r = 0; r < 4; ++r)
          w_[(first + i) / P::kStrips][(first + i) % P::kStrips][r] = a.word[r];
      }
    }
    fetch(0, kAll, kRest, word);
  }

  // Until the blocks have published that this warp's part of the sum comes from.
  FUSED_LSTM_DEVICE void wait(const uint32_t* flags, int blocks, uint32_t value) const {
    const int block = part_ * P::kUnits / kGridUnits + thread_rank() % 32;
    if (block < blocks && block <= (part_ * P::kUnits + P::kUnits - 1) / kGridUnits) flag_wait(flags + block, value);
    warp_sync();
  }

  // This warp's part of the products with kCount tiles of rows.
  template <int kCount>
  FUSED_LSTM_DEVICE void multiply(const Factor* exchange, float (&sum)[kCount][P::kStrips][4]) const {
    constexpr int kChains = P::kStrips > 1 ? 1 : 2;  // of products that wait for each other, for every strip
    constexpr int kPairs = P::kTiles / 2, kLoads = P::kStrips == 1 || P::kRegisters <= 96 ? 8 : 4;
    constexpr int kAhead = kPairs < kLoads / kCount ? kPairs : kLoads / kCount;  // pairs of tiles on their way
    float more[kChains][kCount][P::kStrips][4] = {};
    const Factor* from = exchange + part_ * (P::kTiles * P::kDepth * kGridRows) + g_ * P::kSpan + 4 * P::kPer * q_;
    Words4 b[kAhead][kCount];
    UNROLL for (int pair = 0; pair < kAhead; ++pair)
      load_pair(from, pair, b[pair]);
    UNROLL for (int pair = 0; pair < kPairs; ++pair) {
      if (2 * pair >= P::kRegisterTiles) warp_sync();  // else weights are fetched so early that some spill
      UNROLL for (int i = 0; i < 2; ++i)
        multiply_tile<kCount>(2 * pair + i, b[pair % kAhead], more[i % kChains]);
      if (pair + kAhead < kPairs) load_pair(from, pair + kAhead, b[pair % kAhead]);
    }
    UNROLL for (int c = 0; c < kCount; ++c) {
      UNROLL for (int strip = 0; strip < P::kStrips; ++strip) {
        UNROLL for (int r = 0; r < 4; ++r) {
          sum[c][strip][r] = more[0][c][strip][r];
          if constexpr (kChains > 1) sum[c][strip][r] += more[1][c][strip][r];
        }
      }
    }
  }

 private:
  int part_, g_, q_;
  uint32_t w_[P::kRegisterTiles][P::kStrips][4];

  FUSED_LSTM_DEVICE int column(int tile, int half) const {
    return (part_ * P::kTiles + tile / 2 * 2) * P::kDepth + P::kPer * (4 * q_ + 2 * (tile % 2) + half);
  }
  template <class Word>
  FUSED_LSTM_DEVICE void fetch(SharedAddress to, int first, int count, Word word) const {
    NO_UNROLL for (int i = 0; i < count; ++i) {
      const int tile = (first + i) / P::kStrips, row = (first + i) % P::kStrips * 16 + g_;
      Words4 a;
      UNROLL for (int r = 0; r < 4; ++r)
        a.word[r] = word(row + r % 2 * 8, column(tile, r / 2));
      shared_store(to + i * P::kStripBytes + thread_rank() * 16, a);
    }
  }
  FUSED_LSTM_DEVICE static SharedAddress weights_at(int tile, int strip) {
    return ((tile - P::kRegisterTiles) * P::kStrips + strip) * P::kStripBytes + thread_rank() * 16;
  }

  template <int kCount>
  FUSED_LSTM_DEVICE static void load_pair(const Factor* from, int pair, Words4 (&b)[kCount]) {
    UNROLL for (int c = 0; c < kCount; ++c)
      b[c] = exchange_load(from + c * P::kTileElements + pair * (kGridRows * P::kSpan));
  }

  template <int kCount>
  FUSED_LSTM_DEVICE void multiply_tile(int tile, const Words4 (&b)[kCount], float (&sum)[kCount][P::kStrips][4]) const {
    UNROLL for (int strip = 0; strip < P::kStrips; ++strip) {
      uint32_t a[4];
      if (tile < P::kRegisterTiles) {
        UNROLL for (int r = 0; r < 4; ++r)
          a[r] = w_[tile][strip][r];
      } else {
        const Words4 words = shared_load<Words4>(weights_at(tile, strip));
        UNROLL for (int r = 0; r < 4; ++r)
          a[r] = words.word[r];
      }
      UNROLL for (int c = 0; c < kCount; ++c)
        mma<Factor>(sum[c][strip], a, b[c].word[tile % 2 * 2], b[c].word[tile % 2 * 2 + 1]);
    }
  }
};

}  // namespace fused_lstm::cuda
