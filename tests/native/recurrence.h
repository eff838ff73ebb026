#pragma once
// The arguments of kernels over all steps (cuda/recurrence.h) from numbers and addresses, so that tests decide what lies
// around every tensor. What is absent is null.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/recurrence.h"

namespace fused_lstm::native {

using Addresses = std::map<std::string, uintptr_t>;  // by the name of the field

template <class P>
P* pointer(const Addresses& all, const char* name) {
  auto found = all.find(name);
  return found == all.end() ? nullptr : reinterpret_cast<P*>(found->second);
}

using Sizes = std::map<std::string, int64_t>;

inline cuda::RecurrenceRows rows_from(const Addresses& common, const Sizes& sizes, size_t directions) {
  cuda::RecurrenceRows rows{};
  rows.lengths = pointer<const int64_t>(common, "lengths");
  rows.offsets = pointer<const int64_t>(common, "offsets");
  rows.resets = pointer<const uint8_t>(common, "resets");
  rows.step_stride = sizes.at("step_stride"), rows.row_stride = sizes.at("row_stride");
  rows.steps = static_cast<int>(sizes.at("steps")), rows.batch = static_cast<int>(sizes.at("batch"));
  rows.hidden = static_cast<int>(sizes.at("hidden")), rows.directions = static_cast<int>(directions);
  return rows;
}

inline cuda::ForwardRecurrence forward_from(const std::vector<Addresses>& directions, const std::vector<bool>& reverse,
                                            const Addresses& common, const Sizes& sizes) {
  cuda::ForwardRecurrence p{};
  p.rows = rows_from(common, sizes, directions.size());
  p.y_stride = sizes.at("y_stride");
  for (size_t d = 0; d < directions.size(); ++d) {
    const Addresses& a = directions[d];
    cuda::ForwardDirection& to = p.direction[d];
    to.pre = pointer<const float>(a, "pre"), to.gates = pointer<float>(a, "gates");
    to.cells = pointer<float>(a, "cells"), to.w_hh = pointer<const void>(a, "w_hh");
    to.b_ih = pointer<const void>(a, "b_ih"), to.b_hh = pointer<const void>(a, "b_hh");
    to.h0 = pointer<const void>(a, "h0"), to.c0 = pointer<const void>(a, "c0");
    to.y = pointer<void>(a, "y"), to.h_n = pointer<void>(a, "h_n"), to.c_n = pointer<void>(a, "c_n");
    to.reverse = reverse[d];
  }
  return p;
}

inline cuda::BackwardRecurrence backward_from(const std::vector<Addresses>& directions,
                                              const std::vector<bool>& reverse, const Addresses& common,
                                              const Sizes& sizes) {
  cuda::BackwardRecurrence p{};
  p.rows = rows_from(common, sizes, directions.size());
  p.dy_stride = sizes.at("y_stride");
  for (size_t d = 0; d < directions.size(); ++d) {
    const Addresses& a = directions[d];
    cuda::BackwardDirection& to = p.direction[d];
    to.gates = pointer<const float>(a, "gates"), to.cells = pointer<const float>(a, "cells");
    to.dgates = pointer<void>(a, "dgates"), to.w_hh = pointer<const void>(a, "w_hh");
    to.c0 = pointer<const void>(a, "c0"), to.dy = pointer<const void>(a, "dy");
    to.dh_n = pointer<const void>(a, "dh_n"), to.dc_n = pointer<const void>(a, "dc_n");
    to.dh0 = pointer<void>(a, "dh0"), to.dc0 = pointer<void>(a, "dc0");
    to.reverse = reverse[d];
  }
  return p;
}

inline void require_launched(const char* error) {
  if (error) throw std::runtime_error(error);
}

}  // namespace fused_lstm::native
