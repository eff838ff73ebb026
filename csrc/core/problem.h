#pragma once
// What one LSTM layer pass has to compute. Knows nothing of torch, threads, ISA or CUDA.

#include <cstdint>
#include <ostream>

namespace fused_lstm {

enum class DType { kFloat32, kFloat64, kBFloat16, kFloat16 };

enum class Direction { kForward, kReverse, kBoth };

inline const char* name_of(DType t) {
  constexpr const char* kNames[] = {"float32", "float64", "bfloat16", "float16"};
  return kNames[static_cast<int>(t)];
}

// Hidden units are padded to this many in every buffer we own, so that one
// layout serves every vector width and a reserve's size is known without asking which ISA runs.
constexpr int64_t kUnitPad = 16;

struct Problem {
  int64_t steps = 0;       // T
  int64_t batch = 0;       // B
  int64_t input = 0;       // I
  int64_t hidden = 0;      // H
  int64_t projection = 0;  // proj_size, 0 when h is not projected
  int64_t total = 0;       // valid (step, row) pairs: T*B, or the sum of the lengths
  Direction direction = Direction::kForward;
  DType dtype = DType::kFloat32;
  int cell = 0;  // index into the list of cell/variants.h
  double cell_clip = 0;  // bound of c, 0: none
  double proj_clip = 0;  // bound of the projected h, a value of dtype; 0: none
  bool bias = false;
  bool save_for_backward = false;
  bool recompute = false;  // backward makes the gates again, forward keeps cell states alone

  int directions() const { return direction == Direction::kBoth ? 2 : 1; }
  bool reversed(int d) const { return direction == Direction::kReverse || d == 1; }
  int64_t output() const { return projection > 0 ? projection : hidden; }  // P
  int64_t padded_hidden() const { return (hidden + kUnitPad - 1) / kUnitPad * kUnitPad; }
  int64_t gate_width() const { return 4 * padded_hidden(); }
  bool keeps_gates() const { return save_for_backward && !recompute; }
  int64_t reserve_width() const { return padded_hidden() + (recompute ? 0 : gate_width()); }
};

inline std::ostream& operator<<(std::ostream& os, const Problem& p) {
  constexpr const char* kDirections[] = {"forward", "reverse", "both"};
  return os << "Problem(T=" << p.steps << ", B=" << p.batch << ", I=" << p.input << ", H=" << p.hidden
            << ", proj=" << p.projection << ", total=" << p.total
            << ", direction=" << kDirections[static_cast<int>(p.direction)] << ", dtype=" << name_of(p.dtype)
            << ", cell=" << p.cell << ", clips=" << p.cell_clip << "/" << p.proj_clip << ", bias=" << p.bias
            << ", save=" << p.save_for_backward << ", recompute=" << p.recompute << ")";
}

// A tensor over (step, row, features): address = data + step*step_stride + row*row_stride, in
// elements; features are contiguous. For packed data row_stride alone counts (see core/rows.h).
struct Sheet {
  void* data = nullptr;
  int64_t step_stride = 0;
  int64_t row_stride = 0;
};

struct DirectionWeights {
  const void* w_ih = nullptr;  // [4H, I]  gate order i, f, g, o
  const void* w_hh = nullptr;  // [4H, P]
  const void* b_ih = nullptr;  // [4H] or null
  const void* b_hh = nullptr;  // [4H] or null
  const void* w_hr = nullptr;  // [P, H] or null
};

// What forward reads and backward reads again. D = directions, P = output size.
struct LayerInputs {
  Sheet x;  // features I
  DirectionWeights weights[2];
  const void* h0 = nullptr;               // [D, B, P] or null
  const void* c0 = nullptr;               // [D, B, H] or null
  Sheet resets;                           // features 1, one byte each, or null
  const void* recurrent_scale = nullptr;  // [D, B, P] or null
  const void* cell_params = nullptr;      // [D, params, H] or null
  Sheet cell_inputs[2];                   // per direction; features [inputs, H], or null
};

struct ForwardOutputs {
  Sheet y;                  // features D*P
  void* h_n = nullptr;      // [D, B, P]
  void* c_n = nullptr;      // [D, B, H]
  void* reserve = nullptr;  // see core/reserve.h; null unless save_for_backward
};

struct BackwardInputs {
  Sheet dy;                       // features D*P, or null
  const void* dh_n = nullptr;     // [D, B, P] or null
  const void* dc_n = nullptr;     // [D, B, H] or null
  Sheet y;                        // features D*P
  const void* reserve = nullptr;  // what forward kept
};

// Null means: not asked for, do not compute.
struct BackwardOutputs {
  Sheet dx;             // features I
  void* dh0 = nullptr;  // [D, B, P]
  void* dc0 = nullptr;  // [D, B, H]
  void* dw_ih[2] = {};  // [4H, I]
  void* dw_hh[2] = {};  // [4H, P]
  void* dbias[2] = {};  // [4H]
  void* dw_hr[2] = {};  // [P, H]
  void* drecurrent_scale = nullptr;  // [D, B, P]
  void* dcell_params = nullptr;      // [D, params, H]
};

}  // namespace fused_lstm
