// The first process of the guest that the bench boots: runs the members of the set, one line each in /bench/set:
//   NAME COMMAND ARGUMENT...
// separated by single spaces. Before a member it says "@begin NAME", after it "@end NAME STATUS CHECKSUM", where the checksum
// (64-bit FNV-1a) is that of all it wrote to standard output and standard error. After the last it says "@done", and waits for a
// line: "again" starts over, any other powers the machine off.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS_MAX = 64, ARGUMENTS_MAX = 32 };

static char *variables[] = {"PATH=/usr/bin:/bin:/bench", "HOME=/tmp", "LC_ALL=C", "PYTHONHASHSEED=0", NULL};

static void run(char *member) {
  char *arguments[ARGUMENTS_MAX + 1];
  int count = 0;
  char *name = strsep(&member, " ");
  for (char *word; count < ARGUMENTS_MAX && (word = strsep(&member, " ")) != NULL;) arguments[count++] = word;
  arguments[count] = NULL;
  printf("@begin %s\n", name);
  int ends[2];
  if (pipe(ends) != 0) abort();
  pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    execvp(arguments[0], arguments);
    perror(arguments[0]);
    _exit(127);
  }
  close(ends[1]);
  static unsigned char buffer[65536];
  // A failure is told in the program's own words.
  static char last[512];
  size_t kept = 0;
  uint64_t hash = 0xcbf29ce484222325;
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < got; i++) hash = (hash ^ buffer[i]) * 0x100000001b3;
    kept = (size_t)got < sizeof last ? (size_t)got : sizeof last;
    memcpy(last, buffer + got - kept, kept);
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) printf("%.*s\n", (int)kept, last);
  printf("@end %s %d %016llx\n", name, status, (unsigned long long)hash);
}

int main(void) {
  environ = variables;
  mkdir("/proc", 0755);
  mkdir("/dev", 0755);
  mkdir("/tmp", 01777);
  mount("proc", "/proc", "proc", 0, NULL);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  chdir("/tmp");
  char answer[16];
  do {
    FILE *set = fopen("/bench/set", "r");
    char line[1024];
    while (set != NULL && fgets(line, sizeof line, set) != NULL) {
      line[strcspn(line, "\n")] = 0;
      run(line);
    }
    if (set != NULL) fclose(set);
    puts("@done");
  } while (fgets(answer, sizeof answer, stdin) != NULL && strncmp(answer, "again", 5) == 0);
  reboot(RB_POWER_OFF);
  return 0;
}
