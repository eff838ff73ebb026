#pragma once
// What the products over all steps still need beside the kernels of a family: states as they entered their steps, and
// small sums. One launch each, whatever the number of steps.

#include <cstdint>

#include "core/problem.h"
#include "cuda/elementwise.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

// Where the states of one direction lie. S: the tensors' type.
struct StatesLayout {
  RecurrenceRows rows;
  DType dtype;
  int64_t output;    // P
  int64_t y_stride;  // from one (t, b) of y to the next
  bool reverse;
  const void* h0;     // S [B, P] or null
  const void* scale;  // S [B, P] or null
};

// to: S (t, b) x [P]: h as it entered step t, scaled; zero where the row has no such step. y: at this direction's
// columns.
const char* gather_states(const StatesLayout&, const void* y, void* to, Stream);
// What the cell of one direction reads besides gates and states.
struct CellLayout {
  int cell;
  double clip;              // bound of c, 0: none
  const void* b_ih;         // S [4H] or null
  const void* b_hh;         // S [4H], like b_ih
  const void* cell_params;  // S [params, H]
  const void* cell_inputs;  // S (t, b) x [inputs, H]
  const void* c0;           // S [B, H] or null
};
// gates: C (t, b) x [H, 4]: x * W_ih in, activated gates out; recurrent: the same of h * W_hh. cells: C (t, b) x [H] as
// forward left them. Places without a step become zero.
const char* activate_gates(const StatesLayout&, const CellLayout&, const void* cells, const void* recurrent,
                           void* gates, Stream);
// to: S (t, b) x [H]: o * tanh(c), from gates and cells as forward left them
const char* gather_unprojected(const StatesLayout&, const void* gates, const void* cells, void* to, Stream);
// to: S (t, b) x [columns]: from, with zeros where the row has no such step: what padding holds must not reach a product
const char* gather_alive(const StatesLayout&, const void* from, int64_t columns, void* to, Stream);
// to[j] (S) = sum over `rows` rows of from (Compute<S>), in their order
const char* sum_rows(DType, const void* from, int64_t rows, int64_t columns, void* to, Stream);
// sum (S) += term (S)
const char* add(DType, const void* term, void* sum, int64_t n, Stream);
// Numbers of the host to the device, as arguments of launches: nothing has to stay alive until they arrive.
const char* upload(const int64_t* values, int64_t n, int64_t* to, Stream);

}  // namespace fused_lstm::cuda
