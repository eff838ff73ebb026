#pragma once
// What forward keeps for backward: activated gates, then cell states, of every valid (step, row)
// pair in compact order (see core/rows.h), in the type that the kernels compute in.
//
//   gates [D][total][Hp/L][4][L]     L: lanes of the ISA that ran, i f g o side by side; what is left of the
//                                    units closes up, see GateLayout in cpu/panels.h
//   cells [D][total][Hp]
//
// With `recompute` there are no gates: y holds every h, so backward can make them again.
// The reserve is sized for `capacity` pairs (T*B, or the packed rows) so that its shape never depends on
// the values of `lengths`; rows past `total` are not touched.

#include <cstdint>

#include "core/problem.h"

namespace fused_lstm {

struct ReserveLayout {
  int64_t gates_per_direction;
  int64_t cells_begin;
  int64_t cells_per_direction;

  ReserveLayout(const Problem& p, int64_t capacity)
      : gates_per_direction(p.recompute ? 0 : capacity * p.gate_width()),
        cells_begin(p.directions() * gates_per_direction),
        cells_per_direction(capacity * p.padded_hidden()) {}

  int64_t gates(int d) const { return d * gates_per_direction; }
  int64_t cells(int d) const { return cells_begin + d * cells_per_direction; }
};

}  // namespace fused_lstm
