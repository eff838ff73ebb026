#include "core/rows.h"

#include <algorithm>
#include <numeric>

namespace fused_lstm {

void Rows::fill_from_lengths(int64_t steps) {
  count_.assign(steps, 0);
  offset_.assign(steps + 1, 0);
  int64_t alive = static_cast<int64_t>(length_.size());
  for (int64_t t = 0; t < steps; ++t) {
    while (alive > 0 && length_[alive - 1] <= t) --alive;
    count_[t] = alive;
    offset_[t + 1] = offset_[t] + alive;
  }
}

Rows Rows::rectangle(int64_t steps, int64_t batch) {
  Rows rows;
  rows.order_.resize(batch);
  std::iota(rows.order_.begin(), rows.order_.end(), int64_t{0});
  rows.length_.assign(batch, steps);
  rows.fill_from_lengths(steps);
  return rows;
}

Rows Rows::ragged(int64_t steps, const int64_t* lengths, int64_t batch) {
  Rows rows;
  rows.order_.resize(batch);
  std::iota(rows.order_.begin(), rows.order_.end(), int64_t{0});
  std::stable_sort(rows.order_.begin(), rows.order_.end(),
                   [&](int64_t a, int64_t b) { return lengths[a] > lengths[b]; });
  rows.length_.resize(batch);
  for (int64_t r = 0; r < batch; ++r) rows.length_[r] = lengths[rows.order_[r]];
  rows.fill_from_lengths(steps);
  return rows;
}

Rows Rows::packed(const int64_t* batch_sizes, int64_t steps) {
  Rows rows;
  const int64_t batch = steps > 0 ? batch_sizes[0] : 0;
  rows.packed_ = true;
  rows.order_.resize(batch);
  std::iota(rows.order_.begin(), rows.order_.end(), int64_t{0});
  rows.length_.assign(batch, 0);
  for (int64_t t = 0, previous = batch; t <= steps; ++t) {
    const int64_t now = t < steps ? batch_sizes[t] : 0;
    for (int64_t r = now; r < previous; ++r) rows.length_[r] = t;
    previous = now;
  }
  rows.fill_from_lengths(steps);
  return rows;
}

}  // namespace fused_lstm
