#pragma once
// The schemas of the layer operators, without their names: the library registers them, and so does the test library
// that runs the CUDA code on the CPU.

#define FUSED_LSTM_LAYER_ARGUMENTS                                                                             \
  "Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? batch_sizes, Tensor? lengths, Tensor? resets, " \
  "Tensor? recurrent_scale, Tensor? cell_params, Tensor? cell_inputs, "

#define FUSED_LSTM_FORWARD_SCHEMA                                                                            \
  "(" FUSED_LSTM_LAYER_ARGUMENTS                                                                             \
  "int cell, int direction, bool batch_first, bool save, bool allow_tf32=False, float cell_clip=0.0, float " \
  "proj_clip=0.0, bool recompute=False) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor reserve)"

#define FUSED_LSTM_BACKWARD_SCHEMA                                                                          \
  "(Tensor? dy, Tensor? dh_n, Tensor? dc_n, " FUSED_LSTM_LAYER_ARGUMENTS                                    \
  "Tensor y, Tensor reserve, int cell, int direction, bool batch_first, int needs, bool allow_tf32=False, " \
  "float cell_clip=0.0, float proj_clip=0.0, bool recompute=False) -> Tensor[]"
