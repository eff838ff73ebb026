#include "binding/cuda_persistent.h"

#include "cuda/families.h"

namespace fused_lstm {
namespace {

using cuda::BackwardRecurrence;
using cuda::Choice;
using cuda::Family;
using cuda::ForwardRecurrence;

// `t` at the columns of direction d.
void* columns(const Tensor& t, const CudaCall& call, int d) {
  return static_cast<char*>(t.mutable_data_ptr()) + d * call.problem().output() * t.element_size();
}

ForwardRecurrence forward_work(const CudaCall& call, ForwardTensors& tensors) {
  ForwardRecurrence work{};
  work.rows = call.rows();
  work.y_stride = call.directions() * call.problem().output();
  for (int d = 0; d < call.directions(); ++d) {
    const DirectionWeights& w = call.checked().inputs.weights[d];
    cuda::ForwardDirection& to = work.direction[d];
    to.pre = static_cast<const float*>(tensors.gates[d].const_data_ptr());
    if (tensors.cells[d]) {
      to.gates = static_cast<float*>(tensors.gates[d].mutable_data_ptr());
      to.cells = static_cast<float*>(tensors.cells[d]->mutable_data_ptr());
    }
    to.w_hh = w.w_hh, to.b_ih = w.b_ih, to.b_hh = w.b_hh;
    to.h0 = of_direction(call.checked().tensors.h0, d), to.c0 = of_direction(call.checked().tensors.c0, d);
    to.y = columns(tensors.y, call, d);
    to.h_n = of_direction(tensors.h_n, d), to.c_n = of_direction(tensors.c_n, d);
    to.reverse = call.problem().reversed(d);
  }
  return work;
}

BackwardRecurrence backward_work(const CudaCall& call, BackwardTensors& tensors) {
  BackwardRecurrence work{};
  work.rows = call.rows();
  work.dy_stride = call.directions() * call.problem().output();
  for (int d = 0; d < call.directions(); ++d) {
    cuda::BackwardDirection& to = work.direction[d];
    to.gates = static_cast<const float*>(tensors.gates[d].const_data_ptr());
    to.cells = static_cast<const float*>(tensors.cells[d].const_data_ptr());
    to.dgates = tensors.dgates[d].mutable_data_ptr();
    to.w_hh = call.checked().inputs.weights[d].w_hh;
    to.c0 = of_direction(call.checked().tensors.c0, d);
    if (tensors.in.dy) to.dy = columns(*tensors.in.dy, call, d);
    to.dh_n = of_direction(tensors.in.dh_n, d), to.dc_n = of_direction(tensors.in.dc_n, d);
    to.dh0 = of_direction(tensors.dh0, d), to.dc0 = of_direction(tensors.dc0, d);
    to.reverse = call.problem().reversed(d);
  }
  return work;
}

// Null, or why nothing was launched. What one launch cannot hold goes direction by direction.
template <class Work, class ByCluster, class ByGrid>
const char* launch(const CudaCall& call, const Choice& choice, const Work& work, ByCluster by_cluster, ByGrid by_grid) {
  const cuda::Offer& offer = choice.taken();
  if (choice.family == Family::kCluster) return by_cluster(offer.shape, work, call.stream());
  for (int i = 0; i < offer.launches; ++i) {
    Work part = work;
    if (offer.launches > 1) part.rows.directions = 1, part.direction[0] = work.direction[i];
    Tensor workspace = call.zero_bytes(offer.workspace_bytes);
    const char* error = by_grid(offer.shape, part, offer.batch_groups, workspace.mutable_data_ptr(), call.stream());
    if (i > 0) check_launch(error);  // the first direction is done: nobody could take over now
    if (error) return error;
  }
  return nullptr;
}

template <class Work, class... Launchers>
bool served(const CudaCall& call, cuda::Pass pass, const Choice& choice, const Work& work, Launchers... launchers) {
  const char* error = launch(call, choice, work, launchers...);
  if (error) call.give_up(pass, choice, error);
  CudaCall::count(pass, error ? Family::kStepwise : choice.family);
  return !error;
}

bool left_to_stepwise(cuda::Pass pass, const Choice& choice) {
  if (choice.family != Family::kStepwise) return false;
  CudaCall::count(pass, Family::kStepwise);
  return true;
}

}  // namespace

bool forward_persistent(const CudaCall& call, ForwardTensors& tensors) {
  const Choice choice = call.choose(cuda::Pass::kForward);
  if (left_to_stepwise(cuda::Pass::kForward, choice)) return false;
  return served(call, cuda::Pass::kForward, choice, forward_work(call, tensors), cuda::cluster_forward,
                cuda::grid_forward);
}

bool backward_persistent(const CudaCall& call, BackwardTensors& tensors) {
  const Choice choice = call.choose(cuda::Pass::kBackward);
  if (left_to_stepwise(cuda::Pass::kBackward, choice)) return false;
  return served(call, cuda::Pass::kBackward, choice, backward_work(call, tensors), cuda::cluster_backward,
                cuda::grid_backward);
}

}  // namespace fused_lstm
