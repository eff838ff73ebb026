// The cluster kernels under emulation. Tensors come as addresses, so that tests decide what lies around them.

#include "arrays.h"
#include "bind.h"
#include "cuda/cluster_forward.cuh"

namespace fused_lstm::native {
namespace {

using Addresses = std::map<std::string, uintptr_t>;  // by the name of the field; what is absent is null

template <class P>
P* pointer(const Addresses& all, const char* name) {
  auto found = all.find(name);
  return found == all.end() ? nullptr : reinterpret_cast<P*>(found->second);
}

template <class T, int kHidden, int kBlocks, int kSplit>
using Forward = cuda::ClusterForwardShape<T, kHidden, kBlocks, kSplit>;

using Runner = void (*)(const cuda::ClusterForwardArguments&, void*);

struct Shape {
  int hidden, blocks, split;
  Runner forward[3];  // float32, bfloat16, float16
};

#define FUSED_LSTM_SHAPE(H, C, K)                                                                                      \
  {                                                                                                                    \
    H, C, K, {                                                                                                         \
      cuda::launch_cluster_forward<Forward<float, H, C, K>>, cuda::launch_cluster_forward<Forward<BFloat16, H, C, K>>, \
          cuda::launch_cluster_forward<Forward<Float16, H, C, K>>                                                      \
    }                                                                                                                  \
  }
// One block; few and many blocks; sums divided among warps; both.
constexpr Shape kShapes[] = {FUSED_LSTM_SHAPE(32, 1, 1), FUSED_LSTM_SHAPE(32, 2, 1), FUSED_LSTM_SHAPE(64, 1, 2),
                             FUSED_LSTM_SHAPE(64, 2, 2), FUSED_LSTM_SHAPE(64, 8, 1)};
#undef FUSED_LSTM_SHAPE

void forward(std::tuple<int, int, int> shape, int dtype, const std::vector<Addresses>& directions,
             const std::vector<bool>& reverse, const Addresses& common, std::tuple<int, int, int> sizes, int64_t pitch,
             std::pair<int64_t, int64_t> y_strides) {
  cuda::ClusterForwardArguments p{};
  for (size_t d = 0; d < directions.size(); ++d) {
    const Addresses& a = directions[d];
    p.direction[d] = {pointer<const float>(a, "pre"), pointer<float>(a, "gates"),
                      pointer<float>(a, "cells"),     pointer<const void>(a, "w_hh"),
                      pointer<const void>(a, "h0"),   pointer<const void>(a, "c0"),
                      pointer<void>(a, "y"),          pointer<void>(a, "h_n"),
                      pointer<void>(a, "c_n"),        reverse[d]};
  }
  std::tie(p.steps, p.batch, p.hidden) = sizes;
  p.directions = static_cast<int>(directions.size());
  p.lengths = pointer<const int64_t>(common, "lengths");
  p.resets = pointer<const uint8_t>(common, "resets");
  p.reset_step = p.batch, p.reset_row = 1;
  p.pitch = pitch;
  std::tie(p.y_step, p.y_row) = y_strides;
  for (const Shape& s : kShapes)
    if (shape == std::make_tuple(s.hidden, s.blocks, s.split)) return s.forward[dtype](p, nullptr);
  throw std::invalid_argument("no such shape");
}

}  // namespace

void bind_cuda_cluster(py::module_& whole) {
  py::module_ m = whole.def_submodule("cluster");
  py::list shapes;
  for (const Shape& s : kShapes) shapes.append(py::make_tuple(s.hidden, s.blocks, s.split));
  m.attr("shapes") = shapes;
  m.def("forward", &forward, py::arg("shape"), py::arg("dtype"), py::arg("directions"), py::arg("reverse"),
        py::arg("common"), py::arg("sizes"), py::arg("pitch"), py::arg("y_strides"));
}

}  // namespace fused_lstm::native
