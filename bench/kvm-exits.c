/*
 * The exit loops of `npm run bench -- kvm` in C: kvm-exits EVENT SECONDS. A guest of one page in real mode writes to a port, to an
 * address without memory, or to a port with an ioeventfd; prints the exits (or signals taken by the kernel) in a second.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static int must(int result, const char *what) {
  if (result >= 0) return result;
  perror(what);
  exit(1);
}

/* The same bytes as in bench/kvm.ts. */
static const uint8_t PORT[] = {0xe6, 0x80, 0xeb, 0xfc};
static const uint8_t MMIO[] = {0x67, 0xa2, 0, 0, 0, 0, 0xeb, 0xf8};
static const uint8_t EVENT[] = {0xb9, 0xe8, 0x03, 0xe6, 0x90, 0xe2, 0xfc, 0xe6, 0x80, 0xeb, 0xf5};

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  int mmio = !strcmp(argv[1], "mmio"), event = !strcmp(argv[1], "ioeventfd");
  int kvm = must(open("/dev/kvm", O_RDWR | O_CLOEXEC), "open"), vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  uint8_t *ram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct kvm_userspace_memory_region region = {.memory_size = 0x10000, .userspace_addr = (uintptr_t)ram};
  must(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
  must(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
  must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
  if (mmio) memcpy(ram, MMIO, sizeof MMIO);
  else if (event) memcpy(ram, EVENT, sizeof EVENT);
  else memcpy(ram, PORT, sizeof PORT);
  if (event) {
    struct kvm_ioeventfd bound = {.addr = 0x90, .len = 1, .fd = must(eventfd(0, EFD_NONBLOCK), "eventfd"), .flags = KVM_IOEVENTFD_FLAG_PIO};
    must(ioctl(vm, KVM_IOEVENTFD, &bound), "KVM_IOEVENTFD");
  }
  int vcpu = must(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
  struct kvm_run *run = mmap(NULL, must(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "size"), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
  struct kvm_sregs sregs;
  must(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
  sregs.cs.base = sregs.cs.selector = 0;
  sregs.ds.base = 0x200000;
  must(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
  struct kvm_regs regs = {.rflags = 2};
  must(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");

  uint64_t exits = 0, sum = 0;
  double start = now(), seconds = atof(argv[2]), end = start;
  do {
    for (int i = 0; i < (event ? 1 : 1000); i++, exits++) {
      must(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
      if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT) sum += *((uint8_t *)run + run->io.data_offset);
      else if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write) sum += run->mmio.data[0];
      else return 1;
    }
    end = now();
  } while (end - start < seconds);
  printf("%.0f\n", exits * (event ? 1000 : 1) / (end - start));
  return sum == ~0ull;
}
