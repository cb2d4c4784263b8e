// Makes the requests of the list at REQUESTS (kind, first sector, count, value: 32 bits each) to the disk DISK. After each group of
// GROUP requests it flushes the disk, makes a file in FOLDER whose name and every word are the number of requests done, flushes that,
// and says so: `disk-writer REQUESTS GROUP DISK FOLDER`.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SECTOR = 512, MOST_SECTORS = 4096, FILE_WORDS = 5000 };
enum { WRITE, ZERO, DISCARD };

static uint32_t words[MOST_SECTORS * SECTOR / 4] __attribute__((aligned(4096)));

static void check(int good, const char *what) {
  if (good) return;
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  check(argc == 5, "arguments");
  FILE *list = fopen(argv[1], "r");
  check(list != NULL, argv[1]);
  unsigned group = atoi(argv[2]);
  // Past the cache: the disk gets the requests in this order.
  int disk = open(argv[3], O_RDWR | O_DIRECT);
  check(disk >= 0, argv[3]);
  int folder = open(argv[4], O_RDONLY | O_DIRECTORY);
  check(folder >= 0, argv[4]);
  printf("ready\n");
  fflush(stdout);
  uint32_t request[4];
  for (uint32_t done = 1; fread(request, sizeof request, 1, list) == 1; done++) {
    uint64_t range[2] = {(uint64_t)request[1] * SECTOR, (uint64_t)request[2] * SECTOR};
    if (request[0] == WRITE) {
      for (size_t i = 0; i < range[1] / 4; i++) words[i] = request[3];
      check(pwrite(disk, words, range[1], range[0]) == (ssize_t)range[1], "pwrite");
    } else if (request[0] == ZERO && request[3] % 2 == 0) {
      check(fallocate(disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range[0], range[1]) == 0, "fallocate");
    } else {
      check(ioctl(disk, request[0] == ZERO ? BLKZEROOUT : BLKDISCARD, range) == 0, "ioctl");
    }
    if (done % group != 0) continue;
    check(fsync(disk) == 0, "fsync of the disk");
    char name[16];
    snprintf(name, sizeof name, "%u", done);
    int file = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    for (int i = 0; i < FILE_WORDS; i++) words[i] = done;
    check(write(file, words, FILE_WORDS * 4) == FILE_WORDS * 4, "write of a file");
    check(fsync(file) == 0 && close(file) == 0 && fsync(folder) == 0, "fsync of a file");
    printf("flushed %u\n", done);
    fflush(stdout);
  }
  pause();
}
