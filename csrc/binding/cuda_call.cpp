#include "binding/cuda_call.h"

#include <atomic>
#include <mutex>
#include <set>
#include <string>

#include "cuda/families.h"
#include "cuda/gather.h"

#ifndef FUSED_LSTM_EMULATE_CUDA
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#endif
extern "C" void aoti_torch_warn(const char* function, const char* file, uint32_t line, const char* message);

namespace fused_lstm {
namespace {

constexpr int kDevices = 64, kShapes = 64;
std::atomic<bool> g_given_up[kDevices][2][cuda::kFamilies][kShapes];
std::atomic<int64_t> g_served[2][cuda::kFamilies];

// Each sentence once in a process.
void warn(const std::string& sentence) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard<std::mutex> lock(mutex);
  if (said.insert(sentence).second) aoti_torch_warn("fused_lstm", "fused_lstm", 0, sentence.c_str());
}

std::atomic<bool>& given_up(int device, cuda::Pass pass, const cuda::Choice& choice) {
  return g_given_up[device % kDevices][static_cast<int>(pass)][static_cast<int>(choice.family)]
                   [choice.taken().shape % kShapes];
}

cuda::Device facts_once(int index) {
  static std::mutex mutex;
  static cuda::Device known[kDevices];
  const std::lock_guard<std::mutex> lock(mutex);
  cuda::Device& device = known[index % kDevices];
  if (device.multiprocessors == 0) device = cuda::facts_of(index);
  return device;
}

}  // namespace

void check_launch(const char* error) {
  FUSED_LSTM_CHECK(!error, "fused_lstm: a CUDA launch failed: ", error ? error : "");
}

#ifndef FUSED_LSTM_EMULATE_CUDA
cuda::Stream OnDevice::stream() const {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index_, &stream));
  return stream;
}
#endif

CudaCall::CudaCall(LayerCall checked)
    : call_(std::move(checked)),
      device_(call_.tensors.x),
      storage_(call_.tensors.x.scalar_type()),
      compute_(reserve_dtype(call_)),
      x_(torch::stable::view(torch::stable::contiguous(call_.tensors.x), {call_.rows->capacity(), problem().input})) {
  if (call_.tensors.resets) resets_ = torch::stable::contiguous(*call_.tensors.resets);
}

// --- who serves
// -------------------------------------------------------------------------------------------------------

cuda::Question CudaCall::question() const {
  cuda::Question q;
  q.problem = problem();
  q.scaled = call_.tensors.recurrent_scale.has_value();
  q.tf32 = call_.tensors.allow_tf32;
  q.device = facts_once(device_.index());
  q.wanted = cuda::wanted_family();
  return q;
}

cuda::Choice CudaCall::choose(cuda::Pass pass) const {
  const cuda::Question q = question();
  cuda::Choice choice = cuda::plan(q, pass);
  if (choice.disappointed) warn("fused_lstm: " + choice.reason + "; stepwise serves instead");
  if (choice.family != cuda::Family::kStepwise && given_up(device_.index(), pass, choice))
    choice.family = cuda::Family::kStepwise;
  return choice;
}

void CudaCall::give_up(cuda::Pass pass, const cuda::Choice& choice, const char* why) const {
  given_up(device_.index(), pass, choice) = true;
  const char* direction = pass == cuda::Pass::kForward ? "forward" : "backward";
  warn(std::string("fused_lstm: the ") + direction + " kernel of family " + cuda::name_of(choice.family) + " for " +
       std::to_string(problem().hidden) + " hidden units cannot be launched here (" + why +
       "); stepwise serves instead");
}

void CudaCall::count(cuda::Pass pass, cuda::Family family) {
  ++g_served[static_cast<int>(pass)][static_cast<int>(family)];
}

std::vector<int64_t> served_calls() {
  std::vector<int64_t> all;
  for (const auto& pass : g_served)
    for (const auto& family : pass) all.push_back(family);
  return all;
}

// --- tensors
// ----------------------------------------------------------------------------------------------------------

Tensor CudaCall::stored(const std::vector<int64_t>& shape) const {
  return torch::stable::new_empty(x_, shape, storage_);
}
Tensor CudaCall::computed(const std::vector<int64_t>& shape) const {
  return torch::stable::new_empty(x_, shape, compute_);
}
Tensor CudaCall::zeroed(const std::vector<int64_t>& shape) const {
  return torch::stable::new_zeros(x_, shape, compute_);
}
Tensor CudaCall::zero_bytes(int64_t n) const { return torch::stable::new_zeros(x_, {n}, ScalarType::Byte); }

namespace {

Tensor part(const Tensor& reserve, int64_t begin, int64_t rows, int64_t columns) {
  Tensor flat = torch::stable::view(reserve, {reserve.numel()});
  return torch::stable::view(torch::stable::narrow(flat, 0, begin, rows * columns), {rows, columns});
}

}  // namespace

Tensor CudaCall::gates_in(const Tensor& reserve, int d) const {
  const int64_t columns = 4 * problem().hidden;
  return part(reserve, d * all_rows() * columns, all_rows(), columns);
}
Tensor CudaCall::cells_in(const Tensor& reserve, int d) const {
  const int64_t H = problem().hidden;
  const int64_t gates = problem().recompute ? 0 : 4 * directions();
  return part(reserve, (gates + d) * all_rows() * H, all_rows(), H);
}

// --- rows and steps
// ---------------------------------------------------------------------------------------------------

const unsigned char* CudaCall::resets() const { return static_cast<const unsigned char*>(data(resets_)); }

void CudaCall::upload_packed() const {
  const Problem& p = problem();
  std::vector<int64_t> numbers;
  for (int64_t b = 0; b < p.batch; ++b) numbers.push_back(call_.rows->length(b));
  for (int64_t t = 0; t < p.steps; ++t) numbers.push_back(call_.rows->compact(t, 0));
  const auto n = static_cast<int64_t>(numbers.size());
  packed_ = torch::stable::new_empty(x_, {n}, ScalarType::Long);
  auto* to = static_cast<int64_t*>(packed_->mutable_data_ptr());
  check_launch(cuda::upload(numbers.data(), n, to, stream()));
  rows_.lengths = to, rows_.offsets = to + p.batch;
}

const cuda::RecurrenceRows& CudaCall::rows() const {
  if (has_rows_) return rows_;
  const Problem& p = problem();
  rows_.steps = static_cast<int>(p.steps), rows_.batch = static_cast<int>(p.batch);
  rows_.hidden = static_cast<int>(p.hidden), rows_.directions = p.directions();
  rows_.step_stride = call_.batch_first ? 1 : p.batch, rows_.row_stride = row_stride();
  rows_.lengths = call_.lengths, rows_.resets = resets();
  if (call_.packed) upload_packed();
  has_rows_ = true;
  return rows_;
}

cuda::StatesLayout CudaCall::states(int d) const {
  const Problem& p = problem();
  return {rows(),
          p.dtype,
          p.output(),
          p.directions() * p.output(),
          p.reversed(d),
          of_direction(call_.tensors.h0, d),
          of_direction(call_.tensors.recurrent_scale, d)};
}

Tensor CudaCall::entering_states(int d, const Tensor& y) const {
  const int64_t P = problem().output();
  Tensor h = stored({all_rows(), P});
  const char* from = static_cast<const char*>(y.const_data_ptr()) + d * P * y.element_size();
  check_launch(cuda::gather_states(states(d), from, h.mutable_data_ptr(), stream()));
  return h;
}

}  // namespace fused_lstm
