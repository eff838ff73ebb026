// The plan for CUDA in words, for fused_lstm.explain. Needs no GPU.

#include <string>
#include <tuple>
#include <vector>

#include "binding/compat.h"
#include "cell/variants.h"
#include "cuda/plan.h"

namespace fused_lstm {
namespace {

// sizes: T, B, I, H, proj_size, direction, dtype, cell, scaled, tf32, whether c is bounded; device: major, minor, multiprocessors, shared
// memory of a block in bytes. Family of forward, family of backward, text of each.
std::tuple<std::string, std::string, std::string, std::string> cuda_plan(std::vector<int64_t> sizes,
                                                                         std::vector<int64_t> device,
                                                                         std::string wanted) {
  FUSED_LSTM_CHECK(sizes.size() == 11 && device.size() == 4, "fused_lstm: cuda_plan takes 11 sizes and 4 numbers of a ",
                   "device, but got ", sizes.size(), " and ", device.size());
  cuda::Question q;
  Problem& p = q.problem;
  p.steps = sizes[0], p.batch = sizes[1], p.input = sizes[2], p.hidden = sizes[3], p.projection = sizes[4];
  p.direction = static_cast<Direction>(sizes[5]), p.dtype = static_cast<DType>(sizes[6]);
  FUSED_LSTM_CHECK(sizes[7] >= 0 && sizes[7] < kShapeCount, "fused_lstm: there is no cell number ", sizes[7]);
  p.cell = static_cast<int>(sizes[7]), p.cell_clip = static_cast<double>(sizes[10]);
  q.scaled = sizes[8] != 0, q.tf32 = sizes[9] != 0;
  q.device = {static_cast<int>(device[0]), static_cast<int>(device[1]), static_cast<int>(device[2]), device[3]};
  q.wanted = wanted.empty() ? cuda::wanted_family() : wanted;
  const auto family = [&](cuda::Pass pass) { return std::string(cuda::name_of(cuda::plan(q, pass).family)); };
  return {family(cuda::Pass::kForward), family(cuda::Pass::kBackward), cuda::describe(q, cuda::Pass::kForward),
          cuda::describe(q, cuda::Pass::kBackward)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fused_lstm, CompositeExplicitAutograd, m) { m.impl("cuda_plan", TORCH_BOX(&cuda_plan)); }

}  // namespace fused_lstm
