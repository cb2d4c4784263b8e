/** Giving up capabilities(7), which belong to threads. */

import { constants } from 'node:os';
import { addressOf, check, libc } from './ffi.ts';
import { signalThread } from './threads.ts';

const SYS_prctl = 157;
const SYS_capset = 126;
const PR_SET_PDEATHSIG = 1;
const PR_CAPBSET_DROP = 24;
const LINUX_CAPABILITY_VERSION_3 = 0x2008_0522;
const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const SA_RESTART = 0x1000_0000;
/** Bytes of libc's struct sigaction: handler, mask of 128 bytes, flags, restorer. */
const SIGACTION_BYTES = 152;
const SA_FLAGS_OFFSET = 136;
const PAGE = 4096;
/** Where in the page capset()'s structures are: the header (u32 version, int pid), then two of u32 effective, permitted, inheritable. */
const HEADER = 3072;
const EFFECTIVE = 8;
const PERMITTED = 12;
/** A thread that has not taken the signal by then never will. Milliseconds. */
const TIMEOUT = 10_000;

const mmap = libc('intptr_t mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)');
const mprotect = libc('int mprotect(void *addr, size_t length, int prot)');
const memcpy = libc('intptr_t memcpy(void *dest, const void *src, size_t n)');
const usleep = libc('int usleep(unsigned int usec)');
const sigaction = libc('int sigaction(int signum, const void *act, void *oldact)');

/** 64 bits, little-endian. */
const bytesOf = (value: bigint): number[] => [...new Uint8Array(new BigUint64Array([value]).buffer)];

/** A system call of three arguments in machine code (x86-64). */
function callCode(number: number, args: readonly [bigint, bigint, bigint]): number[] {
  const [rdi, rsi, rdx] = args.map(bytesOf);
  return [
    ...[0x48, 0xbf, ...(rdi as number[])],
    ...[0x48, 0xbe, ...(rsi as number[])],
    ...[0x48, 0xba, ...(rdx as number[])],
    ...[0x4d, 0x31, 0xd2], // xor r10, r10
    ...[0x4d, 0x31, 0xc0], // xor r8, r8
    ...[0xb8, ...new Uint8Array(new Uint32Array([number]).buffer)],
    ...[0x0f, 0x05],
  ];
}

/**
 * Takes all capabilities but `keep` from the threads of these numbers, which are to be all that the process has, and `bounding` from
 * the bounding sets; capabilities are numbers below 32. From then on the process ends with its parent: a thread that changes users is
 * forgotten by that, the others are not. The kernel lets a thread change its own only, libc offers nothing for the others, and V8's threads
 * run no JavaScript: each of them is made to run a signal handler, some system calls in machine code on a page of its own. x86-64
 * only. Throws when a thread has kept one.
 */
export function dropCapabilities(
  { keep, bounding }: { readonly keep: readonly number[]; readonly bounding: readonly number[] },
  tids: readonly number[],
): void {
  if (process.arch !== 'x64') throw new Error(`capabilities cannot be dropped on ${process.arch} yet`);
  const done = new Int32Array(1);
  const page = check('mmap', mmap(null, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const content = new Uint8Array(PAGE);
  content.set([
    ...callCode(SYS_prctl, [BigInt(PR_SET_PDEATHSIG), BigInt(constants.signals.SIGKILL), 0n]),
    ...bounding.flatMap((capability) => callCode(SYS_prctl, [BigInt(PR_CAPBSET_DROP), BigInt(capability), 0n])),
    ...callCode(SYS_capset, [BigInt(page + HEADER), BigInt(page + HEADER + 8), 0n]),
    ...[0x85, 0xc0], // test eax, eax
    ...[0x75, 0x0d], // jnz to the ret
    ...[0x48, 0xb8, ...bytesOf(addressOf(done.buffer))], // mov rax, done
    ...[0xf0, 0xff, 0x00], // lock inc dword [rax]
    0xc3, // ret
  ]);
  const structures = new DataView(content.buffer, HEADER);
  structures.setUint32(0, LINUX_CAPABILITY_VERSION_3, true);
  const kept = keep.reduce((bits, capability) => bits | (1 << capability), 0);
  structures.setInt32(EFFECTIVE, kept, true);
  structures.setInt32(PERMITTED, kept, true);
  memcpy(page, content, PAGE);
  check('mprotect', mprotect(page, PAGE, PROT_READ | PROT_EXEC));

  const { SIGUSR2 } = constants.signals;
  const action = new DataView(new ArrayBuffer(SIGACTION_BYTES));
  action.setBigUint64(0, BigInt(page), true);
  action.setInt32(SA_FLAGS_OFFSET, SA_RESTART, true);
  const old = new Uint8Array(SIGACTION_BYTES);
  check('sigaction', sigaction(SIGUSR2, action, old));
  for (const tid of tids) signalThread(tid, SIGUSR2);
  const deadline = Date.now() + TIMEOUT;
  while (Atomics.load(done, 0) < tids.length) {
    if (Date.now() > deadline) throw new Error('a thread keeps all its capabilities');
    usleep(100);
  }
  // The page stays: a thread that has counted itself still has the handler's last instruction before it.
  check('sigaction', sigaction(SIGUSR2, old, null));
}
