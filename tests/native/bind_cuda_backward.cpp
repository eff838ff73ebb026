// The cluster backward kernel under emulation. Tensors come as addresses, so that tests decide what lies around them.

#include "arrays.h"
#include "bind.h"
#include "cuda/cluster_backward.cuh"

namespace fused_lstm::native {
namespace {

using Addresses = std::map<std::string, uintptr_t>;  // by the name of the field; what is absent is null

template <class P>
P* pointer(const Addresses& all, const char* name) {
  auto found = all.find(name);
  return found == all.end() ? nullptr : reinterpret_cast<P*>(found->second);
}

template <class T, int kHidden, int kBlocks, int kWarps>
void run(const cuda::ClusterBackwardArguments& p) {
  cuda::launch_cluster_backward<cuda::ClusterBackwardShape<T, kHidden, kBlocks, kWarps>>(p, nullptr);
}

struct Shape {
  int hidden, blocks, warps;
  void (*backward[3])(const cuda::ClusterBackwardArguments&);  // float32, bfloat16, float16
};

#define FUSED_LSTM_SHAPE(H, C, W)                                                   \
  {                                                                                 \
    H, C, W, { run<float, H, C, W>, run<BFloat16, H, C, W>, run<Float16, H, C, W> } \
  }
// One block; more; several strips a warp; more threads than units and rows.
constexpr Shape kShapes[] = {FUSED_LSTM_SHAPE(32, 1, 2), FUSED_LSTM_SHAPE(32, 2, 1), FUSED_LSTM_SHAPE(64, 2, 4),
                             FUSED_LSTM_SHAPE(64, 8, 4)};
#undef FUSED_LSTM_SHAPE

void backward(std::tuple<int, int, int> shape, int dtype, const std::vector<Addresses>& directions,
              const std::vector<bool>& reverse, const Addresses& common, std::tuple<int, int, int> sizes, int64_t pitch,
              std::pair<int64_t, int64_t> dy_strides) {
  cuda::ClusterBackwardArguments p{};
  for (size_t d = 0; d < directions.size(); ++d) {
    const Addresses& a = directions[d];
    cuda::ClusterBackwardDirection& to = p.direction[d];
    to.gates = pointer<const float>(a, "gates"), to.cells = pointer<const float>(a, "cells");
    to.dgates = pointer<float>(a, "dgates"), to.w_hh = pointer<const void>(a, "w_hh");
    to.c0 = pointer<const void>(a, "c0"), to.dy = pointer<const void>(a, "dy");
    to.dh_n = pointer<const void>(a, "dh_n"), to.dc_n = pointer<const void>(a, "dc_n");
    to.dh0 = pointer<void>(a, "dh0"), to.dc0 = pointer<void>(a, "dc0");
    to.reverse = reverse[d];
  }
  std::tie(p.steps, p.batch, p.hidden) = sizes;
  p.directions = static_cast<int>(directions.size());
  p.lengths = pointer<const int64_t>(common, "lengths");
  p.resets = pointer<const uint8_t>(common, "resets");
  p.reset_step = p.batch, p.reset_row = 1;
  p.pitch = pitch;
  std::tie(p.dy_step, p.dy_row) = dy_strides;
  for (const Shape& s : kShapes)
    if (shape == std::make_tuple(s.hidden, s.blocks, s.warps)) return s.backward[dtype](p);
  throw std::invalid_argument("no such shape");
}

}  // namespace

void bind_cuda_backward(py::module_& whole) {
  py::module_ m = whole.def_submodule("cluster_backward");
  py::list shapes;
  for (const Shape& s : kShapes) shapes.append(py::make_tuple(s.hidden, s.blocks, s.warps));
  m.attr("shapes") = shapes;
  m.def("backward", &backward, py::arg("shape"), py::arg("dtype"), py::arg("directions"), py::arg("reverse"),
        py::arg("common"), py::arg("sizes"), py::arg("pitch"), py::arg("dy_strides"));
}

}  // namespace fused_lstm::native
