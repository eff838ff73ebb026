#pragma once
// The parts in which backward goes through the steps: all of them at once, or, where it makes the gates again, so few
// at a time that their gates are small.

#include <algorithm>
#include <vector>

#include "core/problem.h"
#include "core/rows.h"
#include "cpu/team.h"

namespace fused_lstm::cpu {

struct Block {
  Range steps;  // in time
  Range rows;   // the same in compact order

  bool has(int64_t t) const { return steps.begin <= t && t < steps.end; }
};

class Blocks {
 public:
  // Whole steps, of no more than `most` rows together where there is a choice.
  Blocks(const Problem& p, const Rows& rows, int64_t most) : p_(p), rows_(rows) {
    int64_t n = 0;
    for (int64_t k = 0; k < p.steps; ++k) {
      // in reverse the k-th step is another, with fewer rows perhaps
      const int64_t here = std::max(rows.count(k), p.reversed(p.directions() - 1) ? rows.count(p.steps - 1 - k) : 0);
      if (n > 0 && n + here > most) begin_.push_back(k), n = 0;
      n += here;
    }
    begin_.push_back(p.steps);
    for (int i = 0; i < count(); ++i)
      for (int d = 0; d < p.directions(); ++d) capacity_ = std::max(capacity_, at(d, i).rows.size());
  }

  int count() const { return static_cast<int>(begin_.size()) - 1; }
  int64_t capacity() const { return capacity_; }  // rows of the largest
  // The steps that the loop over time takes as numbers begin(i) to begin(i + 1).
  int64_t begin(int i) const { return begin_[i]; }
  Block at(int d, int i) const {
    Range steps{begin_[i], begin_[i + 1]};
    if (p_.reversed(d)) steps = {p_.steps - begin_[i + 1], p_.steps - begin_[i]};
    return {steps, {rows_.compact(steps.begin, 0), rows_.compact(steps.end, 0)}};
  }

 private:
  const Problem& p_;
  const Rows& rows_;
  std::vector<int64_t> begin_{0};
  int64_t capacity_ = 0;
};

}  // namespace fused_lstm::cpu
