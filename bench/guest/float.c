// Floating point: bodies, spectral and mandelbrot (scalar doubles), single (scalar floats), matrix and vector (packed), extended (x87).
// Only operations that IEEE 754 rounds exactly, so that the last bit tells.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t bits(double value) {
  uint64_t result;
  memcpy(&result, &value, sizeof result);
  return result;
}

/** Five bodies under gravity. */
static double bodies(int steps) {
  double p[5][3], v[5][3], m[5];
  for (int i = 0; i < 5; i++) {
    m[i] = 1.0 / (i + 1);
    for (int k = 0; k < 3; k++) {
      p[i][k] = (i + 1) * (k + 1) * 0.37 - k;
      v[i][k] = (i - k) * 0.01;
    }
  }
  for (int s = 0; s < steps; s++) {
    for (int i = 0; i < 5; i++) {
      for (int j = i + 1; j < 5; j++) {
        double x = p[i][0] - p[j][0], y = p[i][1] - p[j][1], z = p[i][2] - p[j][2];
        double square = x * x + y * y + z * z + 0.01;
        double force = 0.001 / (square * sqrt(square));
        v[i][0] -= x * m[j] * force, v[i][1] -= y * m[j] * force, v[i][2] -= z * m[j] * force;
        v[j][0] += x * m[i] * force, v[j][1] += y * m[i] * force, v[j][2] += z * m[i] * force;
      }
    }
    for (int i = 0; i < 5; i++)
      for (int k = 0; k < 3; k++) p[i][k] += 0.001 * v[i][k];
  }
  return p[0][0] + p[1][1] + p[2][2];
}

/** Points of the Mandelbrot set: few operations, many branches on comparisons. */
static double mandelbrot(int size) {
  double total = 0;
  for (int row = 0; row < size; row++) {
    for (int column = 0; column < size; column++) {
      double a = column * 3.0 / size - 2, b = row * 2.0 / size - 1, x = 0, y = 0;
      int i = 0;
      while (i < 100 && x * x + y * y < 4) {
        double next = x * x - y * y + a;
        y = 2 * x * y + b;
        x = next;
        i++;
      }
      total += i;
    }
  }
  return total;
}

/** The logistic map and conversions, in single precision. */
static double single(int count) {
  float x = 0.3f, sum = 0;
  int whole = 0;
  for (int i = 0; i < count; i++) {
    x = 3.7f * x * (1.0f - x);
    sum += sqrtf(x) / (1.0f + x);
    whole += (int)(x * 1000.0f);
  }
  return sum + whole;
}

typedef double v2 __attribute__((vector_size(16)));
typedef float v4 __attribute__((vector_size(16)));

/** A product of matrices, two doubles at a time. */
static double matrix(int times) {
  enum { N = 128 };
  static v2 a[N][N / 2], c[N][N / 2];
  static double b[N][N];
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) ((double *)a[i])[j] = (i * j) % 17 * 0.25, b[i][j] = (i + j) % 13 * 0.5 - 3;
  for (int t = 0; t < times; t++)
    for (int i = 0; i < N; i++)
      for (int k = 0; k < N; k++) {
        v2 factor = {b[i][k], b[i][k]};
        for (int j = 0; j < N / 2; j++) c[i][j] = c[i][j] * 0.5 + factor * a[k][j];
      }
  double sum = 0;
  for (int i = 0; i < N; i++)
    for (int j = 0; j < N; j++) sum += ((double *)c[i])[j];
  return sum;
}

/** A filter over an array, four floats at a time. */
static double vector(int times) {
  enum { N = 4096 };
  static v4 x[N], y[N];
  for (int i = 0; i < N; i++) x[i] = (v4){i % 7, i % 5, i % 3, 1} * 0.125f;
  for (int t = 0; t < times; t++)
    for (int i = 1; i < N - 1; i++) y[i] = y[i] * 0.75f + (x[i - 1] + x[i] * 2.0f + x[i + 1]) * 0.25f - y[i - 1] / 3.0f;
  double sum = 0;
  for (int i = 0; i < N; i++) sum += y[i][0] + y[i][1] + y[i][2] + y[i][3];
  return sum;
}

/** Newton's square roots in 80 bits. */
static double extended(int count) {
  long double sum = 0;
  for (int i = 1; i <= count; i++) {
    long double root = i;
    for (int k = 0; k < 8; k++) root = (root + i / root) * 0.5L;
    sum += root;
  }
  return (double)sum;
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  double result;
  if (strcmp(what, "bodies") == 0) result = bodies(240000);
  else if (strcmp(what, "mandelbrot") == 0) result = mandelbrot(500);
  else if (strcmp(what, "single") == 0) result = single(12000000);
  else if (strcmp(what, "matrix") == 0) result = matrix(18);
  else if (strcmp(what, "vector") == 0) result = vector(1250);
  else if (strcmp(what, "extended") == 0) result = extended(600000);
  else return 2;
  printf("%s %016llx\n", what, (unsigned long long)bits(result));
  return 0;
}
