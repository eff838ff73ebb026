#pragma once
// The kernels over all steps, by family and by index of the shape that a plan chose. Host code; knows no CUDA header.
// Each returns null, or why nothing was launched.

#include "cuda/elementwise.h"
#include "cuda/plan.h"
#include "cuda/recurrence.h"

namespace fused_lstm::cuda {

const char* cluster_forward(int shape, const ForwardRecurrence& work, Stream stream);
const char* cluster_backward(int shape, const BackwardRecurrence& work, Stream stream);

// workspace: as many bytes of device memory as the plan says (Offer::workspace_bytes), zero.
const char* grid_forward(int shape, const ForwardRecurrence& work, int batch_groups, void* workspace, Stream stream);
const char* grid_backward(int shape, const BackwardRecurrence& work, int batch_groups, void* workspace, Stream stream);

// The numbers of a device by its index.
Device facts_of(int device);

}  // namespace fused_lstm::cuda
