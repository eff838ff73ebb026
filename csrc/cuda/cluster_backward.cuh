#pragma once
// LSTM backward over all steps with the recurrent weights on chip: the same clusters and shares of units as forward
// (see cluster_forward.cuh). Leaves the gradients of the pre-activations, from which those of weights, biases and
// inputs follow by large products elsewhere. Executed under emulation only, never on hardware.
//
// A step. Every block turns dh and dc of its own units into gradients of their gates, puts those into shared memory,
// and multiplies them with its own rows of W_hh, transposed: its part of dh of the step before, for all units. Each
// block sends the others their units' parts; who receives adds the parts up in the order of ranks, so that results do
// not depend on time. Parts are float32. The gates' gradients are rounded for the product: to bfloat16, or to TF32 for
// float and for float16, whose range is too small for gradients and whose weights are exact in TF32.
//
// Two inboxes are enough. The n-th iteration waits for inbox n % 2 and sends to inboxes (n + 1) % 2, in between its
// block meets. Who sends in iteration n has heard from every block's iteration n - 1, whose messages follow the meeting
// of that block, before which all its threads had read what is overwritten now and were past their wait. The gradients
// of the gates lie in two buffers too: a warp may be late with the product of iteration n, but not after the meeting of
// n + 1.

#include "cuda/cluster_shapes.h"
#include "cuda/primitives.h"
#include "cuda/quick.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

template <class S>
class ClusterBackwardThread {
 public:
  FUSED_LSTM_DEVICE explicit ClusterBackwardThread(const BackwardRecurrence& p) : p_(p), r_(p.rows) {
    const int tiles = (r_.batch + S::kRows - 1) / S::kRows;
    const int cluster = S::kBlocks > 1 ? cluster_index() : block_index();
    direction_ = cluster / tiles, tile_row_ = cluster % tiles * S::kRows;
    first_unit_ = (S::kBlocks > 1 ? cluster_rank() : 0) * S::kUnits;
    steps_ = 0;
    for (int i = 0; i < S::kRows; ++i) {
      const int length = r_.length_of(tile_row_ + i);
      steps_ = length > steps_ ? length : steps_;
    }
  }

  FUSED_LSTM_DEVICE void run() {
    clear_tail();
    load_weights();
    open_exchange();
    UNROLL for (int i = 0; i < S::kPairs; ++i) {
      dc_[i] = 0, length_[i] = mine(i) ? r_.length_of(row(i)) : 0;
      load_ahead(0, i);
    }
    for (int n = 0; n < steps_; ++n) {
      if (S::kBlocks > 1 && n > 0) receive(n);
      UNROLL for (int i = 0; i < S::kPairs; ++i)
        cell(n, i);
      block_sync();
      UNROLL for (int strip = 0; strip < S::kStrips; ++strip)
        send_part(n, strip);
      UNROLL for (int i = 0; i < S::kPairs; ++i)
        load_ahead(n + 1, i);
      if (S::kBlocks == 1) block_sync();
    }
    if (S::kBlocks > 1 && steps_ > 0) receive(steps_);
    UNROLL for (int i = 0; i < S::kPairs; ++i)
      finish(i);
    if (S::kBlocks > 1) cluster_sync();
  }

 private:
  using T = typename S::T;
  using Factor = typename S::Factor;

  const BackwardRecurrence& p_;
  const RecurrenceRows& r_;
  int direction_, tile_row_, first_unit_, steps_;
  uint32_t w_[S::kStrips][S::kTiles][4];
  int length_[S::kPairs];  // 0 where there is no such row or unit
  float dc_[S::kPairs];
  struct Ahead {  // of a unit and row at the step that comes
    Floats4 gates;
    float c, c_before, dy;
    int here, before;  // places of the step and of the one before it
    bool cut, cut_after;  // parted from the one before, from the one after
  } ahead_[S::kPairs];

  // --- where things are ----------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE const BackwardDirection& d() const { return p_.direction[direction_]; }
  FUSED_LSTM_DEVICE int place(int i) const { return thread_rank() + i * S::kThreads; }  // unit and row inside the share
  FUSED_LSTM_DEVICE int row(int i) const { return tile_row_ + place(i) % S::kRows; }
  FUSED_LSTM_DEVICE int unit(int i) const { return first_unit_ + place(i) / S::kRows; }
  FUSED_LSTM_DEVICE bool mine(int i) const {
    return place(i) < S::kUnits * S::kRows && row(i) < r_.batch && unit(i) < r_.hidden;
  }
  FUSED_LSTM_DEVICE int time_of(int length, int s) const { return r_.time_of(d().reverse, length, s); }
  FUSED_LSTM_DEVICE int64_t pair(int i, int64_t place) const { return place * r_.hidden + unit(i); }
  FUSED_LSTM_DEVICE bool cut(int row, int length, int s) const { return r_.cut(d().reverse, row, length, s); }
  FUSED_LSTM_DEVICE void put_dgates(int i, int64_t place, const Gates<float>& a) const {
    struct alignas(4 * sizeof(T)) Four {
      T value[4];
    } four;
    narrowed(a.i, four.value[0]), narrowed(a.f, four.value[1]);
    narrowed(a.g, four.value[2]), narrowed(a.o, four.value[3]);
    static_cast<Four*>(d().dgates)[pair(i, place)] = four;
  }
  // Of a state [B, H] that may be missing.
  FUSED_LSTM_DEVICE float state(const void* from, int i) const {
    return from ? widened(static_cast<const T*>(from)[int64_t{row(i)} * r_.hidden + unit(i)]) : 0.0f;
  }

  // --- before the first step -----------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE void clear_tail() const {
    UNROLL for (int i = 0; i < S::kPairs; ++i) {
      if (!mine(i)) continue;
      for (int t = r_.tail_begin(r_.length_of(row(i))); t < r_.steps; ++t) put_dgates(i, r_.at(t, row(i)), {});
    }
  }

  // Rows: units whose dh is wanted. Column k: gate k % 4 of this block's unit k / 4. What depends on the lane comes first,
  // so that all loads share a few addresses.
  FUSED_LSTM_DEVICE void load_weights() {
    constexpr int kPer = Operand<Factor>::kPerWord;
    const int lane = thread_rank() % 32, of = thread_rank() / 32 * S::kStrips * 16 + lane / 4;
    const int H = r_.hidden;
    const T* from[2];
    int units[2];  // that are left from there on
    UNROLL for (int i = 0; i < kPer; ++i) {
      const int column = kPer * (lane % 4) + i;
      from[i] = static_cast<const T*>(d().w_hh) + int64_t{column % 4 * H + first_unit_ + column / 4} * H + of;
      units[i] = of < r_.hidden ? r_.hidden - first_unit_ - column / 4 : 0;
    }
    UNROLL for (int tile = 0; tile < S::kTiles; ++tile) {
      UNROLL for (int strip = 0; strip < S::kStrips; ++strip) {
        UNROLL for (int r = 0; r < 4; ++r) {
          const int down = strip * 16 + 8 * (r % 2), along = (tile * S::kDepth + r / 2 * (S::kDepth / 2)) / 4;
          T v[2] = {};
          UNROLL for (int i = 0; i < kPer; ++i) {
            if (along < units[i] && of + down < r_.hidden) v[i] = from[i][along * H + down];
          }
          if constexpr (sizeof(Factor) == 2)
            w_[strip][tile][r] = v[0].bits | uint32_t{v[1].bits} << 16;
          else
            w_[strip][tile][r] = bits_of(round_to_tf32(widened(v[0])));
        }
        warp_sync();  // else the compiler begins all loads at once and runs out of registers
      }
    }
  }

  FUSED_LSTM_DEVICE void open_exchange() const {
    if constexpr (S::kBlocks > 1) {
      if (thread_rank() == 0) {
        mbarrier_init(S::kBarriers, 1);
        mbarrier_init(S::kBarriers + 8, 1);
        mbarrier_init_fence();
        if (steps_ > 0) mbarrier_expect(S::kBarriers + 8, S::kInboxBytes);
        if (steps_ > 1) mbarrier_expect(S::kBarriers, S::kInboxBytes);
      }
      cluster_sync();
    }
  }

  // --- a step --------------------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE void receive(int n) const {
    const SharedAddress barrier = S::kBarriers + 8 * (n & 1);
    mbarrier_wait(barrier, (n - 1) >> 1 & 1);
    if (thread_rank() == 0 && n + 2 <= steps_) mbarrier_expect(barrier, S::kInboxBytes);
  }

  FUSED_LSTM_DEVICE float received(int n, int i) const {
    float sum = 0;
    for (int rank = 0; rank < S::kBlocks; ++rank)
      sum += shared_load<float>(S::kInboxes + (n & 1) * S::kInboxBytes + rank * S::kPartBytes + 4 * place(i));
    return sum;
  }

  // What iteration n needs of memory, fetched while the messages that it waits for are under way.
  FUSED_LSTM_DEVICE void load_ahead(int n, int i) {
    const int s = steps_ - 1 - n, length = length_[i];
    Ahead& a = ahead_[i];
    if (s < 0 || s >= length) return;
    const bool last = s + 1 == length, first = s == 0, reverse = d().reverse;
    a.here = last ? r_.place(time_of(length, s), row(i)) : a.before;
    a.c = last ? d().cells[pair(i, a.here)] : a.c_before;
    a.before = first ? 0 : r_.place(time_of(length, s - 1), row(i));
    a.c_before = first ? state(d().c0, i) : d().cells[pair(i, a.before)];
    a.gates = reinterpret_cast<const Floats4*>(d().gates)[pair(i, a.here)];
    a.dy = d().dy ? widened(static_cast<const T*>(d().dy)[a.here * p_.dy_stride + unit(i)]) : 0.0f;
    a.cut_after = !last && a.cut;
    a.cut = r_.resets && !(reverse && first) && r_.resets[reverse ? a.before : a.here] != 0;
  }

  // Gradients of the gates of one unit and row, to memory and for the product.
  FUSED_LSTM_DEVICE void cell(int n, int i) {
    if (place(i) >= S::kUnits * S::kRows) return;
    const int s = steps_ - 1 - n;
    const Ahead& now = ahead_[i];
    Gates<float> a{};
    if (s < length_[i]) {
      float dh = now.dy;
      if (s + 1 == length_[i])
        dh += state(d().dh_n, i), dc_[i] = state(d().dc_n, i);
      else if (now.cut_after)
        dc_[i] = 0;
      else
        dh += received(n, i);
      const float* kept = now.gates.value;
      const Gates<float> gates{kept[0], kept[1], kept[2], kept[3]};
      const QuickGrad grad = quick_backward(gates, now.cut ? 0.0f : now.c_before, now.c, dh, dc_[i]);
      dc_[i] = grad.c_prev, a = grad.gates;
    }
    put_factors(n, i, a);
    if (s < length_[i]) put_dgates(i, now.here, a);
  }

  FUSED_LSTM_DEVICE void put_factors(int n, int i, const Gates<float>& a) const {
    const float all[4] = {a.i, a.f, a.g, a.o};
    const SharedAddress to = S::kGates + (n & 1) * S::kGatesBytes + place(i) / S::kRows * 4 * S::kGateBytes;
    UNROLL for (int gate = 0; gate < 4; ++gate) {
      Factor v;
      narrowed(all[gate], v);
      if constexpr (sizeof(Factor) == 4) v = round_to_tf32(v);
      shared_store(to + gate * S::kGateBytes + place(i) % S::kRows * static_cast<int>(sizeof(Factor)), v);
    }
  }

  // This block's part of dh for 16 units, to the blocks that own them.
  FUSED_LSTM_DEVICE void send_part(int n, int strip) const {
    const int lane = thread_rank() % 32, g = lane / 4, q = lane % 4;
    float sum[4] = {}, odd[4] = {};
    const SharedAddress gates = S::kGates + (n & 1) * S::kGatesBytes;
    UNROLL for (int tile = 0; tile < S::kTiles; tile += 2) {
      const SharedAddress rows = gates + tile * S::kDepth * S::kGateBytes;
      uint32_t b[4];
      if constexpr (sizeof(Factor) == 2) {
        load_matrices_transposed(b, rows + lane * S::kGateBytes);
      } else {
        UNROLL for (int k = 0; k < 4; ++k)
          b[k] = shared_load<uint32_t>(rows + (q + 4 * k) * S::kGateBytes + 4 * g);
      }
      mma<Factor>(sum, w_[strip][tile], b[0], b[1]);
      mma<Factor>(odd, w_[strip][tile + 1], b[2], b[3]);
    }
    uint32_t v[4];
    UNROLL for (int k = 0; k < 4; ++k)
      v[k] = bits_of(sum[k] + odd[k]);
    // Two lanes hold 16 bytes of two units: the even one takes those of the first, the odd one those of the second.
    const bool second = q % 2;
    const uint32_t x = warp_shuffle(second ? v[0] : v[2], lane ^ 1), y = warp_shuffle(second ? v[1] : v[3], lane ^ 1);
    const Words4 words = second ? Words4{{x, y, v[2], v[3]}} : Words4{{v[0], v[1], x, y}};
    const int of = (thread_rank() / 32 * S::kStrips + strip) * 16 + g + (second ? 8 : 0);
    const uint32_t inbox = (n + 1) & 1;
    const SharedAddress to = S::kInboxes + inbox * S::kInboxBytes + first_unit_ / S::kUnits * S::kPartBytes +
                             (of % S::kUnits * S::kRows + q / 2 * 4) * 4;
    if constexpr (S::kBlocks == 1)
      shared_store(to, words);
    else
      push(peer_address(to, of / S::kUnits), words, peer_address(S::kBarriers + 8 * inbox, of / S::kUnits));
  }

  FUSED_LSTM_DEVICE void finish(int i) const {
    if (!mine(i)) return;
    const int length = r_.length_of(row(i));
    float dh = state(d().dh_n, i), dc = state(d().dc_n, i);  // of a row without steps
    if (length > 0) {
      const bool none = cut(row(i), length, 0);
      dh = none ? 0.0f : received(steps_, i), dc = none ? 0.0f : dc_[i];
    }
    const int64_t at = int64_t{row(i)} * r_.hidden + unit(i);
    if (d().dh0) narrowed(dh, static_cast<T*>(d().dh0)[at]);
    if (d().dc0) narrowed(dc, static_cast<T*>(d().dc0)[at]);
  }
};

template <class S>
FUSED_LSTM_KERNEL(S::kThreads) cluster_backward_kernel(FUSED_LSTM_ARGUMENT BackwardRecurrence p) {
  FUSED_LSTM_WITH_CLUSTERS(ClusterBackwardThread<S>(p).run();)
}

template <class S>
const char* launch_cluster_backward(const BackwardRecurrence& p, void* stream) {
  const int tiles = (p.rows.batch + S::kRows - 1) / S::kRows * p.rows.directions;
  if (tiles == 0) return nullptr;
  return launch(Launch{tiles, S::kBlocks, S::kThreads, S::kSharedBytes, false, stream}, &cluster_backward_kernel<S>, p);
}

}  // namespace fused_lstm::cuda
