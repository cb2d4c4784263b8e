// Memory: sequential, random, copy, and page faults.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MIB = 1 << 20, PAGE = 4096 };

static uint64_t *buffer(size_t bytes) {
  uint64_t *words = malloc(bytes);
  if (words == NULL) abort();
  for (size_t i = 0; i < bytes / 8; i++) words[i] = i * 0x9e3779b97f4a7c15;
  return words;
}

/** Reads and writes all words in order. */
static uint64_t sequential(size_t bytes, int times) {
  uint64_t *words = buffer(bytes), sum = 0;
  for (int t = 0; t < times; t++)
    for (size_t i = 0; i < bytes / 8; i++) {
      sum += words[i];
      words[i] = sum;
    }
  return sum;
}

/** Reads and writes words anywhere: each in a page of its own, as a rule. */
static uint64_t anywhere(size_t bytes, int count) {
  uint64_t *words = buffer(bytes), at = 1, sum = 0;
  for (int i = 0; i < count; i++) {
    at = at * 6364136223846793005 + 1442695040888963407;
    uint64_t *word = &words[(at >> 33) % (bytes / 8)];
    sum += *word;
    *word = sum ^ at;
  }
  return sum;
}

/** Copies of many lengths, and moves within one buffer. */
static uint64_t copy(int times) {
  char *from = (char *)buffer(8 * MIB), *to = (char *)buffer(8 * MIB);
  uint64_t sum = 0;
  for (int t = 0; t < times; t++) {
    memcpy(to, from, 8 * MIB);
    memmove(from + 100, from, 4 * MIB);
    for (int length = 1; length < 4096; length += 7) memcpy(to + length * 16, from + length * 5, length);
    sum += (unsigned char)to[t * 1001] + (unsigned char)from[t * 77 + 4 * MIB];
  }
  return sum;
}

/** Maps pages, touches them, and unmaps them. */
static uint64_t faults(int times) {
  enum { PAGES = 4096 };
  uint64_t sum = 0;
  for (int t = 0; t < times; t++) {
    char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) abort();
    madvise(pages, PAGES * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i++) pages[i * PAGE + i % PAGE] = (char)(i + t);
    for (int i = 0; i < PAGES; i++) sum += (unsigned char)pages[i * PAGE + i % PAGE];
    munmap(pages, PAGES * PAGE);
  }
  return sum;
}

int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "";
  uint64_t result;
  if (strcmp(what, "sequential") == 0) result = sequential(16 * MIB, 90);
  else if (strcmp(what, "random") == 0) result = anywhere(16 * MIB, 2000000);
  else if (strcmp(what, "copy") == 0) result = copy(60);
  else if (strcmp(what, "faults") == 0) result = faults(12);
  else return 2;
  printf("%s %llu\n", what, (unsigned long long)result);
  return 0;
}
