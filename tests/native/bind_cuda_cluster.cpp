// The cluster kernels under emulation.

#include "bind.h"
#include "cuda/cluster_backward.cuh"
#include "cuda/cluster_forward.cuh"
#include "recurrence.h"

namespace fused_lstm::native {
namespace {

namespace py = pybind11;

template <class T, int kHidden, int kBlocks, int kSplit>
void run_forward(const cuda::ForwardRecurrence& p) {
  require_launched(cuda::launch_cluster_forward<cuda::ClusterForwardShape<T, kHidden, kBlocks, kSplit>>(p, nullptr));
}

template <class T, int kHidden, int kBlocks, int kWarps>
void run_backward(const cuda::BackwardRecurrence& p) {
  require_launched(cuda::launch_cluster_backward<cuda::ClusterBackwardShape<T, kHidden, kBlocks, kWarps>>(p, nullptr));
}

template <class Recurrence>
struct Shape {
  int hidden, blocks, last;  // warps that share a sum; warps of a block
  void (*run[3])(const Recurrence&);  // float32, bfloat16, float16
};

#define FUSED_LSTM_SHAPE(run, H, C, K)                                              \
  {                                                                                 \
    H, C, K, { run<float, H, C, K>, run<BFloat16, H, C, K>, run<Float16, H, C, K> } \
  }
// One block; few and many blocks; sums divided among warps; both.
constexpr Shape<cuda::ForwardRecurrence> kForward[] = {
    FUSED_LSTM_SHAPE(run_forward, 32, 1, 1), FUSED_LSTM_SHAPE(run_forward, 32, 2, 1),
    FUSED_LSTM_SHAPE(run_forward, 64, 1, 2), FUSED_LSTM_SHAPE(run_forward, 64, 2, 2),
    FUSED_LSTM_SHAPE(run_forward, 64, 8, 1)};
// One block; more; several strips a warp; more threads than units and rows.
constexpr Shape<cuda::BackwardRecurrence> kBackward[] = {
    FUSED_LSTM_SHAPE(run_backward, 32, 1, 2), FUSED_LSTM_SHAPE(run_backward, 32, 2, 1),
    FUSED_LSTM_SHAPE(run_backward, 64, 2, 4), FUSED_LSTM_SHAPE(run_backward, 64, 8, 4)};
#undef FUSED_LSTM_SHAPE

template <class Recurrence, size_t n>
void run(const Shape<Recurrence> (&shapes)[n], std::tuple<int, int, int> wanted, int dtype, const Recurrence& p) {
  for (const auto& s : shapes)
    if (wanted == std::make_tuple(s.hidden, s.blocks, s.last)) return s.run[dtype](p);
  throw std::invalid_argument("no such shape");
}

template <class Recurrence, size_t n>
py::list names(const Shape<Recurrence> (&shapes)[n]) {
  py::list all;
  for (const auto& s : shapes) all.append(py::make_tuple(s.hidden, s.blocks, s.last));
  return all;
}

}  // namespace

void bind_cuda_cluster(py::module_& whole) {
  py::module_ m = whole.def_submodule("cluster");
  using Shape = std::tuple<int, int, int>;
  m.attr("forward_shapes") = names(kForward);
  m.attr("backward_shapes") = names(kBackward);
  m.def("forward", [](Shape shape, int dtype, const std::vector<Addresses>& directions,
                      const std::vector<bool>& reverse, const Addresses& common, const Sizes& sizes) {
    run(kForward, shape, dtype, forward_from(directions, reverse, common, sizes));
  });
  m.def("backward", [](Shape shape, int dtype, const std::vector<Addresses>& directions,
                       const std::vector<bool>& reverse, const Addresses& common, const Sizes& sizes) {
    run(kBackward, shape, dtype, backward_from(directions, reverse, common, sizes));
  });
}

}  // namespace fused_lstm::native
