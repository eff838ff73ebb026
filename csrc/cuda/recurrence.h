#pragma once
// What a kernel is told that runs over all steps by itself (the families `cluster` and `grid`), and where rows and steps
// lie. The products with x before it, and those that make weight gradients after it, are not its business.
//
// All pointers are device pointers. T is the tensors' type: float, BFloat16 or Float16. "(t, b)" is the row of a tensor
// over steps and rows, see RecurrenceRows::at. Gates of a unit lie side by side: [H, 4], in the order i f g o.

#include <cstdint>

#include "cell/macros.h"

namespace fused_lstm::cuda {

struct RecurrenceRows {
  const int64_t* lengths;  // [B] or null: all T. Values outside [0, T] count as the nearest end.
  const int64_t* offsets;  // [T] with packed rows, where b of step t is at offsets[t] + b: then lengths are given too
  const uint8_t* resets;  // (t, b) or null
  int64_t step_stride, row_stride;  // unless packed: (t, b) is at t * step_stride + b * row_stride
  int steps, batch, hidden, directions;

  FUSED_LSTM_HD int64_t at(int t, int b) const { return offsets ? offsets[t] + b : t * step_stride + b * row_stride; }
  // The same with less arithmetic, for T * B < 2^31, which the plan sees to for kernels over all steps.
  FUSED_LSTM_HD int place(int t, int b) const {
    if (offsets) return static_cast<int>(offsets[t]) + b;
    return t * static_cast<int>(step_stride) + b * static_cast<int>(row_stride);
  }
  FUSED_LSTM_HD int length_of(int b) const {  // rows beyond the batch, which pad a tile, have no steps
    if (b >= batch) return 0;
    if (!lengths) return steps;
    const int64_t length = lengths[b];
    return length < 0 ? 0 : length > steps ? steps : static_cast<int>(length);
  }
  // Where the s-th step of a row is that many steps long: in reverse every row starts at its own end.
  FUSED_LSTM_HD static int time_of(bool reverse, int length, int s) { return reverse ? length - 1 - s : s; }
  // Whether the s-th step begins with a state of zero. A reset lies between its step and the one before in time,
  // whichever of them comes first here.
  FUSED_LSTM_HD bool cut(bool reverse, int b, int length, int s) const {
    if (!resets || s >= length || (reverse && s == 0)) return false;
    return resets[at(time_of(reverse, length, s) + (reverse ? 1 : 0), b)] != 0;
  }
  // With packed rows there is nothing beyond a row's length.
  FUSED_LSTM_HD int tail_begin(int length) const { return offsets ? steps : length; }
};

struct ForwardDirection {
  const float* pre;  // (t, b) x [H, 4]: W_ih x, without biases
  float* gates;  // (t, b) x [H, 4] activated, may be `pre`; null when backward will not come
  float* cells;  // (t, b) x [H]; null like gates. Both are left alone beyond a row's length.
  const void* w_hh;  // T [4H, H]
  const void* b_ih;  // T [4H] or null
  const void* b_hh;  // T [4H] or null, like b_ih
  const void* h0;  // T [B, H] or null
  const void* c0;  // T [B, H] or null
  void* y;  // T (t, b) x [y_stride], at this direction's columns; zero beyond a row's length
  void* h_n;  // T [B, H]
  void* c_n;  // T [B, H]
  bool reverse;
};

struct ForwardRecurrence {
  RecurrenceRows rows;
  ForwardDirection direction[2];
  int64_t y_stride;  // elements from one (t, b) to the next
};

struct BackwardDirection {
  const float* gates;  // (t, b) x [H, 4] as forward left them
  const float* cells;  // (t, b) x [H]
  void* dgates;  // T (t, b) x [H, 4]: gradients of the pre-activations; zero beyond a row's length
  const void* w_hh;  // T [4H, H]
  const void* c0;  // T [B, H] or null
  const void* dy;  // T (t, b) x [dy_stride], at this direction's columns, or null
  const void* dh_n;  // T [B, H] or null
  const void* dc_n;  // T [B, H] or null
  void* dh0;  // T [B, H] or null
  void* dc0;  // T [B, H] or null
  bool reverse;
};

struct BackwardRecurrence {
  RecurrenceRows rows;
  BackwardDirection direction[2];
  int64_t dy_stride;
};

}  // namespace fused_lstm::cuda
