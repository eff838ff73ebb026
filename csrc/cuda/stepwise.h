#pragma once
// The obvious family: at each step one product (torch's own GEMM) and one of the launches below. It serves every
// dtype, size, cell and GPU, makes the host wait for nothing, and can be captured in a CUDA graph.
//
// Rows keep the caller's order. `lengths` stay on the device: a row that is over, or has not begun, is passed by,
// its state untouched. All pointers are device pointers; S is the tensors' type, C the type of sums (float, or
// double for double), both chosen by Problem::dtype. Index "(t, b)" means the row of a tensor over steps and rows:
// base(t) + b * stride. Gates of a unit lie side by side, [H, 4], where nothing else is said.

#include <cstdint>

#include "core/problem.h"
#include "cuda/elementwise.h"

namespace fused_lstm::cuda {

// One direction of a call, the same for all of its steps.
struct StepwiseLayer {
  int64_t steps, rows;      // T and B
  int64_t hidden, output;   // H and P
  int64_t y_width;          // D * P
  int64_t y_begin;          // d * P
  int64_t row_stride;       // of (t, b)
  bool reversed, projected, has_bias;
  int cell;
  double cell_clip, proj_clip;  // 0: none
  DType dtype;
  const int64_t* lengths;        // [B] or null
  const unsigned char* resets;   // (t, b) or null
  const void* b_ih;              // S [4H]
  const void* b_hh;              // S [4H]
  const void* scale;             // S [B, P] or null
  const void* cell_params;       // S [params, H]
  const void* cell_inputs;       // S (t, b) x [inputs, H]
  const void* h0;                // S [B, P] or null
  const void* c0;                // S [B, H] or null
  Stream stream;
};

// Where a step is: rows [0, rows) take part; base of (t, b) here, and at the steps before and after in this direction.
struct StepPlace {
  int64_t t, rows;
  int64_t here, before, after;
  int64_t rows_before, rows_after;  // rows with a step there: 0 at the ends
};

struct StepForward {
  void* gates;            // C (t, b) x [H, 4]: x * W_ih in, activated gates out
  const void* recurrent;  // C [B, H, 4]: h * W_hh
  void* c_state;          // C [B, H], running
  void* h_state;          // S [B, P], running
  void* h_input;          // S [B, P]: scale * h for the next product; h_state itself without a scale
  void* unprojected;      // S [B, H], with projection
  void* y;                // S (t, b) x [D*P]
  void* cells;            // C (t, b) x [H], or null
};

// Each returns null, or what went wrong.
const char* start_forward(const StepwiseLayer&, const StepForward&);  // states from h0, c0
const char* step_forward(const StepwiseLayer&, const StepPlace&, const StepForward&);
// projected: C [B, P] = unprojected * W_hr^T
const char* project_forward(const StepwiseLayer&, const StepPlace&, const StepForward&, const void* projected);
// c_n: S [B, H]; h_n: S [B, P]
const char* finish_forward(const StepwiseLayer&, const StepForward&, void* h_n, void* c_n);

struct StepBackward {
  const void* gates;      // C (t, b) x [H, 4]
  const void* cells;      // C (t, b) x [H]
  const void* y;          // S (t, b) x [D*P]
  const void* dy;         // S (t, b) x [D*P] or null
  const void* dh_n;       // S [B, P] or null
  const void* dc_n;       // S [B, H] or null
  const void* recurrent;  // C [B, P]: gradient of the step after, through W_hh; unread at the last step
  const void* dunprojected;  // C [B, H]: dprojected * W_hr
  void* dprojected;       // S (t, b) x [P], with projection
  void* dgates;           // S (t, b) x [H, 4]
  void* dc_state;         // C [B, H], running
  void* dh_bypass;        // C [B, H], running: what passes by the gates
  void* bias_sum;         // C [B, 4H], added to
  void* param_sum;        // C [B, params, H], added to
  void* dscale;           // C [B, P], added to, or null
  void* first_recurrent;  // C [B, P]: `recurrent` as it was behind the first step of rows that begin late (reverse,
                          // lengths)
};

// With projection: dprojected of this step; the product with W_hr comes between this and step_backward.
const char* project_backward(const StepwiseLayer&, const StepPlace&, const StepBackward&);
const char* step_backward(const StepwiseLayer&, const StepPlace&, const StepBackward&);
// dh0: S [B, P], dc0: S [B, H], each may be null. `recurrent` is that of every row's first step.
const char* finish_backward(const StepwiseLayer&, const StepBackward&, void* dh0, void* dc0);

}  // namespace fused_lstm::cuda
