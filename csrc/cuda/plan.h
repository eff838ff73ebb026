#pragma once
// Which family of kernels serves a call, and why not another: arithmetic on the problem and the device's numbers. Needs
// no GPU and no CUDA.

#include <cstdint>
#include <string>

#include "core/problem.h"

namespace fused_lstm::cuda {

enum class Family { kStepwise, kCluster, kGrid };
constexpr int kFamilies = 3;
enum class Pass { kForward, kBackward };

const char* name_of(Family family);

struct Device {
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  int64_t shared_bytes = 0;  // that a block may ask for
};

struct Question {
  Problem problem;
  bool scaled = false;  // a recurrent scale is given
  bool tf32 = false;    // float32 may be multiplied as TF32
  Device device;
  std::string wanted;  // a family by name; "" or "auto": what measurements recommend
};

// How a family would do it.
struct Offer {
  std::string refused;  // why it cannot; empty if it can
  int shape = -1;       // index in the family's list of shapes
  int groups = 0;       // clusters, or groups of blocks, that work independently of each other
  int blocks = 0;       // of one of them
  int threads = 0;      // of a block
  int batch_groups = 0;  // grid: parts that the batch is dealt to
  int64_t workspace_bytes = 0;  // grid: of device memory, for each launch
  int launches = 0;     // persistent families: directions one after the other need two
  int64_t shared_bytes = 0;   // of a block
  int64_t weight_bytes = 0;   // held on chip, all blocks together
};

struct Choice {
  Family family = Family::kStepwise;
  Offer offers[kFamilies];
  std::string reason;     // why this family, in words
  bool disappointed = false;  // somebody wanted a family that cannot

  const Offer& taken() const { return offers[static_cast<int>(family)]; }
};

// Throws std::invalid_argument where `wanted` names no family.
Choice plan(const Question& question, Pass pass);

// Text of several lines for people.
std::string describe(const Question& question, Pass pass);

// What FUSED_LSTM_CUDA_FAMILY says now.
std::string wanted_family();

}  // namespace fused_lstm::cuda
