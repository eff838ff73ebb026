#pragma once
// Which rows are alive at which step. Rows are visited longest first, so the rows alive at step t are
// always the first count(t) of that order, whether the caller sent a rectangle, lengths or packed data.

#include <cstdint>
#include <vector>

#include "core/problem.h"

namespace fused_lstm {

class Rows {
 public:
  static Rows rectangle(int64_t steps, int64_t batch);
  // lengths[batch], unsorted, each in [0, steps]
  static Rows ragged(int64_t steps, const int64_t* lengths, int64_t batch);
  // batch_sizes[steps] as in torch's PackedSequence: non-increasing
  static Rows packed(const int64_t* batch_sizes, int64_t steps);

  int64_t steps() const { return static_cast<int64_t>(count_.size()); }
  int64_t batch() const { return static_cast<int64_t>(order_.size()); }
  int64_t total() const { return offset_.back(); }
  int64_t capacity() const { return packed_ ? total() : steps() * batch(); }
  bool is_packed() const { return packed_; }
  bool is_rectangle() const { return total() == steps() * batch(); }

  int64_t count(int64_t t) const { return count_[t]; }
  int64_t length(int64_t r) const { return length_[r]; }
  // position in the caller's batch of the r-th longest row
  int64_t user_row(int64_t r) const { return order_[r]; }
  // compact index: step after step, the alive rows of each
  int64_t compact(int64_t t, int64_t r) const { return offset_[t] + r; }

  // Element offset of (t, r) inside a caller's tensor.
  int64_t at(const Sheet& s, int64_t t, int64_t r) const {
    return packed_ ? (offset_[t] + r) * s.row_stride : t * s.step_stride + order_[r] * s.row_stride;
  }

 private:
  std::vector<int64_t> count_;   // [T]
  std::vector<int64_t> offset_;  // [T + 1]
  std::vector<int64_t> order_;   // [B]
  std::vector<int64_t> length_;  // [B], descending
  bool packed_ = false;

  void fill_from_lengths(int64_t steps);
};

}  // namespace fused_lstm
