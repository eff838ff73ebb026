#include "cpu/outer.h"

#include <cstring>

namespace fused_lstm::cpu {

template <class T>
int OuterSum<T>::vectors(int right, int64_t panel) const {
  const int64_t valid = std::min(width(), rights_[right].columns - panel * width());
  return static_cast<int>((valid + kernels_.lanes - 1) / kernels_.lanes);
}

template <class T>
void OuterSum<T>::allocate() {
  if (count_ == 0 || n_ == 0) return;
  packed_right_ = Buffer<T>(2 * all_panels() * width() * std::min(kDepth, n_));
  packed_left_ = Buffer<T>(members_ * kRows * kDepth);
}

template <class T>
void OuterSum<T>::pack_block(int64_t row, int64_t depth, T* to, const Member& member) const {
  const Range mine = part(all_panels(), member.index, member.size);
  for (int64_t p = mine.begin; p < mine.end; ++p) {
    const int right = p < panels(0) ? 0 : 1;
    const int64_t panel = right ? p - panels(0) : p;
    const int64_t column = panel * width();
    kernels_.pack_rows(rights_[right].rows + row, depth, column, rights_[right].columns - column,
                       vectors(right, panel) * int64_t{kernels_.lanes}, to + p * width() * depth);
  }
}

template <class T>
void OuterSum<T>::multiply_block(int64_t begin, int64_t depth, const T* right, bool accumulate, Range mine,
                                 T* left) const {
  for (int64_t m = mine.begin; m < mine.end; m += kRows) {
    const int64_t rows = std::min(kRows, mine.end - m);
    kernels_.pack_columns(left_ + begin * ld_, ld_, depth, m, rows, left);
    for (int64_t p = 0; p < all_panels(); ++p) {
      const int which = p < panels(0) ? 0 : 1;
      const int64_t panel = which ? p - panels(0) : p;
      const int64_t column = panel * width();
      const OuterRight<T>& r = rights_[which];
      kernels_.gemm_packed({rows, depth, left, right + p * width() * depth, vectors(which, panel), accumulate, r.c + m,
                            column, std::min(width(), r.columns - column)});
    }
  }
}

template <class T>
void OuterSum<T>::clear(Range mine) const {
  for (int right = 0; right < count_; ++right)
    for (int64_t m = mine.begin; m < mine.end; ++m)
      if (rights_[right].c[m]) std::memset(rights_[right].c[m], 0, rights_[right].columns * sizeof(T));
}

template <class T>
void OuterSum<T>::run(const Member& member, int64_t n, int64_t first, bool accumulate) const {
  if (count_ == 0) return;
  const int64_t lanes = kernels_.lanes;
  Range mine = part((m_ + lanes - 1) / lanes, member.index, member.size);
  mine = {mine.begin * lanes, std::min(mine.end * lanes, m_)};
  if (n == 0) {
    if (!accumulate) clear(mine);
    return;
  }
  T* left = packed_left_.get() + member.index * kRows * kDepth;
  const int64_t block_size = all_panels() * width() * std::min(kDepth, n_);
  for (int64_t begin = 0, block = 0; begin < n; begin += kDepth, ++block) {
    const int64_t depth = std::min(kDepth, n - begin);
    // two buffers: whoever packs the next block cannot overtake a member that still reads this one
    T* right = packed_right_.get() + (block % 2) * block_size;
    pack_block(first + begin, depth, right, member);
    member.sync();
    multiply_block(begin, depth, right, accumulate || begin > 0, mine, left);
  }
  member.sync();
}

template class OuterSum<float>;
template class OuterSum<double>;

}  // namespace fused_lstm::cpu
