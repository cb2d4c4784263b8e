// The kernel's work for processes: calls, files, fork, exec, pipes, yield.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int good) {
  if (!good) {
    perror("process");
    exit(1);
  }
}

/** The shortest system call. */
static long calls(int count) {
  long sum = 0;
  for (int i = 0; i < count; i++) sum += syscall(SYS_getppid) > 0;
  return sum;
}

/** Files made, written, looked at, read and removed. */
static long files(int count) {
  long sum = 0;
  char text[512], name[32];
  memset(text, 'x', sizeof text);
  for (int i = 0; i < count; i++) {
    snprintf(name, sizeof name, "/tmp/file-%d", i % 100);
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
    check(file >= 0);
    for (int k = 0; k < 4; k++) check(write(file, text, sizeof text) == sizeof text);
    struct stat status;
    check(fstat(file, &status) == 0 && lseek(file, 0, SEEK_SET) == 0);
    for (ssize_t got; (got = read(file, text, sizeof text)) > 0;) sum += got;
    close(file);
    check(unlink(name) == 0);
    sum += status.st_size;
  }
  return sum;
}

/** Children that write to memory they share with their parent, and end. */
static long forks(int count) {
  enum { BYTES = 1 << 20 };
  char *memory = malloc(BYTES);
  memset(memory, 1, BYTES);
  long sum = 0;
  for (int i = 0; i < count; i++) {
    pid_t child = fork();
    check(child >= 0);
    if (child == 0) {
      for (int k = 0; k < BYTES; k += 16 * 4096) memory[k] = (char)i;
      _exit(i % 100);
    }
    int status;
    check(waitpid(child, &status, 0) == child);
    sum += WEXITSTATUS(status);
  }
  return sum;
}

/** A program of the Debian system, with its libraries to be linked, started again and again. */
static long execs(int count, char **environment) {
  long sum = 0;
  char *const arguments[] = {"true", NULL};
  for (int i = 0; i < count; i++) {
    pid_t child;
    check(posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment) == 0);
    int status;
    check(waitpid(child, &status, 0) == child && status == 0);
    sum++;
  }
  return sum;
}

/** One byte there and back, between two processes. */
static long pipes(int count) {
  int there[2], back[2];
  check(pipe(there) == 0 && pipe(back) == 0);
  char byte = 0;
  pid_t child = fork();
  if (child == 0) {
    while (byte >= 0 && read(there[0], &byte, 1) == 1 && byte >= 0) write(back[1], &byte, 1);
    _exit(0);
  }
  long sum = 0;
  for (int i = 0; i < count; i++) {
    byte = (char)(i & 63);
    check(write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
    sum += byte;
  }
  byte = -1;
  check(write(there[1], &byte, 1) == 1 && waitpid(child, NULL, 0) == child);
  return sum;
}

/** Two processes that give each other the processor. */
static long yields(int count) {
  pid_t child = fork();
  for (int i = 0; i < count; i++) sched_yield();
  if (child == 0) _exit(0);
  check(waitpid(child, NULL, 0) == child);
  return count;
}

int main(int count, char **arguments, char **environment) {
  const char *what = count > 1 ? arguments[1] : "";
  long result;
  if (strcmp(what, "calls") == 0) result = calls(700000);
  else if (strcmp(what, "files") == 0) result = files(3000);
  else if (strcmp(what, "forks") == 0) result = forks(350);
  else if (strcmp(what, "execs") == 0) result = execs(25, environment);
  else if (strcmp(what, "pipes") == 0) result = pipes(12000);
  else if (strcmp(what, "yields") == 0) result = yields(120000);
  else return 2;
  printf("%s %ld\n", what, result);
  return 0;
}
