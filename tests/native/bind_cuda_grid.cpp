// The grid kernels under emulation.

#include <cstring>
#include <memory>

#include "bind.h"
#include "cuda/grid_backward.cuh"
#include "cuda/grid_forward.cuh"
#include "recurrence.h"

namespace fused_lstm::native {
namespace {

namespace py = pybind11;

// A workspace of zeros with marks on both sides.
class Workspace {
 public:
  explicit Workspace(int64_t bytes) : bytes_(bytes), memory_(new Line[bytes / 64 + 2 * kMargin + 1]()) {
    std::memset(memory_.get(), kMark, kMargin * 64);
    std::memset(data() + bytes_, kMark, kMargin * 64);
  }
  unsigned char* data() { return memory_[kMargin].bytes; }
  void check() {
    for (int64_t i = 0; i < kMargin * 64; ++i)
      if (memory_[0].bytes[i] != kMark || data()[bytes_ + i] != kMark) {
        PyErr_SetString(PyExc_AssertionError, "written past an end of the workspace");
        throw py::error_already_set();
      }
  }

 private:
  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  static constexpr int kMargin = 64, kMark = 0xa5;
  int64_t bytes_;
  std::unique_ptr<Line[]> memory_;
};

template <class T, int kHidden, int kWarps, int kTiles>
void run_forward(const cuda::ForwardRecurrence& p, int batch_groups) {
  using Shape = cuda::GridForwardShape<T, kHidden, kWarps, kTiles>;
  Workspace workspace(cuda::grid_workspace<Shape>(p.rows, batch_groups));
  require_launched(cuda::launch_grid_forward<Shape>(p, batch_groups, workspace.data(), nullptr));
  workspace.check();
}

template <class T, int kHidden, int kWarps, int kTiles>
void run_backward(const cuda::BackwardRecurrence& p, int batch_groups) {
  using Shape = cuda::GridBackwardShape<T, kHidden, kWarps, kTiles>;
  Workspace workspace(cuda::grid_workspace<Shape>(p.rows, batch_groups));
  require_launched(cuda::launch_grid_backward<Shape>(p, batch_groups, workspace.data(), nullptr));
  workspace.check();
}

template <class Recurrence>
struct Shape {
  int hidden, warps, tiles;  // of weights that a warp keeps in registers
  void (*run[3])(const Recurrence&, int batch_groups);  // float32, bfloat16, float16
};

#define FUSED_LSTM_SHAPE(run, H, W, R)                                              \
  {                                                                                 \
    H, W, R, { run<float, H, W, R>, run<BFloat16, H, W, R>, run<Float16, H, W, R> } \
  }
// One warp; more; all weights in registers, half of them in shared memory, most of them. And as large as on the device.
constexpr Shape<cuda::ForwardRecurrence> kForward[] = {
    FUSED_LSTM_SHAPE(run_forward, 32, 1, 4), FUSED_LSTM_SHAPE(run_forward, 64, 2, 2),
    FUSED_LSTM_SHAPE(run_forward, 128, 4, 1), FUSED_LSTM_SHAPE(run_forward, 256, 8, 8)};
constexpr Shape<cuda::BackwardRecurrence> kBackward[] = {
    FUSED_LSTM_SHAPE(run_backward, 32, 1, 16), FUSED_LSTM_SHAPE(run_backward, 64, 2, 8),
    FUSED_LSTM_SHAPE(run_backward, 128, 4, 3), FUSED_LSTM_SHAPE(run_backward, 256, 8, 32)};
#undef FUSED_LSTM_SHAPE

template <class Recurrence, size_t n>
void run(const Shape<Recurrence> (&shapes)[n], std::tuple<int, int, int> wanted, int dtype, const Recurrence& p,
         int batch_groups) {
  for (const auto& s : shapes)
    if (wanted == std::make_tuple(s.hidden, s.warps, s.tiles)) return s.run[dtype](p, batch_groups);
  throw std::invalid_argument("no such shape");
}

template <class Recurrence, size_t n>
py::list names(const Shape<Recurrence> (&shapes)[n]) {
  py::list all;
  for (const auto& s : shapes) all.append(py::make_tuple(s.hidden, s.warps, s.tiles));
  return all;
}

}  // namespace

void bind_cuda_grid(py::module_& whole) {
  py::module_ m = whole.def_submodule("grid");
  using Shape = std::tuple<int, int, int>;
  m.attr("forward_shapes") = names(kForward);
  m.attr("backward_shapes") = names(kBackward);
  m.def("forward", [](Shape shape, int dtype, const std::vector<Addresses>& directions,
                      const std::vector<bool>& reverse, const Addresses& common, const Sizes& sizes, int batch_groups) {
    run(kForward, shape, dtype, forward_from(directions, reverse, common, sizes), batch_groups);
  });
  m.def("backward",
        [](Shape shape, int dtype, const std::vector<Addresses>& directions, const std::vector<bool>& reverse,
           const Addresses& common, const Sizes& sizes, int batch_groups) {
          run(kBackward, shape, dtype, backward_from(directions, reverse, common, sizes), batch_groups);
        });
}

}  // namespace fused_lstm::native
