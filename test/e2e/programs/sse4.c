// SSE to SSE4.2, AES, PCLMULQDQ and SHA by intrinsics, folded into one checksum for each.
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t seed = 0xfedcba987654321ull;

static uint64_t next(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static __m128i vector(void) { return _mm_set_epi64x((long long)next(), (long long)next()); }

static void show(const char *name, __m128i v) {
  printf("%s %016llx%016llx\n", name, (unsigned long long)_mm_extract_epi64(v, 1), (unsigned long long)_mm_extract_epi64(v, 0));
}

#define FOLD(name, expression)                                  \
  do {                                                          \
    __m128i sum = _mm_setzero_si128();                          \
    for (int i = 0; i < 500; i++) {                             \
      __m128i a = vector(), b = vector();                       \
      (void)b;                                                  \
      sum = _mm_add_epi64(_mm_shuffle_epi32(sum, 0x39), expression); \
    }                                                           \
    show(name, sum);                                            \
  } while (0)

int main(void) {
  FOLD("pshufb", _mm_shuffle_epi8(a, b));
  FOLD("pmulld", _mm_mullo_epi32(a, b));
  FOLD("pmaddwd", _mm_madd_epi16(a, b));
  FOLD("pmaddubsw", _mm_maddubs_epi16(a, b));
  FOLD("packusdw", _mm_packus_epi32(a, b));
  FOLD("mpsadbw", _mm_mpsadbw_epu8(a, b, 5));
  FOLD("phminposuw", _mm_minpos_epu16(a));
  FOLD("pblendvb", _mm_blendv_epi8(a, b, _mm_xor_si128(a, b)));
  FOLD("pmuldq", _mm_mul_epi32(a, b));
  FOLD("psadbw", _mm_sad_epu8(a, b));
  FOLD("pcmpgtq", _mm_cmpgt_epi64(a, b));
  FOLD("pcmpistrm", _mm_cmpistrm(a, b, 0x40));
  FOLD("aesenc", _mm_aesenc_si128(a, b));
  FOLD("aesdeclast", _mm_aesdeclast_si128(a, b));
  FOLD("pclmulqdq", _mm_clmulepi64_si128(a, b, 0x10));
  FOLD("sha256rnds2", _mm_sha256rnds2_epu32(a, b, _mm_xor_si128(a, b)));
  FOLD("sha1msg1", _mm_sha1msg1_epu32(a, b));
  uint64_t crc = 0;
  for (int i = 0; i < 1000; i++) crc = _mm_crc32_u64(crc, next());
  printf("crc32 %llx\n", (unsigned long long)crc);
  int index = 0;
  for (int i = 0; i < 1000; i++) index = index * 3 + _mm_cmpestri(vector(), i % 17, vector(), 11, 0x0c);
  printf("pcmpestri %x\n", index);
  double total = 0;
  for (int i = 0; i < 2000; i++) {
    __m128d v = _mm_set_pd((double)(int64_t)next() * 0x1p-40, (double)(int64_t)next() * 0x1p-50);
    v = _mm_sqrt_pd(_mm_add_pd(_mm_mul_pd(v, v), _mm_set1_pd(3.25)));
    v = _mm_div_pd(_mm_round_pd(v, 1), _mm_hadd_pd(v, v));
    total += _mm_cvtsd_f64(v) + _mm_cvtsd_f64(_mm_unpackhi_pd(v, v));
  }
  uint64_t bits;
  memcpy(&bits, &total, 8);
  printf("doubles %016llx %.15g\n", (unsigned long long)bits, total);
  float f = 0;
  for (int i = 0; i < 2000; i++) {
    __m128 v = _mm_cvtepi32_ps(vector());
    v = _mm_dp_ps(_mm_div_ps(v, _mm_set1_ps(7e8f)), _mm_set1_ps(1.5f), 0xf1);
    f += _mm_cvtss_f32(v);
  }
  printf("floats %.9g\n", f);
  return 0;
}
