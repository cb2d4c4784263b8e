// What programs do with files, in a directory that is given: `file-exercise random DIRECTORY SEED COUNT`, `rules DIRECTORY`,
// `locks DIRECTORY`. Says `fine`, or what is wrong, with status 1.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what, int line) {
  printf("line %d: %s (errno %d, %s)\n", line, what, errno, strerror(errno));
  fflush(stdout);
  _exit(1);
}
#define CHECK(condition) do { if (!(condition)) fail(#condition, __LINE__); } while (0)
#define FAILS(call, error) do { errno = 0; CHECK((call) == -1); CHECK(errno == (error)); } while (0)

static unsigned state;
static unsigned below(unsigned limit) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state % limit;
}

// ---- Random operations beside a model in memory, after fsx ----

enum { LARGEST = 300000 };
static unsigned char model[LARGEST], buffer[LARGEST];
static long size;
static unsigned step, seed;

static void compare(const unsigned char *got, long at, long length, const char *how) {
  for (long i = 0; i < length; i++) {
    if (got[i] == model[at + i]) continue;
    printf("%s: byte %ld of %ld is %d, not %d, at step %u of seed %u\n", how, at + i, size, got[i], model[at + i], step, seed);
    exit(1);
  }
}

static void fill(long at, long length) {
  for (long i = 0; i < length; i++) model[at + i] = below(256);
  if (at + length > size) size = at + length;
}

static int random_work(const char *directory, unsigned count) {
  char path[4096];
  snprintf(path, sizeof path, "%s/random", directory);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(fd >= 0);
  for (step = 0; step < count; step++) {
    long at = below(LARGEST - 1), length = 1 + below(step % 7 == 0 ? LARGEST - at : (LARGEST - at < 5000 ? LARGEST - at : 5000));
    switch (below(12)) {
      case 0: case 1: case 2:
        fill(at, length);
        CHECK(pwrite(fd, model + at, length, at) == length);
        break;
      case 3: case 4: case 5: {
        long expected = at >= size ? 0 : (length < size - at ? length : size - at);
        CHECK(pread(fd, buffer, length, at) == expected);
        compare(buffer, at, expected, "read");
        break;
      }
      case 6:
        if (at < size) memset(model + at, 0, size - at);
        size = at;
        CHECK(ftruncate(fd, at) == 0);
        break;
      case 7: {
        if (size == 0) break;
        at %= size;
        length = length < size - at ? length : size - at;
        long page = at & ~4095;
        unsigned char *map = mmap(NULL, at + length - page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page);
        // Where the client keeps no pages, nothing shares them.
        if (map == MAP_FAILED) { CHECK(errno == ENODEV || errno == EINVAL); break; }
        compare(map + (at - page), at, length, "mapping");
        fill(at, length);
        memcpy(map + (at - page), model + at, length);
        if (below(2)) CHECK(msync(map, at + length - page, MS_SYNC) == 0);
        CHECK(munmap(map, at + length - page) == 0);
        break;
      }
      case 8: {
        struct stat status;
        CHECK(fstat(fd, &status) == 0);
        CHECK(status.st_size == size);
        break;
      }
      case 9:
        close(fd);
        fd = open(path, O_RDWR);
        CHECK(fd >= 0);
        break;
      case 10:
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) == 0) {
          if (at < size) memset(model + at, 0, length < size - at ? length : size - at);
        } else CHECK(errno == EOPNOTSUPP);
        break;
      case 11:
        if (below(4) == 0) CHECK(fsync(fd) == 0);
        break;
    }
  }
  CHECK(pread(fd, buffer, LARGEST, 0) == size);
  compare(buffer, 0, size, "all");
  close(fd);
  return 0;
}

// ---- Rules: names, kinds of files, users ----

static void as_user(int uid, void (*work)(void)) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (setgid(uid) != 0 || setuid(uid) != 0) fail("setuid", __LINE__);
    work();
    fflush(stdout);
    _exit(0);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  if (status != 0) exit(1);
}

// Do files belong to whoever makes them? Only a privileged server can do that.
static int owners;
static unsigned mode_of(const char *path) {
  struct stat status;
  CHECK(lstat(path, &status) == 0);
  return status.st_mode & 07777;
}

static void make(const char *path, int mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  CHECK(fd >= 0);
  CHECK(fchmod(fd, mode) == 0);
  CHECK(write(fd, "content", 7) == 7);
  close(fd);
}

static void stranger(void) {
  struct stat status;
  FAILS(open("private/file", O_RDONLY), EACCES);
  FAILS(chdir("private"), EACCES);
  FAILS(open("readable", O_WRONLY), EACCES);
  FAILS(open("new", O_WRONLY | O_CREAT, 0644), EACCES);
  FAILS(mkdir("new", 0755), EACCES);
  FAILS(unlink("readable"), EACCES);
  FAILS(rename("readable", "other"), EACCES);
  FAILS(chmod("readable", 0777), EPERM);
  FAILS(chown("readable", 1000, 1000), EPERM);
  FAILS(truncate("readable", 0), EACCES);
  CHECK(open("readable", O_RDONLY) >= 0);
  CHECK(access("readable", R_OK) == 0);
  FAILS(access("readable", W_OK), EACCES);
  umask(027);
  int fd = open("open/mine", O_RDWR | O_CREAT | O_EXCL, 0666);
  CHECK(fd >= 0);
  CHECK(write(fd, "x", 1) == 1);
  CHECK(fstat(fd, &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
  CHECK(mkdir("open/directory", 0777) == 0);
  CHECK(mode_of("open/directory") == 0750);
  CHECK(symlink("nowhere", "open/link") == 0);
  if (owners) {
    CHECK(status.st_uid == 1000 && status.st_gid == 1000);
    CHECK(lstat("open/directory", &status) == 0 && status.st_uid == 1000);
    CHECK(lstat("open/link", &status) == 0 && status.st_uid == 1000);
    CHECK(chmod("open/mine", 0600) == 0);
    FAILS(chown("open/mine", 0, 0), EPERM);
    // The bits go when somebody else than root writes.
    fd = open("suid", O_WRONLY);
    CHECK(fd >= 0);
    CHECK(write(fd, "y", 1) == 1);
    CHECK(mode_of("suid") == 0777);
  }
}

static void other_stranger(void) {
  if (!owners) return;
  FAILS(unlink("open/mine"), EPERM);
  FAILS(rename("open/mine", "open/stolen"), EPERM);
  FAILS(open("open/mine", O_RDONLY), EACCES);
}

static int rules(const char *directory) {
  struct stat status;
  char long_name[300];
  umask(0);
  CHECK(chdir(directory) == 0);
  CHECK(mkdir("rules", 0755) == 0 && chdir("rules") == 0);

  // Names.
  memset(long_name, 'n', sizeof long_name);
  long_name[255] = 0;
  make(long_name, 0600);
  long_name[255] = 'n';
  long_name[256] = 0;
  FAILS(open(long_name, O_WRONLY | O_CREAT, 0600), ENAMETOOLONG);
  make("\xff\xfe odd\n", 0600);
  FAILS(open("none/below", O_RDONLY), ENOENT);
  FAILS(open("\xff\xfe odd\n/below", O_RDONLY), ENOTDIR);

  // Directories.
  CHECK(mkdir("a", 0755) == 0 && mkdir("a/b", 0755) == 0);
  FAILS(mkdir("a", 0755), EEXIST);
  FAILS(rmdir("a"), ENOTEMPTY);
  FAILS(unlink("a"), EISDIR);
  CHECK(mkdir("c", 0755) == 0);
  FAILS(rename("c", "a"), ENOTEMPTY);
  FAILS(rename("a", "a/b/c"), EINVAL);
  CHECK(rename("c", "a/b") == 0);
  FAILS(rmdir("c"), ENOENT);
  for (int i = 0; i < 500; i++) {
    char name[40];
    snprintf(name, sizeof name, "a/entry-number-%d", i);
    make(name, 0600);
  }
  DIR *stream = opendir("a");
  CHECK(stream != NULL);
  int entries = 0;
  long middle = 0;
  for (struct dirent *entry; (entry = readdir(stream)) != NULL; entries++) if (entries == 250) middle = telldir(stream);
  CHECK(entries == 503);
  seekdir(stream, middle);
  for (entries = 251; readdir(stream) != NULL; entries++) {}
  CHECK(entries == 503);
  rewinddir(stream);
  CHECK(readdir(stream) != NULL);
  closedir(stream);

  // Links.
  make("file", 0644);
  CHECK(link("file", "hard") == 0);
  CHECK(stat("hard", &status) == 0 && status.st_nlink == 2);
  FAILS(link("file", "hard"), EEXIST);
  CHECK(symlink("file", "soft") == 0 && symlink("loop", "loop") == 0);
  CHECK(lstat("soft", &status) == 0 && S_ISLNK(status.st_mode) && status.st_size == 4);
  CHECK(stat("soft", &status) == 0 && S_ISREG(status.st_mode));
  FAILS(open("loop", O_RDONLY), ELOOP);
  CHECK(unlink("file") == 0 && stat("hard", &status) == 0 && status.st_nlink == 1);

  // An open file without a name.
  int fd = open("hard", O_RDWR);
  CHECK(fd >= 0 && unlink("hard") == 0);
  CHECK(pread(fd, long_name, 7, 0) == 7 && memcmp(long_name, "content", 7) == 0);
  CHECK(pwrite(fd, "C", 1, 0) == 1 && ftruncate(fd, 3) == 0 && fstat(fd, &status) == 0);
  CHECK(status.st_size == 3);
  close(fd);

  // Appending, holes, times, attributes.
  fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
  CHECK(write(fd, "one", 3) == 3 && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "two", 3) == 3);
  close(fd);
  CHECK(stat("log", &status) == 0 && status.st_size == 6);
  struct timespec times[2] = {{1000000000, 123000000}, {1234567890, 987000000}};
  CHECK(utimensat(AT_FDCWD, "log", times, 0) == 0 && stat("log", &status) == 0);
  CHECK(status.st_mtim.tv_sec == 1234567890 && status.st_atim.tv_sec == 1000000000);
  // Linux's 9P client cuts times to seconds.
  CHECK(status.st_mtim.tv_nsec == 987000000 || status.st_mtim.tv_nsec == 0);
  if (setxattr("log", "user.test", "value", 5, 0) == 0) {
    CHECK(getxattr("log", "user.test", long_name, 100) == 5 && memcmp(long_name, "value", 5) == 0);
    CHECK(listxattr("log", long_name, 100) == 10 && strcmp(long_name, "user.test") == 0);
    FAILS(setxattr("log", "user.test", "x", 1, XATTR_CREATE), EEXIST);
    CHECK(removexattr("log", "user.test") == 0);
    FAILS(getxattr("log", "user.test", long_name, 100), ENODATA);
  } else CHECK(errno == EOPNOTSUPP);

  // Other kinds of files.
  CHECK(mkfifo("fifo", 0600) == 0);
  pid_t child = fork();
  if (child == 0) {
    fd = open("fifo", O_WRONLY);
    _exit(write(fd, "through", 7) == 7 ? 0 : 1);
  }
  fd = open("fifo", O_RDONLY);
  CHECK(read(fd, long_name, 100) == 7);
  close(fd);
  waitpid(child, NULL, 0);
  int sock = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
  CHECK(bind(sock, (struct sockaddr *)&address, sizeof address) == 0);
  CHECK(lstat("socket", &status) == 0 && S_ISSOCK(status.st_mode));
  FAILS(mknod("device", S_IFCHR | 0666, 0x103), EPERM);
  FAILS(mknod("device", S_IFBLK | 0666, 0x800), EPERM);

  // Users.
  CHECK(mkdir("private", 0700) == 0 && mkdir("open", 01777) == 0);
  make("private/file", 0644);
  make("readable", 0644);
  owners = chown("readable", 12, 34) == 0 && chown("readable", 0, 0) == 0;
  make("suid", 0777);
  CHECK(chmod("suid", 06777) == 0 && mode_of("suid") == 06777);
  as_user(1000, stranger);
  as_user(1001, other_stranger);
  if (owners) {
    CHECK(chown("readable", 12, 34) == 0 && stat("readable", &status) == 0 && status.st_uid == 12 && status.st_gid == 34);
    CHECK(mkdir("group", 02775) == 0 && chown("group", 0, 50) == 0 && chmod("group", 02775) == 0);
    make("group/file", 0644);
    CHECK(stat("group/file", &status) == 0 && status.st_gid == 50);
    CHECK(mkdir("group/below", 0755) == 0 && (mode_of("group/below") & 02000) != 0);
  }
  CHECK(chdir("/") == 0);
  return 0;
}

// ---- Locks between processes ----

static int try_lock(int fd, int type, long start, long length) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  return fcntl(fd, F_SETLK, &lock);
}

static int locks(const char *directory) {
  char path[4096];
  snprintf(path, sizeof path, "%s/locks", directory);
  int fd = open(path, O_RDWR | O_CREAT, 0644), pipes[2];
  CHECK(fd >= 0 && pipe(pipes) == 0);
  CHECK(try_lock(fd, F_WRLCK, 0, 10) == 0);
  pid_t child = fork();
  if (child == 0) {
    int own = open(path, O_RDWR);
    CHECK(own >= 0);
    errno = 0;
    CHECK(try_lock(own, F_RDLCK, 5, 1) == -1 && (errno == EAGAIN || errno == EACCES));
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 9, .l_len = 5};
    CHECK(fcntl(own, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 0 && lock.l_len == 10);
    CHECK(try_lock(own, F_WRLCK, 10, 0) == 0);
    CHECK(write(pipes[1], "x", 1) == 1);
    // Waits until the parent gives it up.
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    CHECK(fcntl(own, F_SETLKW, &lock) == 0);
    fflush(stdout);
    _exit(0);
  }
  char byte;
  CHECK(read(pipes[0], &byte, 1) == 1);
  errno = 0;
  CHECK(try_lock(fd, F_RDLCK, 100, 1) == -1 && (errno == EAGAIN || errno == EACCES));
  usleep(200000);
  CHECK(waitpid(child, NULL, WNOHANG) == 0);
  CHECK(try_lock(fd, F_UNLCK, 0, 10) == 0);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  // A process that ends gives its locks up.
  CHECK(try_lock(fd, F_WRLCK, 0, 0) == 0);
  CHECK(try_lock(fd, F_UNLCK, 0, 0) == 0);
  int other = open(path, O_RDWR);
  CHECK(flock(fd, LOCK_EX) == 0);
  errno = 0;
  CHECK(flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
  CHECK(flock(fd, LOCK_UN) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
  close(other);
  close(fd);
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int status = 2;
  if (strcmp(argv[1], "random") == 0 && argc == 5) {
    seed = state = strtoul(argv[3], NULL, 10) | 1;
    status = random_work(argv[2], strtoul(argv[4], NULL, 10));
  } else if (strcmp(argv[1], "rules") == 0) {
    status = rules(argv[2]);
  } else if (strcmp(argv[1], "locks") == 0) {
    status = locks(argv[2]);
  }
  if (status == 0) printf("fine\n");
  return status;
}
