/* What a guest does with its sockets to the host (vsock(7)). Prints "fine", or what was wrong. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define MOST 4096

static void die(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_vm address(unsigned cid, unsigned port) {
  struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
  return a;
}

static int make(void) {
  int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  return fd;
}

static int connect_to(unsigned port) {
  struct sockaddr_vm a = address(VMADDR_CID_HOST, port);
  int fd = make();
  if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

static int listen_at(unsigned port) {
  struct sockaddr_vm a = address(VMADDR_CID_ANY, port);
  int fd = make();
  if (bind(fd, (struct sockaddr *)&a, sizeof a)) die("bind");
  if (listen(fd, MOST)) die("listen");
  return fd;
}

static void nonblocking(int fd) {
  if (fcntl(fd, F_SETFL, O_NONBLOCK)) die("fcntl");
}

static unsigned char byte_at(unsigned stream, unsigned at) { return stream * 193 + at + (at >> 8); }

static unsigned char buffer[65536];

/* COUNT connections, all open at the same time; on each SIZE bytes go to the host, which sends them back. Each half ends by itself. */
static void echo(unsigned port, unsigned count, unsigned size) {
  static struct pollfd fds[MOST];
  static unsigned sent[MOST], got[MOST];
  for (unsigned i = 0; i < count; i++) {
    fds[i].fd = connect_to(port);
    if (fds[i].fd < 0) die("connect");
    nonblocking(fds[i].fd);
    fds[i].events = POLLIN | POLLOUT;
  }
  for (unsigned left = count; left > 0;) {
    int ready = poll(fds, count, 60000);
    if (ready <= 0) {
      errno = ETIMEDOUT;
      die("poll");
    }
    for (unsigned i = 0; i < count; i++) {
      if (fds[i].revents & POLLOUT) {
        unsigned n = size - sent[i] < sizeof buffer ? size - sent[i] : sizeof buffer;
        for (unsigned j = 0; j < n; j++) buffer[j] = byte_at(i, sent[i] + j);
        ssize_t done = write(fds[i].fd, buffer, n);
        if (done < 0 && errno != EAGAIN) die("write");
        if (done > 0) sent[i] += done;
        if (sent[i] == size) {
          fds[i].events = POLLIN;
          if (shutdown(fds[i].fd, SHUT_WR)) die("shutdown");
        }
      }
      if (fds[i].revents & (POLLIN | POLLHUP | POLLERR)) {
        ssize_t n = read(fds[i].fd, buffer, sizeof buffer);
        if (n < 0 && errno != EAGAIN) die("read");
        for (ssize_t j = 0; j < n; j++, got[i]++) {
          if (buffer[j] == byte_at(i, got[i])) continue;
          printf("connection %u: byte %u is wrong\n", i, got[i]);
          exit(1);
        }
        if (n != 0) continue;
        if (got[i] != size) {
          printf("connection %u: %u bytes of %u came back\n", i, got[i], size);
          exit(1);
        }
        close(fds[i].fd);
        fds[i].fd = -1;
        left--;
      }
    }
  }
}

/* Sends back what comes, for COUNT connections, one after the other or all at once. */
static void serve(unsigned port, unsigned count) {
  int listener = listen_at(port);
  printf("listening\n");
  fflush(stdout);
  for (unsigned i = 0; i < count; i++) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0) die("accept");
    if (fork()) {
      close(fd);
      continue;
    }
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0) {
      for (ssize_t done = 0; done < n;) {
        ssize_t now = write(fd, buffer + done, n - done);
        if (now < 0) die("write");
        done += now;
      }
    }
    exit(n < 0);
  }
}

/* Writes until the host breaks the connection off; then reads. */
static void broken(unsigned port) {
  int fd = connect_to(port);
  if (fd < 0) die("connect");
  signed long n;
  while ((n = send(fd, buffer, sizeof buffer, MSG_NOSIGNAL)) > 0) {
  }
  if (errno != EPIPE && errno != ECONNRESET) die("send");
}

/* Takes one connection, breaks it off without reading, and goes. */
static void breaker(unsigned port) {
  int listener = listen_at(port);
  printf("listening\n");
  fflush(stdout);
  int fd = accept(listener, NULL, NULL);
  if (fd < 0) die("accept");
  struct linger now = {.l_onoff = 1};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

int main(int argc, char **argv) {
  struct rlimit limit = {MOST + 64, MOST + 64};
  setrlimit(RLIMIT_NOFILE, &limit);
  const char *what = argc > 1 ? argv[1] : "";
  unsigned port = argc > 2 ? atoi(argv[2]) : 0;
  unsigned count = argc > 3 ? atoi(argv[3]) : 1;
  if (!strcmp(what, "echo") && argc > 4) echo(port, count, atoi(argv[4]));
  else if (!strcmp(what, "serve")) serve(port, count);
  else if (!strcmp(what, "broken")) broken(port);
  else if (!strcmp(what, "breaker")) breaker(port);
  else if (!strcmp(what, "refused")) {
    if (connect_to(port) >= 0) printf("connected\n");
    else printf("%s\n", strerror(errno));
    return 0;
  } else if (!strcmp(what, "cid")) {
    unsigned cid;
    int fd = open("/dev/vsock", O_RDONLY);
    if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid)) die("/dev/vsock");
    printf("%u\n", cid);
    return 0;
  } else {
    printf("unknown\n");
    return 1;
  }
  printf("fine\n");
  return 0;
}
