#pragma once
// Rows of one direction's weights and of their gradients in the order of gate columns: backward multiplies by weights
// as they lie, and writes their gradients where they belong.

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/problem.h"
#include "cpu/panels.h"

namespace fused_lstm::cpu {

template <class T>
struct WeightRows {
  std::vector<const T*> w_ih, w_hh, w_hr;  // padded units: zeros
  std::vector<T*> dw_ih, dw_hh, dw_hr;     // null where nothing is to be written

  WeightRows() = default;
  WeightRows(const Problem& p, int d, const GateLayout<T>& layout, const LayerInputs& in, const BackwardOutputs& out)
      : zeros_(std::max(p.input, p.output())) {
    std::memset(zeros_.get(), 0, std::max(p.input, p.output()) * sizeof(T));
    const auto row_of = [](auto* base, int64_t row, int64_t width) { return base ? base + row * width : nullptr; };
    for (int64_t j = 0; j < layout.columns(); ++j) {
      const int64_t row = layout.weight_row(j);
      w_ih.push_back(row < 0 ? zeros_.get() : static_cast<const T*>(in.weights[d].w_ih) + row * p.input);
      w_hh.push_back(row < 0 ? zeros_.get() : static_cast<const T*>(in.weights[d].w_hh) + row * p.output());
      dw_ih.push_back(row < 0 ? nullptr : row_of(static_cast<T*>(out.dw_ih[d]), row, p.input));
      dw_hh.push_back(row < 0 ? nullptr : row_of(static_cast<T*>(out.dw_hh[d]), row, p.output()));
    }
    for (int64_t j = 0; j < p.projection; ++j) {
      w_hr.push_back(static_cast<const T*>(in.weights[d].w_hr) + j * p.hidden);
      dw_hr.push_back(row_of(static_cast<T*>(out.dw_hr[d]), j, p.hidden));
    }
  }

 private:
  Buffer<T> zeros_;
};

}  // namespace fused_lstm::cpu
