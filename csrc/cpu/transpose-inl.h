// L vectors of L lanes, transposed in place by log2(L) rounds of interleaving.

INLINE void interleave(Vec<float> a, Vec<float> b, Vec<float>& low, Vec<float>& high) {
#if FUSED_LSTM_VECTOR_BYTES == 64
  low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif FUSED_LSTM_VECTOR_BYTES == 32
  low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}
INLINE void interleave(Vec<double> a, Vec<double> b, Vec<double>& low, Vec<double>& high) {
#if FUSED_LSTM_VECTOR_BYTES == 64
  low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif FUSED_LSTM_VECTOR_BYTES == 32
  low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#else
  low = __builtin_shufflevector(a, b, 0, 2);
  high = __builtin_shufflevector(a, b, 1, 3);
#endif
}

template <class T>
INLINE void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int L = kLanes<T>;
  UNROLL for (int round = 1; round < L; round *= 2) {
    Vec<T> next[L];
    UNROLL for (int i = 0; i < L / 2; ++i)
      interleave(rows[i], rows[i + L / 2], next[2 * i], next[2 * i + 1]);
    UNROLL for (int i = 0; i < L; ++i)
      rows[i] = next[i];
  }
}
