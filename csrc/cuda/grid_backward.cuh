#pragma once
// LSTM backward over all steps with the recurrent weights on chip, spread over all multiprocessors: one cooperative
// launch, gradients of gates exchanged through global memory. grid_group.cuh says who does what and why two buffers are
// enough, grid_product.cuh how weights meet what is exchanged. Executed under emulation only, never on hardware.
//
// A block owns 16 units: of W_hh transposed their 16 rows, for all gates of all units. Iteration n is step steps - 1 - n
// of every row. Every warp waits for the blocks that its part of the sum comes from, multiplies the gradients of the
// iteration before, and leaves its part in shared memory. The block meets. Then a thread has a row and a unit, adds up
// the parts in their order, which is the gradient of h, computes the cell, and sends the gradients of the four gates on
// their way. The block meets again, publishes, and only then stores what nobody waits for. A last iteration has no step:
// its products are the gradients of the initial state.

#include "cuda/quick.h"
#include "cuda/grid_product.cuh"

namespace fused_lstm::cuda {

template <class S>
class GridBackwardThread {
 public:
  FUSED_LSTM_DEVICE explicit GridBackwardThread(const GridArguments<BackwardRecurrence>& a)
      : p_(a.recurrence), r_(a.recurrence.rows), group_(r_, a.batch_groups) {
    flags_ = reinterpret_cast<uint32_t*>(a.workspace) + group_.index * group_.blocks;
    exchange_ = reinterpret_cast<Factor*>(a.workspace + grid_flag_bytes(r_, a.batch_groups));
  }

  FUSED_LSTM_DEVICE void run() {
    group_.read_lengths();
    product_.template load<S::kStage>(S::kPartials, [this](int row, int k) { return weights(row, k); });
    for (int chunk = 0; chunk < group_.chunks; ++chunk) {
      UNROLL for (int i = 0; i < kPairs; ++i)
        clear_tail(chunk, i);
    }
    block_sync();  // shared memory has served to load weights
    GridTurn now = next({0, -1});
    copy_ahead(now, 0);
    for (int n = 0; now.step <= group_.steps; ++n) {
      const GridTurn then = next(now);
      copy_ahead(then, n + 1);
      turn(now, n);
      now = then;
    }
  }

 private:
  using T = typename S::T;
  using Product = typename S::Product;
  using Factor = typename Product::Factor;
  using Group = GridGroup<S::kThreads, S::kRows>;
  static constexpr int kPairs = Group::kPairs;

  const BackwardRecurrence& p_;
  const RecurrenceRows& r_;
  Group group_;
  GridProduct<Product> product_;
  uint32_t* flags_;  // of the group's blocks: chunks published
  Factor* exchange_;

  // What a cell needs of global memory beside its gates, fetched before anybody is waited for.
  struct Given {
    float dy, c, c_prev;
    bool cut;  // whether the row's state was zeroed before the next step
  };

  // --- where things are ----------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE const BackwardDirection& d() const { return p_.direction[group_.direction]; }
  FUSED_LSTM_DEVICE int step(GridTurn at) const { return group_.steps - 1 - at.step; }  // -1: the last iteration
  FUSED_LSTM_DEVICE int place(int row, int length, int s) const {  // (t, b) of a row's step
    return r_.place(r_.time_of(d().reverse, length, s), row);
  }
  FUSED_LSTM_DEVICE int64_t pair(int place) const { return int64_t{place} * r_.hidden + group_.unit; }
  FUSED_LSTM_DEVICE Factor* exchanged(int buffer, int tile, int k) const {
    const int tiles = grid_tiles(r_.batch);
    const int64_t all = (int64_t{group_.direction} * 2 + buffer) * tiles + group_.first_tile + tile;
    return exchange_ + Product::exchange_at(all, k);
  }
  FUSED_LSTM_DEVICE static SharedAddress part_at(int tile, int part, int row, int unit) {
    return S::kPartials + (tile * S::kWarps + part) * S::kPartBytes + row * S::kPartRowBytes + unit * 4;
  }
  FUSED_LSTM_DEVICE static SharedAddress ahead_at(int n, int i) {
    return S::kAhead + ((n & 1) * kGridPairs + Group::pair(i)) * 16;
  }
  FUSED_LSTM_DEVICE bool alive(GridTurn at, int i) const {
    return step(at) >= 0 && group_.real(at.chunk, i) && step(at) < group_.length(at.chunk, i);
  }
  // Iterations of a chunk begin with its longest row's last step; all chunks have the last iteration.
  FUSED_LSTM_DEVICE GridTurn next(GridTurn at) const {
    do {
      if (++at.chunk >= group_.chunks) at.chunk = 0, ++at.step;
    } while (at.step < group_.steps && step(at) >= group_.chunk_steps(at.chunk));
    return at;
  }
  // Of a state [B, H] that may be missing.
  FUSED_LSTM_DEVICE float state(const void* from, int row) const {
    return from ? widened(static_cast<const T*>(from)[pair(row)]) : 0.0f;
  }
  FUSED_LSTM_DEVICE bool cut(int row, int length, int s) const { return r_.cut(d().reverse, row, length, s); }

  // --- before the first step -----------------------------------------------------------------------------------------
  // Rows: this block's units. Column k: gate k % 4 of unit k / 4.
  FUSED_LSTM_DEVICE uint32_t weights(int row, int k) const {
    const int to = group_.rank * kGridUnits + row;
    T v[2] = {};
    UNROLL for (int i = 0; i < Product::kPer; ++i) {
      const int gate = (k + i) % 4, from = (k + i) / 4;
      if (to < r_.hidden && from < r_.hidden)
        v[i] = static_cast<const T*>(d().w_hh)[(int64_t{gate} * r_.hidden + from) * r_.hidden + to];
    }
    if constexpr (sizeof(Factor) == 4)
      return bits_of(round_to_tf32(widened(v[0])));
    else
      return v[0].bits | uint32_t{v[1].bits} << 16;
  }

  FUSED_LSTM_DEVICE void clear_tail(int chunk, int i) const {
    if (!group_.real(chunk, i)) return;
    const int row = group_.row(chunk, i);
    for (int t = r_.tail_begin(group_.length(chunk, i)); t < r_.steps; ++t) put_dgates(r_.place(t, row), {});
  }

  // --- a step of a chunk ---------------------------------------------------------------------------------------------
  FUSED_LSTM_DEVICE void copy_ahead(GridTurn at, int n) const {
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (at.step >= group_.steps || !alive(at, i)) continue;
      const int here = place(group_.row(at.chunk, i), group_.length(at.chunk, i), step(at));
      copy_async(ahead_at(n, i), d().gates + pair(here) * 4);
    }
    copy_commit();
  }

  FUSED_LSTM_DEVICE Given fetch(GridTurn at, int i) const {
    const int row = group_.row(at.chunk, i), length = group_.length(at.chunk, i), s = step(at);
    const int here = place(row, length, s);
    Given x{};
    x.cut = cut(row, length, s + 1);
    x.c = d().cells[pair(here)];
    if (!cut(row, length, s)) x.c_prev = s > 0 ? d().cells[pair(place(row, length, s - 1))] : state(d().c0, row);
    if (d().dy) x.dy = widened(static_cast<const T*>(d().dy)[here * p_.dy_stride + group_.unit]);
    return x;
  }

  FUSED_LSTM_DEVICE void turn(GridTurn at, int n) {
    Given given[kPairs] = {};
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (alive(at, i)) given[i] = fetch(at, i);
    }
    const bool heard =
        at.step > 0 && step(at) + 1 < group_.chunk_steps(at.chunk);  // the chunk has been worked on before
    const uint32_t before = (at.step - 1) * group_.chunks + at.chunk + 1;
    if (heard) {
      product_.wait(flags_, group_.blocks, before);
      if (group_.has_second(at.chunk))
        multiply<2>(at);
      else
        multiply<1>(at);
    }
    block_sync();
    copy_wait<1>();
    Gates<float> da[kPairs] = {};
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (step(at) < 0) {
        finish(at, i);
      } else if (alive(at, i)) {
        da[i] = cell(at, i, n, given[i]);
        send(at, i, da[i]);
      }
    }
    block_sync();
    if (thread_rank() == 0) flag_release(flags_ + group_.rank, before + group_.chunks);
    UNROLL for (int i = 0; i < kPairs; ++i) {
      if (alive(at, i)) put_dgates(place(group_.row(at.chunk, i), group_.length(at.chunk, i), step(at)), da[i]);
    }
  }

  template <int kCount>
  FUSED_LSTM_DEVICE void multiply(GridTurn at) const {
    float sum[kCount][1][4];
    product_.template multiply<kCount>(exchanged(at.step & 1, at.chunk * kGridChunk, 0), sum);
    const int part = thread_rank() / 32, g = thread_rank() % 32 / 4, q = thread_rank() % 4;
    UNROLL for (int tile = 0; tile < kCount; ++tile) {
      UNROLL for (int r = 0; r < 4; ++r)
        shared_store(part_at(tile, part, 2 * q + r % 2, r / 2 * 8 + g), sum[tile][0][r]);
    }
  }

  // The gradient of h that comes from the step after.
  FUSED_LSTM_DEVICE float received(int i) const {
    float sum = 0;
    UNROLL for (int part = 0; part < S::kWarps; ++part)
      sum += shared_load<float>(part_at(group_.tile_in_chunk(i), part, group_.row_in_tile(i), group_.unit_in_block()));
    return sum;
  }

  FUSED_LSTM_DEVICE Gates<float> cell(GridTurn at, int i, int n, const Given& given) const {
    const int row = group_.row(at.chunk, i);
    const SharedAddress kept = group_.state(at.chunk, i);
    float dh = given.dy, dc = 0;
    if (step(at) + 1 == group_.length(at.chunk, i))
      dh += state(d().dh_n, row), dc = state(d().dc_n, row);
    else if (!given.cut)
      dh += received(i), dc = shared_load<float>(kept);
    const Floats4 a = shared_load<Floats4>(ahead_at(n, i));
    const Gates<float> gates{a.value[0], a.value[1], a.value[2], a.value[3]};
    const QuickGrad grad = quick_backward(gates, given.c_prev, given.c, dh, dc);
    shared_store(kept, grad.c_prev);
    return grad.gates;
  }

  FUSED_LSTM_DEVICE void send(GridTurn at, int i, const Gates<float>& a) const {
    Factor* to = exchanged((at.step + 1) & 1, group_.tile(at.chunk, i), 4 * group_.unit) +
                 group_.row_in_tile(i) * Product::kSpan;
    if constexpr (sizeof(Factor) == 4)
      exchange_store(to, Floats4{{round_to_tf32(a.i), round_to_tf32(a.f), round_to_tf32(a.g), round_to_tf32(a.o)}});
    else
      exchange_store(to, Words2{{pack<Factor>(a.i, a.f), pack<Factor>(a.g, a.o)}});
  }

  FUSED_LSTM_DEVICE void put_dgates(int place, const Gates<float>& a) const {
    if constexpr (sizeof(T) == 4)
      static_cast<Floats4*>(d().dgates)[pair(place)] = {{a.i, a.f, a.g, a.o}};
    else
      static_cast<Words2*>(d().dgates)[pair(place)] = {{pack<T>(a.i, a.f), pack<T>(a.g, a.o)}};
  }

  FUSED_LSTM_DEVICE void finish(GridTurn at, int i) const {
    if (!group_.real(at.chunk, i)) return;
    const int row = group_.row(at.chunk, i), length = group_.length(at.chunk, i);
    float dh = state(d().dh_n, row), dc = state(d().dc_n, row);  // of a row without steps
    if (length > 0) {
      const bool none = cut(row, length, 0);
      dh = none ? 0.0f : received(i), dc = none ? 0.0f : shared_load<float>(group_.state(at.chunk, i));
    }
    if (d().dh0) narrowed(dh, static_cast<T*>(d().dh0)[pair(row)]);
    if (d().dc0) narrowed(dc, static_cast<T*>(d().dc0)[pair(row)]);
  }
};

template <class S>
FUSED_LSTM_KERNEL(S::kThreads) grid_backward_kernel(FUSED_LSTM_ARGUMENT GridArguments<BackwardRecurrence> a) {
  GridBackwardThread<S>(a).run();
}

template <class S>
const char* launch_grid_backward(const BackwardRecurrence& p, int batch_groups, void* workspace, void* stream) {
  const RecurrenceRows& r = p.rows;
  const int blocks = r.directions * batch_groups * grid_blocks(r.hidden);
  if (r.batch == 0 || blocks == 0) return nullptr;
  const int shared_bytes = S::shared_bytes(grid_most_tiles(r.batch, batch_groups));
  return launch(Launch{blocks, 1, S::kThreads, shared_bytes, true, stream}, &grid_backward_kernel<S>,
                GridArguments<BackwardRecurrence>{p, static_cast<unsigned char*>(workspace), batch_groups});
}

}  // namespace fused_lstm::cuda
