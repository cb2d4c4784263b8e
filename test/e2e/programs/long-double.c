// 80-bit arithmetic: results in hexadecimal, to the last bit.
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint64_t seed = 0x123456789abcdefull;

static uint64_t next(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

static void show(const char *name, long double value) {
  unsigned char bytes[16] = {0};
  memcpy(bytes, &value, 10);
  printf("%s ", name);
  for (int i = 9; i >= 0; i--) printf("%02x", bytes[i]);
  printf("\n");
}

int main(void) {
  const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (int i = 0; i < 40; i++) {
    fesetround(modes[i & 3]);
    volatile long double a = (long double)(int64_t)next() / (long double)(next() | 1);
    volatile long double b = (long double)(int64_t)next() * 0x1p-60L;
    show("add", a + b);
    show("sub", a - b);
    show("mul", a * b);
    show("div", a / b);
    show("sqrt", sqrtl(fabsl(a)));
    show("rint", rintl(a * 1000));
    show("rem", remainderl(b, a));
    printf("%.18Lg %.6f %d\n", a, (double)b, (int)lrintl(b));
  }
  fesetround(FE_TONEAREST);
  long double sum = 0;
  for (int i = 1; i <= 20000; i++) sum += 1.0L / i / i;
  show("sum", sum);
  printf("%.15Lf\n", sqrtl(6 * sum));
  return 0;
}
