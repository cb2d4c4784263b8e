/*
 * Bytes over one TCP connection, 64 KiB a call.
 *   net-pump serve IPV4 PORT BYTES   the host's end: takes BYTES from who says 'u', sends them to who says 'd'; a line with the seconds of each
 *   net-pump u|d IPV4 PORT BYTES     the guest's end
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char piece[65536];

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}

/* Until the other side has ended. */
static long take(int fd) {
  long got = 0;
  for (ssize_t count; (count = read(fd, piece, sizeof piece)) > 0;) got += count;
  return got;
}

static int give(int fd, long left) {
  while (left > 0) {
    ssize_t count = write(fd, piece, left < (long)sizeof piece ? left : (long)sizeof piece);
    if (count <= 0) return 0;
    left -= count;
  }
  shutdown(fd, SHUT_WR);
  return 1;
}

static int serve(struct sockaddr_in at, long bytes) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 8)) return 1;
  socklen_t size = sizeof at;
  getsockname(fd, (struct sockaddr *)&at, &size);
  signal(SIGPIPE, SIG_IGN);
  printf("port %d\n", ntohs(at.sin_port));
  fflush(stdout);
  for (;;) {
    int peer = accept(fd, NULL, NULL);
    char what = 0;
    if (peer < 0 || read(peer, &what, 1) != 1) return 1;
    double start = now();
    int whole = what == 'u' ? take(peer) == bytes : give(peer, bytes) && take(peer) == 0;
    printf(whole ? "seconds %.6f\n" : "not all came: %.6f\n", now() - start);
    fflush(stdout);
    close(peer);
  }
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  inet_pton(AF_INET, argv[2], &to.sin_addr);
  long bytes = atol(argv[4]);
  if (!strcmp(argv[1], "serve")) return serve(to, bytes);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) || write(fd, argv[1], 1) != 1) return 1;
  if (*argv[1] == 'u') return !give(fd, bytes) || take(fd) != 0;
  return take(fd) != bytes;
}
