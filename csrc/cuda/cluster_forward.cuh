#pragma once
// LSTM forward over all steps with the recurrent weights on chip: one cluster per direction and tile of 8 rows. Its
// blocks own kHidden / kBlocks units each, keep their rows of W_hh in registers for the whole sequence, and send each
// other h through shared memory. Given are the products W_ih x of all steps. Executed under emulation only,
// never on hardware.
//
// Who holds what. A warp owns 8 units: two tiles of 16 rows of W_hh, gates i over f and g over o. By the layout of mma
// lane (g, q) = (lane / 4, lane % 4) then ends up with all four gates of unit g for rows 2q and 2q + 1 of the tile: the
// cell needs no exchange. h lies in shared memory as one row of 8 values (of the tile's rows) per unit, which is how
// mma wants its right operand, and the four lanes of a unit hold exactly one such row to send. kSplit warps may share 8
// units and divide the sum over k among them.
//
// Why two buffers of h, each with one mbarrier that counts its bytes, are enough. Step s reads buffer s % 2 (h of s -
// 1) and sends h of s into buffer (s + 1) % 2 of every block, its own included.
//  (1) Nothing unread is overwritten. P sends h of s into a buffer that Q last read in step s - 1. P is past its wait
//  of
//      step s, so all of Q's warps that send have sent h of s - 1; what they sent depends on all that their group read.
//      Hence every warp that reads must feed one that sends, as all do here.
//  (2) No byte is counted in a wrong phase: for the same reason Q is past its wait of step s - 1 on that mbarrier.
//  (3) No parity is mistaken: the mbarrier of step s completes again only after all groups have sent h of s + 1.
//  (4) Announcing the next bytes may come late: the one arrival that comes with it keeps the phase open until then.
// The opening cluster barrier is needed (nobody may send to an mbarrier that is not there yet); the closing one makes
// sure that no block leaves while its peers' messages are under way.

#include "cuda/cluster_shapes.h"
#include "cuda/primitives.h"
#include "cuda/quick.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

template <class S>
class ClusterForwardThread {
 public:
  FUSED_LSTM_DEVICE explicit ClusterForwardThread(const ForwardRecurrence& p) : p_(p), r_(p.rows) {
    const int tiles = (r_.batch + kTileRows - 1) / kTileRows;
    const int cluster = S::kBlocks > 1 ? cluster_index() : block_index();
    direction_ = cluster / tiles;
    tile_row_ = cluster % tiles * kTileRows;
    const int warp = thread_rank() / 32, lane = thread_rank() % 32;
    g_ = lane / 4, q_ = lane % 4;
    group_ = warp % S::kGroups, part_ = S::kSplit == 1 ? 0 : warp / S::kGroups;
    const int rank = S::kBlocks > 1 ? cluster_rank() : 0;
    unit_ = rank * S::kUnits + group_ * 8 + g_;
    steps_ = 0;
    for (int i = 0; i < kTileRows; ++i) {
      const int length = r_.length_of(tile_row_ + i);
      steps_ = length > steps_ ? length : steps_;
    }
    UNROLL for (int j = 0; j < 2; ++j) {
      length_[j] = r_.length_of(row(j));
      finishes_[j] = part_ == 0 && row(j) < r_.batch && unit_ < r_.hidden;
    }
  }

  FUSED_LSTM_DEVICE void run() {
    begin_state();
    load_weights();
    load_bias();
    open_exchange();
    UNROLL for (int j = 0; j < 2; ++j) { next_[j] = place_of(j, 0); }
    load_ahead(0);
    for (int s = 0; s < steps_; ++s) {
      if (S::kBlocks > 1 && s > 0) receive(s);
      float sum[2][4] = {};
      multiply(s, sum);
      add_parts(sum);
      if (part_ == 0) finish(s, sum);
      if (S::kBlocks == 1) block_sync();
    }
    clear_tail();
    if (S::kBlocks > 1) cluster_sync();
  }

 private:
  using T = typename S::T;

  const ForwardRecurrence& p_;
  const RecurrenceRows& r_;
  int direction_, g_, q_, group_, part_, unit_, tile_row_, steps_;
  int length_[2];
  bool finishes_[2];  // whether this thread computes and stores something real
  uint32_t w_[2][S::kTiles][4];
  float c_[2];
  Floats4 bias_, pre_[2];
  int here_[2], next_[2];  // places of this step and the next
  uint32_t cut_next_;      // bit j: row j enters the next step with a state of zero

  // --- where things are ----------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE const ForwardDirection& d() const { return p_.direction[direction_]; }
  FUSED_LSTM_DEVICE int row(int j) const { return tile_row_ + 2 * q_ + j; }
  FUSED_LSTM_DEVICE int64_t state_at(int j) const { return int64_t{row(j)} * r_.hidden + unit_; }
  FUSED_LSTM_DEVICE int place_of(int j, int s) const {  // (t, b) of a row's step
    return s < length_[j] ? r_.place(r_.time_of(d().reverse, length_[j], s), row(j)) : 0;
  }
  FUSED_LSTM_DEVICE T* y_at(int64_t place) const { return static_cast<T*>(d().y) + place * p_.y_stride + unit_; }
  FUSED_LSTM_DEVICE bool cut(int row, int length, int s) const { return r_.cut(d().reverse, row, length, s); }
  // Which rows enter step s, whose place is next_, with a state of zero.
  FUSED_LSTM_DEVICE uint32_t cuts(int s) const {
    uint32_t bits = 0;
    UNROLL for (int j = 0; j < 2; ++j) {
      if (r_.resets && s < length_[j] && r_.resets[d().reverse ? here_[j] : next_[j]]) bits |= 1u << j;
    }
    return bits;
  }

  // --- before the first step -----------------------------------------------------------------------------------------
  // A word of W_hh; columns from `limit` on are padding.
  FUSED_LSTM_DEVICE uint32_t word_of(const T* from, int column, int limit) const {
    T v[2] = {};
    UNROLL for (int i = 0; i < Operand<T>::kPerWord; ++i) {
      if (column + i < limit) v[i] = from[column + i];
    }
    if constexpr (sizeof(T) == 4)
      return bits_of(round_to_tf32(v[0]));
    else
      return v[0].bits | uint32_t{v[1].bits} << 16;
  }

  FUSED_LSTM_DEVICE void load_weights() {
    const int first = part_ * S::kTiles * S::kDepth + Operand<T>::kPerWord * q_;
    const int limit = unit_ < r_.hidden ? r_.hidden - first : 0;
    const int64_t gate = int64_t{r_.hidden} * r_.hidden;
    const T* from = static_cast<const T*>(d().w_hh) + int64_t{unit_} * r_.hidden + first;
    UNROLL for (int m = 0; m < 2; ++m) {
      const T* rows[2] = {from + 2 * m * gate, from + (2 * m + 1) * gate};
      UNROLL for (int tile = 0; tile < S::kTiles; ++tile) {
        UNROLL for (int r = 0; r < 4; ++r)
          w_[m][tile][r] = word_of(rows[r % 2], tile * S::kDepth + r / 2 * (S::kDepth / 2), limit);
        warp_sync();  // else the compiler begins all loads at once and runs out of registers
      }
    }
  }

  FUSED_LSTM_DEVICE void load_bias() {
    bias_ = {};
    if (!d().b_ih || unit_ >= r_.hidden) return;
    UNROLL for (int gate = 0; gate < 4; ++gate) {
      const int64_t at = int64_t{gate} * r_.hidden + unit_;
      bias_.value[gate] = widened(static_cast<const T*>(d().b_ih)[at]) + widened(static_cast<const T*>(d().b_hh)[at]);
    }
  }

  FUSED_LSTM_DEVICE void begin_state() {
    for (int i = thread_rank(); i < kTileRows * S::kHidden; i += S::kThreads) {
      const int r = tile_row_ + i / S::kHidden, k = i % S::kHidden;
      const bool some = d().h0 && r < r_.batch && k < r_.hidden && !cut(r, r_.length_of(r), 0);
      T h{};
      if (some) h = static_cast<const T*>(d().h0)[int64_t{r} * r_.hidden + k];
      if constexpr (sizeof(T) == 4) h = round_to_tf32(h);
      shared_store(S::kState + k * S::kRowBytes + i / S::kHidden * static_cast<int>(sizeof(T)), h);
    }
    UNROLL for (int j = 0; j < 2; ++j) {
      c_[j] = 0;
      if (!finishes_[j]) continue;
      T h{}, c{};
      if (d().h0) h = static_cast<const T*>(d().h0)[state_at(j)];
      if (d().c0) c = static_cast<const T*>(d().c0)[state_at(j)];
      if (length_[j] == 0) {
        static_cast<T*>(d().h_n)[state_at(j)] = h;
        static_cast<T*>(d().c_n)[state_at(j)] = c;
      }
      if (!cut(row(j), length_[j], 0)) c_[j] = widened(c);
    }
  }

  FUSED_LSTM_DEVICE void open_exchange() {
    if constexpr (S::kBlocks == 1) {
      block_sync();
    } else {
      if (thread_rank() == 0) {
        mbarrier_init(S::kBarriers, 1);
        mbarrier_init(S::kBarriers + 8, 1);
        mbarrier_init_fence();
        if (steps_ > 1) mbarrier_expect(S::kBarriers + 8, S::kBufferBytes);
        if (steps_ > 2) mbarrier_expect(S::kBarriers, S::kBufferBytes);
      }
      cluster_sync();
    }
  }

  // --- a step --------------------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE void receive(int s) {
    const SharedAddress barrier = S::kBarriers + 8 * (s & 1);
    mbarrier_wait(barrier, (s - 1) >> 1 & 1);
    if (thread_rank() == 0 && s + 2 < steps_) mbarrier_expect(barrier, S::kBufferBytes);
  }

  // Two tiles of h, each the right operand of one product.
  FUSED_LSTM_DEVICE void load_tiles(uint32_t (&b)[4], SharedAddress rows) const {
    if constexpr (sizeof(T) == 2) {
      load_matrices_transposed(b, rows + (thread_rank() % 32) * S::kRowBytes);
    } else {
      UNROLL for (int i = 0; i < 4; ++i)
        b[i] = shared_load<uint32_t>(rows + (q_ + 4 * i) * S::kRowBytes + 4 * g_);
    }
  }

  FUSED_LSTM_DEVICE void multiply(int s, float (&sum)[2][4]) const {
    const SharedAddress state = S::kState + (s & 1) * S::kBufferBytes + part_ * S::kTiles * S::kDepth * S::kRowBytes;
    float odd[2][4] = {};  // four chains of products that do not wait for each other
    UNROLL for (int tile = 0; tile < S::kTiles; tile += 2) {
      uint32_t b[4];
      load_tiles(b, state + tile * S::kDepth * S::kRowBytes);
      UNROLL for (int m = 0; m < 2; ++m) {
        mma<T>(sum[m], w_[m][tile], b[0], b[1]);
        mma<T>(odd[m], w_[m][tile + 1], b[2], b[3]);
      }
    }
    UNROLL for (int i = 0; i < 8; ++i)
      sum[i / 4][i % 4] += odd[i / 4][i % 4];
  }

  // The sums of the group's other warps, in a fixed order.
  FUSED_LSTM_DEVICE void add_parts(float (&sum)[2][4]) const {
    if constexpr (S::kSplit > 1) {
      const SharedAddress lane = S::kPartials + group_ * S::kPartialBytes + 4 * (thread_rank() % 32);
      if (part_ > 0) {
        UNROLL for (int i = 0; i < 8; ++i)
          shared_store(lane + (part_ - 1) * S::kGroups * S::kPartialBytes + 128 * i, sum[i / 4][i % 4]);
        named_arrive(1 + group_, S::kSplit * 32);
      } else {
        named_sync(1 + group_, S::kSplit * 32);
        UNROLL for (int part = 0; part < S::kSplit - 1; ++part) {
          UNROLL for (int i = 0; i < 8; ++i)
            sum[i / 4][i % 4] += shared_load<float>(lane + part * S::kGroups * S::kPartialBytes + 128 * i);
        }
      }
    }
  }

  FUSED_LSTM_DEVICE void finish(int s, const float (&sum)[2][4]) {
    CellState<float> now[2];
    float h[2];
    UNROLL for (int j = 0; j < 2; ++j) {
      const float* x = pre_[j].value;
      const float* b = bias_.value;
      const Gates<float> a{sum[0][j] + x[0] + b[0], sum[0][j + 2] + x[1] + b[1], sum[1][j] + x[2] + b[2],
                           sum[1][j + 2] + x[3] + b[3]};
      now[j] = quick_forward(a, c_[j]);
      c_[j] = cut_next_ >> j & 1 ? 0.0f : now[j].c;
      h[j] = cut_next_ >> j & 1 ? 0.0f : now[j].h;
    }
    if (s + 1 < steps_) send(s, h);  // first, since others wait for it
    store(s, now);
    load_ahead(s + 1);
  }

  FUSED_LSTM_DEVICE void send(int s, const float (&h)[2]) const {
    constexpr int kRowWords = S::kRowBytes / 4;
    const uint32_t next = (s + 1) & 1, barrier = S::kBarriers + 8 * next;
    const uint32_t to = S::kState + next * S::kBufferBytes + unit_ * S::kRowBytes;
    uint32_t mine[S::kWords];
    if constexpr (S::kWords == 1)
      mine[0] = pack<T>(h[0], h[1]);
    else
      mine[0] = bits_of(round_to_tf32(h[0])), mine[1] = bits_of(round_to_tf32(h[1]));
    if constexpr (S::kBlocks == 1) {
      UNROLL for (int i = 0; i < S::kWords; ++i)
        shared_store(to + 4 * (q_ * S::kWords + i), mine[i]);
    } else {
      Words4 whole[kRowWords / 4];
      UNROLL for (int i = 0; i < kRowWords; ++i)
        whole[i / 4].word[i % 4] = warp_shuffle(mine[i % S::kWords], 4 * g_ + i / S::kWords);
      UNROLL for (int i = 0; i < (S::kBlocks + 3) / 4; ++i) {
        const int peer = q_ + 4 * i;
        if (peer >= S::kBlocks) continue;
        const PeerAddress there = peer_address(0, peer);  // cheaper to find again than to keep
        UNROLL for (int k = 0; k < kRowWords / 4; ++k)
          push(there.plus(to + 16 * k), whole[k], there.plus(barrier));
      }
    }
  }

  FUSED_LSTM_DEVICE void store(int s, const CellState<float> (&now)[2]) const {
    UNROLL for (int j = 0; j < 2; ++j) {
      if (!finishes_[j] || s >= length_[j]) continue;
      T h, c;
      narrowed(now[j].h, h), narrowed(now[j].c, c);
      const int64_t at = int64_t{here_[j]} * r_.hidden + unit_;
      *y_at(here_[j]) = h;
      if (d().gates) {
        const Gates<float>& a = now[j].gates;
        reinterpret_cast<Floats4*>(d().gates)[at] = {{a.i, a.f, a.g, a.o}};
        d().cells[at] = now[j].c;
      }
      if (s + 1 == length_[j]) {
        static_cast<T*>(d().h_n)[state_at(j)] = h;
        static_cast<T*>(d().c_n)[state_at(j)] = c;
      }
    }
  }

  // What step s needs of memory, and where it and the step after it lie.
  FUSED_LSTM_DEVICE void load_ahead(int s) {
    UNROLL for (int j = 0; j < 2; ++j) {
      here_[j] = next_[j];
      next_[j] = place_of(j, s + 1);
      pre_[j] = {};
      if (finishes_[j] && s < length_[j])
        pre_[j] = reinterpret_cast<const Floats4*>(d().pre)[int64_t{here_[j]} * r_.hidden + unit_];
    }
    cut_next_ = cuts(s + 1);
  }

  FUSED_LSTM_DEVICE void clear_tail() const {
    UNROLL for (int j = 0; j < 2; ++j) {
      if (!finishes_[j]) continue;
      for (int t = r_.tail_begin(length_[j]); t < r_.steps; ++t) *y_at(r_.at(t, row(j))) = T{};
    }
  }
};

template <class S>
FUSED_LSTM_KERNEL(S::kThreads) cluster_forward_kernel(FUSED_LSTM_ARGUMENT ForwardRecurrence p) {
  FUSED_LSTM_WITH_CLUSTERS(ClusterForwardThread<S>(p).run();)
}

template <class S>
const char* launch_cluster_forward(const ForwardRecurrence& p, void* stream) {
  const int tiles = (p.rows.batch + kTileRows - 1) / kTileRows * p.rows.directions;
  if (tiles == 0) return nullptr;
  return launch(Launch{tiles, S::kBlocks, S::kThreads, S::kSharedBytes, false, stream}, &cluster_forward_kernel<S>, p);
}

}  // namespace fused_lstm::cuda
