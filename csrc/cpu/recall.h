#pragma once
// Gates that forward did not keep (Problem::recompute). Every state is known by then, so no step waits for another:
// products over many rows, and the cell behind them.

#include <vector>

#include "cpu/blocks.h"
#include "cpu/history.h"
#include "cpu/panels.h"

namespace fused_lstm::cpu {

// Where the rows of one block are found; x and h by compact index, results by their place in the block.
template <class T>
struct RecallRows {
  const T* const* x;
  const T* const* h;          // as they enter the product: scaled
  T* const* gates;            // rows of 4*Hp: activated gates
  T* const* unprojected;      // rows of H: o * tanh(c), or null
};

template <class T>
class Recall {
 public:
  // Allocates only where there is something to recall. params: [params][Hp] of each direction.
  Recall(const Problem&, const Rows&, const LayerInputs&, const Kernels<T>&, const History<T>&, int members);

  // This member's part of the weights; sync before run.
  void pack(int d, const Member&);
  // This member's part of the block.
  void run(int d, const Block&, const RecallRows<T>&, const T* params, const Member&);

 private:
  // Rows whose gates are in L2 from the first product to the cell.
  static constexpr int64_t kChunkRows = 96;

  struct Scratch {
    Buffer<T> c, h;  // one row, for what nobody asks
    std::vector<const T*> c_prev, h_prev, inputs;
    std::vector<T*> c_rows, h_rows;
  };

  const Problem& p_;
  const Rows& rows_;
  const LayerInputs& in_;
  const Kernels<T>& kernels_;
  const History<T>& history_;
  const GateLayout<T> layout_;
  Buffer<T> bias_[2];
  Panels<T> input_[2], recurrent_[2];
  std::vector<Scratch> scratch_;

  void point_at(int d, int64_t first, int64_t n, int64_t& t, Scratch& s) const;
};

}  // namespace fused_lstm::cpu
