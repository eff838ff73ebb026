#pragma once
// One LSTM layer on the CPU. The loops over time live in forward.cpp and backward.cpp, free of intrinsics and of torch.

#include "core/problem.h"
#include "core/rows.h"
#include "cpu/team.h"

namespace fused_lstm::cpu {

// All buffers are of the problem's dtype, but the reserve, which is float (double for float64).
// Throw std::runtime_error (memory), std::invalid_argument (FUSED_LSTM_CPU_ISA).
void forward(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&, const Parallel&);
void backward(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&, const BackwardOutputs&,
              const Parallel&);

// The same in the type that kernels compute in: every buffer holds T. With a 16-bit p.dtype and T = float, each h
// is rounded to that dtype, so that the recurrence sees what the caller will.
template <class T>
void forward_in(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&, const Parallel&);
template <class T>
void backward_in(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&, const BackwardOutputs&,
                 const Parallel&);

// The same for cells that need a whole row, those that are not CellShape::elementwise().
template <class T>
void rowwise_forward(const Problem&, const Rows&, const LayerInputs&, const ForwardOutputs&, const Parallel&);
template <class T>
void rowwise_backward(const Problem&, const Rows&, const LayerInputs&, const BackwardInputs&, const BackwardOutputs&,
                      const Parallel&);

}  // namespace fused_lstm::cpu
