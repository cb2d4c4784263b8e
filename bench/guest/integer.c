// Integer code: sieve, queens, divide, mix, matrix.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** Primes below `limit` by Eratosthenes, some times. */
static uint64_t sieve(int limit, int times) {
  unsigned char *composite = malloc(limit);
  uint64_t found = 0;
  for (int t = 0; t < times; t++) {
    memset(composite, 0, limit);
    for (int i = 2; i < limit; i++) {
      if (composite[i]) continue;
      found += i;
      for (long j = (long)i * i; j < limit; j += i) composite[j] = 1;
    }
  }
  return found;
}

/** Ways to put queens on a board, by recursion on bit masks. */
static uint64_t queens(unsigned all, unsigned columns, unsigned left, unsigned right) {
  if (columns == all) return 1;
  uint64_t ways = 0;
  for (unsigned free = all & ~(columns | left | right); free != 0;) {
    unsigned bit = free & -free;
    free ^= bit;
    ways += queens(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return ways;
}

/** Modular powers: 64-bit divisions. */
static uint64_t divide(int count) {
  uint64_t sum = 0;
  for (int i = 1; i <= count; i++) {
    uint64_t modulus = 0x7fff0000 + (i * 7919u) % 65536, base = i, result = 1;
    for (unsigned exponent = 65537; exponent != 0; exponent >>= 1) {
      if (exponent & 1) result = result * base % modulus;
      base = base * base % modulus;
    }
    sum += result;
  }
  return sum;
}

/** A chain of multiplications, rotations and shifts of 64 bits. */
static uint64_t mix(int count) {
  uint64_t a = 1, b = 0x9e3779b97f4a7c15;
  for (int i = 0; i < count; i++) {
    a ^= a >> 29;
    a *= 0xbf58476d1ce4e5b9;
    b = (b << 13 | b >> 51) + a;
    a += b ^ (uint64_t)i;
  }
  return a ^ b;
}

/** Longest common subsequence of two pseudo-random texts: table look-ups, comparisons, unpredictable branches. */
static uint64_t subsequence(int length) {
  char *first = malloc(length), *second = malloc(length);
  int *row = calloc(length + 1, sizeof *row);
  uint32_t seed = 12345;
  for (int i = 0; i < length; i++) {
    seed = seed * 1664525 + 1013904223;
    first[i] = seed >> 30;
    second[i] = (seed >> 20) & 3;
  }
  for (int i = 0; i < length; i++) {
    int diagonal = 0;
    for (int j = 0; j < length; j++) {
      int above = row[j + 1];
      if (first[i] == second[j]) row[j + 1] = diagonal + 1;
      else if (row[j] > above) row[j + 1] = row[j];
      diagonal = above;
    }
  }
  return row[length];
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  uint64_t result;
  if (strcmp(what, "sieve") == 0) result = sieve(2000000, 24);
  else if (strcmp(what, "queens") == 0) result = queens((1 << 13) - 1, 0, 0, 0);
  else if (strcmp(what, "divide") == 0) result = divide(3000000);
  else if (strcmp(what, "mix") == 0) result = mix(240000000);
  else if (strcmp(what, "subsequence") == 0) result = subsequence(9000);
  else return 2;
  printf("%s %llu\n", what, (unsigned long long)result);
  return 0;
}
