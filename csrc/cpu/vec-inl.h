// A SIMD vector of T through the compiler's own vector types, and the maths of activations on it.
// Included once by each isa_*.cpp, inside its anonymous namespace. FUSED_LSTM_VECTOR_BYTES is its width.

template <class T>
struct Simd;
template <>
struct Simd<float> {
  typedef float V __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES), aligned(4), may_alias));
  typedef int32_t Int __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES)));
};
template <>
struct Simd<double> {
  typedef double V __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES)));
  typedef double Unaligned __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES), aligned(8), may_alias));
  typedef int64_t Int __attribute__((vector_size(FUSED_LSTM_VECTOR_BYTES)));
};
template <class T>
using Vec = typename Simd<T>::V;
template <class T>
constexpr int kLanes = FUSED_LSTM_VECTOR_BYTES / static_cast<int>(sizeof(T));

template <class T>
INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(p);
}
template <class T>
INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(p) = v;
}
template <class T>
INLINE Vec<T> broadcast(T x) {
  return x - Vec<T>{};
}
// The first n lanes; the rest of a loaded vector is zero.
#if defined(__AVX512F__)
INLINE uint32_t first_lanes(int64_t n) { return n > 0 ? (1u << n) - 1 : 0; }
#endif
template <class T>
INLINE Vec<T> load_some(const T* p, int64_t n) {
  if (n >= kLanes<T>) return load<T>(p);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(first_lanes(n)), p);
  else
    return (Vec<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(n)), p);
#endif
  T lanes[kLanes<T>] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return load<T>(lanes);
}
template <class T>
INLINE void store_some(T* p, Vec<T> v, int64_t n) {
  if (n >= kLanes<T>) return store<T>(p, v);
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_mask_storeu_ps(p, static_cast<__mmask16>(first_lanes(n)), (__m512)v);
  else
    return _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(n)), (__m512d)v);
#endif
  T lanes[kLanes<T>];
  store<T>(lanes, v);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// 2^f - 1 = f * P(f) on [-1/2, 1/2]; coefficients: interpolation at Chebyshev nodes of the relative error,
// which stays below 1.3e-8 (float) and 2.1e-17 (double).
template <class T>
struct Exp2;
template <>
struct Exp2<float> {
  static constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr int kMantissa = 23;
  static constexpr int32_t kOne = 0x3f800000;
  static constexpr float kLog2eHigh = 1.4426950216293335f, kLog2eLow = 1.925963033500011e-08f;
  static constexpr float kLn2High = 0.693145751953125f, kLn2Low = 1.42860682e-06f;  // n * high is exact
  static constexpr float kLowest = -104.0f, kHighest = 89.0f;  // exp is 0 below, infinite above
  static constexpr float kTanhFlat = 10.0f;                    // tanh rounds to 1 from here on
  static constexpr float kCoefficients[] = {1.54531629451e-4f, 1.33908633647e-3f, 9.61808255728e-3f,
                                            5.55035711422e-2f, 2.40226507606e-1f, 6.93147188026e-1f};
};
template <>
struct Exp2<double> {
  static constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr int kMantissa = 52;
  static constexpr int64_t kOne = 0x3ff0000000000000;
  static constexpr double kLog2eHigh = 1.4426950408889634, kLog2eLow = 2.0355273740931033e-17;
  static constexpr double kLn2High = 0.6931471803691238, kLn2Low = 1.9082149292705877e-10;
  static constexpr double kLowest = -746.0, kHighest = 710.0;
  static constexpr double kTanhFlat = 20.0;
  static constexpr double kCoefficients[] = {
      4.4549605981865183938e-10, 7.0725859492692236999e-9, 1.0178062445845773521e-7, 1.3215442587921689653e-6,
      1.5252733829836118394e-5,  1.5403530441736050155e-4, 1.333355814641693531e-3,  9.6181291076068885273e-3,
      5.5504108664821594339e-2,  2.402265069591009822e-1,  6.9314718055994530942e-1};
};

// exp(x) = 2^n * (1 + q): n as an integer in the low mantissa bits of `shifted`.
template <class T>
struct ExpParts {
  typename Simd<T>::Int n;
  Vec<T> q;
};
template <class T>
INLINE ExpParts<T> exp_parts(Vec<T> x) {
  using E = Exp2<T>;
  const Vec<T> shifted = x * E::kLog2eHigh + E::kMagic;
  const Vec<T> n = shifted - E::kMagic;
#if defined(__FMA__) || defined(__aarch64__)
  const Vec<T> f = (x * E::kLog2eHigh - n) + x * E::kLog2eLow;
#else  // the product would be rounded before n is taken off: for large x nothing of f would be left
  const Vec<T> f = ((x - n * E::kLn2High) - n * E::kLn2Low) * E::kLog2eHigh;
#endif
  Vec<T> p = broadcast<T>(E::kCoefficients[0]);
  UNROLL for (int i = 1; i < static_cast<int>(sizeof(E::kCoefficients) / sizeof(T)); ++i)
    p = p * f + E::kCoefficients[i];
  // the magic number's own low bits are zero, so the shift leaves n alone in the exponent's place
  return {(typename Simd<T>::Int)shifted, p * f};
}

// 2^n for a normal result
template <class T>
INLINE Vec<T> power_of_two(typename Simd<T>::Int n) {
  return (Vec<T>)((n << Exp2<T>::kMantissa) + Exp2<T>::kOne);
}

// v * 2^n, right also where the result is denormal, zero or infinite
template <class T>
INLINE Vec<T> times_power_of_two(Vec<T> v, typename Simd<T>::Int shifted) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_scalef_ps(0xffff, (__m512)v, (__m512)((Vec<T>)shifted - Exp2<T>::kMagic));
  else
    return (Vec<T>)_mm512_maskz_scalef_pd(0xff, (__m512d)v, (__m512d)((Vec<T>)shifted - Exp2<T>::kMagic));
#else
  // two factors: neither leaves the normal range
  const typename Simd<T>::Int integer = shifted - (typename Simd<T>::Int)broadcast<T>(Exp2<T>::kMagic);
  const typename Simd<T>::Int half = integer >> 1;
  return v * power_of_two<T>(half) * power_of_two<T>(integer - half);
#endif
}

// The bound where x exceeds it; NaN passes through. Compilers do not find the one instruction by themselves.
template <class T>
INLINE Vec<T> at_most(Vec<T> x, T bound) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_min_ps(0xffff, (__m512)broadcast<T>(bound), (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_min_pd(0xff, (__m512d)broadcast<T>(bound), (__m512d)x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_min_ps((__m256)broadcast<T>(bound), (__m256)x);
  else
    return (Vec<T>)_mm256_min_pd((__m256d)broadcast<T>(bound), (__m256d)x);
#else
  return x > bound ? broadcast<T>(bound) : x;
#endif
}
template <class T>
INLINE Vec<T> at_least(Vec<T> x, T bound) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_max_ps(0xffff, (__m512)broadcast<T>(bound), (__m512)x);
  else
    return (Vec<T>)_mm512_maskz_max_pd(0xff, (__m512d)broadcast<T>(bound), (__m512d)x);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_max_ps((__m256)broadcast<T>(bound), (__m256)x);
  else
    return (Vec<T>)_mm256_max_pd((__m256d)broadcast<T>(bound), (__m256d)x);
#else
  return x < bound ? broadcast<T>(bound) : x;
#endif
}

template <class T>
INLINE typename Simd<T>::Int sign_bit() {
  return (typename Simd<T>::Int)broadcast<T>(T(-0.0));
}
template <class T>
INLINE Vec<T> minus_absolute(Vec<T> x) {
  return (Vec<T>)((typename Simd<T>::Int)x | sign_bit<T>());
}
template <class T>
INLINE Vec<T> with_sign_of(Vec<T> sign, Vec<T> positive) {
  return (Vec<T>)((typename Simd<T>::Int)positive | ((typename Simd<T>::Int)sign & sign_bit<T>()));
}

template <class T>
INLINE Vec<T> exp_of(Vec<T> x) {
  using E = Exp2<T>;
  const ExpParts<T> e = exp_parts<T>(at_most<T>(at_least<T>(x, E::kLowest), E::kHighest));
  return times_power_of_two<T>(e.q + T(1), e.n);
}

// a / d for d in [1, 2]: the full division is the slowest instruction of a cell where a vector has 16 lanes
template <class T>
INLINE Vec<T> divide(Vec<T> a, Vec<T> d) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const Vec<T> r = (Vec<T>)_mm512_maskz_rcp14_ps(0xffff, (__m512)d);  // 14 bits, and one Newton step for the rest
    return a * (r + r * (T(1) - d * r));
  }
#endif
  return a / d;
}

// With e = exp(-|x|) in [0, 1] nothing overflows, and small results keep their relative precision:
// sigmoid(x) = 1/(1+e) for x >= 0, e/(1+e) for x < 0.
template <class T>
INLINE Vec<T> sigmoid(Vec<T> x) {
  const ExpParts<T> parts = exp_parts<T>(at_least<T>(minus_absolute<T>(x), Exp2<T>::kLowest));
  const Vec<T> e = times_power_of_two<T>(parts.q + T(1), parts.n);
  return divide<T>(x < T(0) ? e : broadcast<T>(T(1)), e + T(1));
}

// tanh(|x|) = -m/(m+2), m = exp(-2|x|) - 1, formed without cancellation near 0.
template <class T>
INLINE Vec<T> hyperbolic_tangent(Vec<T> x) {
  const Vec<T> a = at_least<T>(minus_absolute<T>(x), -Exp2<T>::kTanhFlat);
  const ExpParts<T> e = exp_parts<T>(a + a);
  const Vec<T> scale = power_of_two<T>(e.n);
  const Vec<T> m = scale * e.q + (scale - T(1));
  return with_sign_of<T>(x, divide<T>(-m, m + T(2)));
}

// The vector as a class, for cell/variants.h: argument-dependent look-up needs one to find these functions.
template <class T>
struct Value {
  Vec<T> v;
  INLINE Value() : v{} {}
  INLINE explicit Value(T x) : v(broadcast<T>(x)) {}
  INLINE Value(Vec<T> x) : v(x) {}

  friend INLINE Value operator+(Value a, Value b) { return a.v + b.v; }
  friend INLINE Value operator-(Value a, Value b) { return a.v - b.v; }
  friend INLINE Value operator*(Value a, Value b) { return a.v * b.v; }
  friend INLINE Value sigmoid_of(Value x) { return sigmoid<T>(x.v); }
  friend INLINE Value tanh_of(Value x) { return hyperbolic_tangent<T>(x.v); }
  friend INLINE Value limited_to(Value bound, Value x) {
    const Vec<T> low = x.v < -bound.v ? -bound.v : x.v;
    return low > bound.v ? bound.v : low;
  }
  friend INLINE Value where_below(Value bound, Value x, Value d) {
    const Vec<T> low = x.v > -bound.v ? d.v : Vec<T>{};
    return x.v < bound.v ? low : Vec<T>{};
  }
};
