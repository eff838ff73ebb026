#pragma once
// LSTM forward over all steps with the recurrent weights on chip, spread over all multiprocessors: one cooperative
// launch, h exchanged through global memory. Given are the products W_ih x of all steps. grid_group.cuh says who does
// what and why two buffers are enough, grid_product.cuh how weights meet h. Executed under emulation only, never on
// hardware.
//
// A step of a chunk: every warp waits for the blocks that its part of the sum over k comes from, multiplies, and leaves
// its part in shared memory. The block meets. Then a thread has a row and a unit, adds up the parts in their order,
// computes the cell, and sends h on its way. The block meets again, publishes, and only then stores what nobody waits
// for. The pre-activations of the next chunk are copied to shared memory meanwhile, by the thread that will use them.

#include "cuda/quick.h"
#include "cuda/grid_product.cuh"

namespace fused_lstm::cuda {

template <class S>
class GridForwardThread {
 public:
  FUSED_LSTM_DEVICE explicit GridForwardThread(const GridArguments<ForwardRecurrence>& a)
      : p_(a.recurrence), r_(a.recurrence.rows), group_(r_, a.batch_groups) {
    flags_ = reinterpret_cast<uint32_t*>(a.workspace) + group_.index * group_.blocks;
    exchange_ = reinterpret_cast<T*>(a.workspace + grid_flag_bytes(r_, a.batch_groups));
  }

  FUSED_LSTM_DEVICE void run() {
    group_.read_lengths();
    product_.template load<S::kStage>(S::kPartials, [this](int row, int k) { return weights(row, k); });
    load_bias();
    for (int chunk = 0; chunk < group_.chunks; ++chunk) {
      UNROLL for (int i = 0; i < kPairs; ++i)
        begin(chunk, i);
    }
    publish(group_.chunks);
    GridTurn now = next({0, -1});
    copy_ahead(now, 0);
    for (int n = 0; now.step < group_.steps; ++n) {
      const GridTurn then = next(now);
      copy_ahead(then, n + 1);
      turn(now, n);
      now = then;
    }
    for (int chunk = 0; chunk < group_.chunks; ++chunk) {
      UNROLL for (int i = 0; i < kPairs; ++i)
        clear_tail(chunk, i);
    }
  }

 private:
  using T = typename S::T;
  using Product = typename S::Product;
  using Group = GridGroup<S::kThreads, S::kRows>;
  static constexpr int kPairs = Group::kPairs;

  const ForwardRecurrence& p_;
  const RecurrenceRows& r_;
  Group group_;
  GridProduct<Product> product_;
  uint32_t* flags_;  // of the group's blocks: chunks published, those of the initial state included
  T* exchange_;
  Floats4 bias_;

  // --- where things are ----------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE const ForwardDirection& d() const { return p_.direction[group_.direction]; }
  FUSED_LSTM_DEVICE int64_t state_at(int chunk, int i) const {
    return int64_t{group_.row(chunk, i)} * r_.hidden + group_.unit;
  }
  FUSED_LSTM_DEVICE int place(int row, int length, int s) const {  // (t, b) of a row's step
    return r_.place(r_.time_of(d().reverse, length, s), row);
  }
  FUSED_LSTM_DEVICE T* y_at(int place) const { return static_cast<T*>(d().y) + place * p_.y_stride + group_.unit; }
  FUSED_LSTM_DEVICE T* exchanged(int buffer, int tile, int k) const {
    const int tiles = grid_tiles(r_.batch);
    const int64_t all = (int64_t{group_.direction} * 2 + buffer) * tiles + group_.first_tile + tile;
    return exchange_ + Product::exchange_at(all, k);
  }
  FUSED_LSTM_DEVICE static SharedAddress part_at(int tile, int part, int row, int unit) {
    return S::kPartials + (tile * S::kWarps + part) * S::kPartBytes + row * S::kPartRowBytes + unit * 16;
  }
  FUSED_LSTM_DEVICE static SharedAddress ahead_at(int n, int i) {
    return S::kAhead + ((n & 1) * kGridPairs + Group::pair(i)) * 16;
  }
  // Of a row that is alive.
  FUSED_LSTM_DEVICE bool alive(GridTurn at, int i) const {
    return group_.real(at.chunk, i) && at.step < group_.length(at.chunk, i);
  }
  FUSED_LSTM_DEVICE GridTurn next(GridTurn at) const {
    do {
      if (++at.chunk >= group_.chunks) at.chunk = 0, ++at.step;
    } while (at.step < group_.steps && at.step >= group_.chunk_steps(at.chunk));
    return at;
  }

  // --- numbers -------------------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE static T rounded(float x) {
    if constexpr (sizeof(T) == 4)
      return x;
    else
      return T{static_cast<uint16_t>(pack<T>(x, 0.0f))};
  }
  FUSED_LSTM_DEVICE void send(int buffer, int chunk, int i, T h) const {
    if constexpr (sizeof(T) == 4) h = round_to_tf32(h);
    exchange_store(exchanged(buffer, group_.tile(chunk, i), group_.unit) + group_.row_in_tile(i) * Product::kSpan, h);
  }

  // --- before the first step -----------------------------------------------------------------------------------------
  // Rows of the left operand: 8 units of gates i, of f, of g, of o; then the other 8.
  FUSED_LSTM_DEVICE uint32_t weights(int row, int k) const {
    const int gate = row / 8 % 4, unit = group_.rank * kGridUnits + row / 32 * 8 + row % 8;
    const T* from = static_cast<const T*>(d().w_hh) + (int64_t{gate} * r_.hidden + unit) * r_.hidden + k;
    T v[2] = {};
    UNROLL for (int i = 0; i < Product::kPer; ++i) {
      if (unit < r_.hidden && k + i < r_.hidden) v[i] = from[i];
    }
    if constexpr (sizeof(T) == 4)
      return bits_of(round_to_tf32(v[0]));
    else
      return v[0].bits | uint32_t{v[1].bits} << 16;
  }

  FUSED_LSTM_DEVICE void load_bias() {
    bias_ = {};
    if (!d().b_ih || group_.unit >= r_.hidden) return;
    UNROLL for (int gate = 0; gate < 4; ++gate) {
      const int64_t at = int64_t{gate} * r_.hidden + group_.unit;
      bias_.value[gate] = widened(static_cast<const T*>(d().b_ih)[at]) + widened(static_cast<const T*>(d().b_hh)[at]);
    }
  }

  // What padding there is in the exchange stays zero, as the workspace was.
  FUSED_LSTM_DEVICE void begin(int chunk, int i) const {
    if (!group_.real(chunk, i)) return;
    const int row = group_.row(chunk, i), length = group_.length(chunk, i);
    const int64_t at = state_at(chunk, i);
    T h{}, c{};
    if (d().h0) h = static_cast<const T*>(d().h0)[at];
    if (d().c0) c = static_cast<const T*>(d().c0)[at];
    if (length == 0) static_cast<T*>(d().h_n)[at] = h, static_cast<T*>(d().c_n)[at] = c;
    const bool cut = r_.cut(d().reverse, row, length, 0);
    shared_store(group_.state(chunk, i), cut ? 0.0f : widened(c));
    send(0, chunk, i, cut ? T{} : h);
  }

  // Everybody has come when this returns, all that was sent before is published.
  FUSED_LSTM_DEVICE void publish(uint32_t count) const {
    block_sync();
    if (thread_rank() == 0) flag_release(flags_ + group_.rank, count);
  }

  // --- a step of a chunk ---------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE void copy_ahead(GridTurn at, int n) const {
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (at.step >= group_.steps || !alive(at, i)) continue;
      const int here = place(group_.row(at.chunk, i), group_.length(at.chunk, i), at.step);
      copy_async(ahead_at(n, i), d().pre + (int64_t{here} * r_.hidden + group_.unit) * 4);
    }
    copy_commit();
  }

  FUSED_LSTM_DEVICE void turn(GridTurn at, int n) {
    bool cut[kPairs];  // whether the row enters the next step with a state of zero
    UNROLL for (int i = 0; i < kPairs; ++i)
      cut[i] = alive(at, i) && r_.cut(d().reverse, group_.row(at.chunk, i), group_.length(at.chunk, i), at.step + 1);
    const uint32_t before = at.step * group_.chunks + at.chunk + 1;
    product_.wait(flags_, group_.blocks, before);
    if (group_.has_second(at.chunk) && at.step < group_.tile_steps(at.chunk * kGridChunk + 1))
      multiply<2>(at);
    else
      multiply<1>(at);
    block_sync();
    copy_wait<1>();
    CellState<float> now[kPairs] = {};
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (!alive(at, i)) continue;
      now[i] = cell(at.chunk, i, n);
      shared_store(group_.state(at.chunk, i), cut[i] ? 0.0f : now[i].c);
      send((at.step + 1) & 1, at.chunk, i, cut[i] ? T{} : rounded(now[i].h));
    }
    publish(before + group_.chunks);
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (alive(at, i)) store(at, i, now[i]);
    }
  }

  template <int kCount>
  FUSED_LSTM_DEVICE void multiply(GridTurn at) const {
    float sum[kCount][4][4];
    product_.template multiply<kCount>(exchanged(at.step & 1, at.chunk * kGridChunk, 0), sum);
    const int part = thread_rank() / 32, g = thread_rank() % 32 / 4, q = thread_rank() % 4;
    UNROLL for (int tile = 0; tile < kCount; ++tile) {
      UNROLL for (int half = 0; half < 2; ++half) {  // of the units
        const float* a = sum[tile][2 * half];
        const float* b = sum[tile][2 * half + 1];
        UNROLL for (int j = 0; j < 2; ++j)
          shared_store(part_at(tile, part, 2 * q + j, 8 * half + g), Floats4{{a[j], a[2 + j], b[j], b[2 + j]}});
      }
    }
  }

  FUSED_LSTM_DEVICE CellState<float> cell(int chunk, int i, int n) const {
    float a[4] = {};
    UNROLL for (int part = 0; part < S::kWarps; ++part) {
      const SharedAddress from = part_at(group_.tile_in_chunk(i), part, group_.row_in_tile(i), group_.unit_in_block());
      const Floats4 more = shared_load<Floats4>(from);
      UNROLL for (int gate = 0; gate < 4; ++gate)
        a[gate] += more.value[gate];
    }
    const Floats4 x = shared_load<Floats4>(ahead_at(n, i));
    UNROLL for (int gate = 0; gate < 4; ++gate)
      a[gate] += x.value[gate] + bias_.value[gate];
    const float c = shared_load<float>(group_.state(chunk, i));
    return quick_forward({a[0], a[1], a[2], a[3]}, c);
  }

  FUSED_LSTM_DEVICE void store(GridTurn at, int i, const CellState<float>& now) const {
    const int length = group_.length(at.chunk, i);
    const int here = place(group_.row(at.chunk, i), length, at.step);
    const int64_t there = int64_t{here} * r_.hidden + group_.unit;
    const T h = rounded(now.h);
    *y_at(here) = h;
    if (d().gates) {
      const Gates<float>& a = now.gates;
      reinterpret_cast<Floats4*>(d().gates)[there] = {{a.i, a.f, a.g, a.o}};
      d().cells[there] = now.c;
    }
    if (at.step + 1 == length) {
      static_cast<T*>(d().h_n)[state_at(at.chunk, i)] = h;
      static_cast<T*>(d().c_n)[state_at(at.chunk, i)] = rounded(now.c);
    }
  }

  FUSED_LSTM_DEVICE void clear_tail(int chunk, int i) const {
    if (!group_.real(chunk, i)) return;
    for (int t = r_.tail_begin(group_.length(chunk, i)); t < r_.steps; ++t)
      *y_at(r_.place(t, group_.row(chunk, i))) = T{};
  }
};

template <class S>
FUSED_LSTM_KERNEL(S::kThreads) grid_forward_kernel(FUSED_LSTM_ARGUMENT GridArguments<ForwardRecurrence> a) {
  GridForwardThread<S>(a).run();
}

template <class S>
const char* launch_grid_forward(const ForwardRecurrence& p, int batch_groups, void* workspace, void* stream) {
  const RecurrenceRows& r = p.rows;
  const int blocks = r.directions * batch_groups * grid_blocks(r.hidden);
  if (r.batch == 0 || blocks == 0) return nullptr;
  const int shared_bytes = S::shared_bytes(grid_most_tiles(r.batch, batch_groups));
  return launch(Launch{blocks, 1, S::kThreads, shared_bytes, true, stream}, &grid_forward_kernel<S>,
                GridArguments<ForwardRecurrence>{p, static_cast<unsigned char*>(workspace), batch_groups});
}

}  // namespace fused_lstm::cuda
