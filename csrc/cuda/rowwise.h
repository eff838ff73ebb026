#pragma once
// The steps of the stepwise family for cells that need a whole row: layer normalisation, and an output gate that reads
// the new cell state. Two launches take the place of each step_forward and step_backward; between them lies the product
// of that output gate. Everything else, and the conventions, are those of stepwise.h.

#include "cuda/stepwise.h"

namespace fused_lstm::cuda {

struct RowwiseForward {
  void* c_new;         // C [B, H]: before zoneout
  const void* from_c;  // C [B, H]: W_ho c, or null
};

// f.gates: x * W_ih in; out the activated gates, but of o still the pre-activation; and c_new.
const char* rowwise_gates(const StepwiseLayer&, const StepPlace&, const StepForward&, const RowwiseForward&);
// The output gate, h and c.
const char* rowwise_output(const StepwiseLayer&, const StepPlace&, const StepForward&, const RowwiseForward&);

struct RowwiseBackward {
  const void* x_product;       // C (t, b) x [H, 4]: W_ih x once more, for the norm, or null
  const void* h_product;       // C (t, b) x [H, 4]: W_hh h
  void* c_new;                 // C (t, b) x [H]: before zoneout
  void* dc_new;                // C [B, H]: gradient of it
  void* past_c;                // C [B, H]: of c', by way of zoneout
  void* da_o;                  // C [B, H]
  const void* through_output;  // C [B, H]: da_o * W_ho, or null
  void* room;                  // C [B, H, 4]
  void* dgates_h;  // S (t, b) x [H, 4]: gradient of W_hh h behind a norm; g.dgates is that of W_ih x then
  void* unprojected;  // S (t, b) x [H]: what met W_hr, or null
};

// From dh to da_o and to dc_new, as far as it does not pass W_ho.
const char* rowwise_output_backward(const StepwiseLayer&, const StepPlace&, const StepBackward&,
                                    const RowwiseBackward&);
const char* rowwise_gates_backward(const StepwiseLayer&, const StepPlace&, const StepBackward&, const RowwiseBackward&);

}  // namespace fused_lstm::cuda
