#pragma once
// torch's stable headers, with the text of errors kept. A binary that targets torch 2.11 would report an error raised
// inside torch as "API call failed at file, line"; torch 2.13 can be asked for the text, so ask it where it is there.
// Include this before any other torch header.

#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

extern "C" __attribute__((weak)) const char* torch_exception_get_what_without_backtrace();

namespace fused_lstm {

[[noreturn]] inline void rethrow_torch_error(const char* call) {
  if (torch_exception_get_what_without_backtrace)
    throw std::runtime_error(torch_exception_get_what_without_backtrace());
  throw std::runtime_error(std::string("fused_lstm: torch refused ") + call + "; its message is printed above");
}

}  // namespace fused_lstm

#undef TORCH_ERROR_CODE_CHECK
#define TORCH_ERROR_CODE_CHECK(call)          \
  if ((call) != TORCH_SUCCESS) {              \
    ::fused_lstm::rethrow_torch_error(#call); \
  }

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace fused_lstm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class... Words>
[[noreturn]] void refuse(const Words&... words) {
  std::ostringstream os;
  (os << ... << words);
  throw std::runtime_error(os.str());
}

}  // namespace fused_lstm

// As STD_TORCH_CHECK, whose messages begin with a place in this source, which tells a user nothing.
#define FUSED_LSTM_CHECK(condition, ...) \
  if (!(condition)) ::fused_lstm::refuse(__VA_ARGS__)
