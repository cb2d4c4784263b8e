/* net-pump IPV4 PORT BYTES: sends so many bytes over TCP, or with 0 takes what comes, 64 KiB a call. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

static char piece[65536];

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &to.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&to, sizeof to)) return 1;
  long left = atol(argv[3]);
  if (left == 0)
    while (read(fd, piece, sizeof piece) > 0) {
    }
  while (left > 0) {
    ssize_t count = write(fd, piece, left < (long)sizeof piece ? left : (long)sizeof piece);
    if (count <= 0) return 1;
    left -= count;
  }
  /* The host ends the connection when it has everything. */
  shutdown(fd, SHUT_WR);
  while (read(fd, piece, sizeof piece) > 0) {
  }
  return 0;
}
