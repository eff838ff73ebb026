#include "cpu/bf16_outer.h"

#include <cstring>

namespace fused_lstm::cpu {

Bf16OuterSum::Panel Bf16OuterSum::panel(int64_t p) const {
  const int right = p < panels(0) ? 0 : 1;
  const int64_t column = (right ? p - panels(0) : p) * kWidth;
  const int64_t valid = std::min(kWidth, rights_[right].columns - column);
  const int64_t first = right ? (rights_[0].columns + kBf16Lanes - 1) / kBf16Lanes * kBf16Lanes : 0;
  return {right, column, valid, (valid + kBf16Lanes - 1) / kBf16Lanes * kBf16Lanes, first + column};
}

int64_t Bf16OuterSum::padded_columns() const {
  const Panel last = panel(all_panels() - 1);
  return last.at + last.width;
}

void Bf16OuterSum::allocate() {
  if (count_ == 0 || n_ == 0) return;
  packed_right_ = Buffer<BFloat16>(2 * padded_columns() * 2 * padded_pairs(std::min(kDepth, n_)));
  packed_left_ = Buffer<BFloat16>(members_ * left_size());
  sums_ = Buffer<float>(m_ * padded_columns());
}

void Bf16OuterSum::pack_block(int64_t row, int64_t depth, BFloat16* to, const Member& member) const {
  const Range mine = part(all_panels(), member.index, member.size);
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    const Panel p = panel(i);
    kernels_.pack_row_pairs(rights_[p.right].rows + row, depth, p.column, p.valid, p.width,
                            to + p.at * 2 * padded_pairs(depth));
  }
}

void Bf16OuterSum::multiply_block(int64_t begin, int64_t depth, const BFloat16* right, Range mine,
                                  BFloat16* left) const {
  const int64_t ld = padded_columns();
  for (int64_t m = mine.begin; m < mine.end; m += kRows) {
    const int64_t rows = std::min(kRows, mine.end - m);
    kernels_.pack_columns(left_ + begin * ld_, ld_, depth, m, rows, left);
    for (int64_t i = 0; i < all_panels(); ++i) {
      const Panel p = panel(i);
      kernels_.gemm_packed({rows, pairs_of(depth), left, right + p.at * 2 * padded_pairs(depth),
                            static_cast<int>(p.width / kBf16Lanes), begin > 0, sums_.get() + m * ld + p.at, ld});
    }
  }
}

void Bf16OuterSum::narrow(Range mine) const {
  for (int64_t m = mine.begin; m < mine.end; ++m)
    for (int right = 0; right < count_; ++right) {
      BFloat16* to = rights_[right].c[m];
      if (!to) continue;
      const int64_t at = panel(right ? panels(0) : 0).at;
      if (n_ > 0)
        kernels_.narrow(sums_.get() + m * padded_columns() + at, to, rights_[right].columns);
      else
        std::memset(to, 0, rights_[right].columns * sizeof(BFloat16));
    }
}

void Bf16OuterSum::run(const Member& member) const {
  if (count_ == 0) return;
  Range mine = part((m_ + kBf16Lanes - 1) / kBf16Lanes, member.index, member.size);
  mine = {mine.begin * kBf16Lanes, std::min(mine.end * kBf16Lanes, m_)};
  BFloat16* left = packed_left_.get() + member.index * (n_ > 0 ? left_size() : 0);
  for (int64_t begin = 0, block = 0; begin < n_; begin += kDepth, ++block) {
    const int64_t depth = std::min(kDepth, n_ - begin);
    // two buffers: whoever packs the next block cannot overtake a member that still reads this one
    BFloat16* right = packed_right_.get() + (block % 2) * padded_columns() * 2 * padded_pairs(std::min(kDepth, n_));
    pack_block(begin, depth, right, member);
    member.sync();
    multiply_block(begin, depth, right, mine, left);
  }
  narrow(mine);
  member.sync();
}

}  // namespace fused_lstm::cpu
