import koffi from 'koffi';

/** Memory of this process by FFI: mmap(2) at fixed addresses. */

export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const PROT_EXEC = 4;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_FIXED_NOREPLACE = 0x100000;

const libc = koffi.load(null);
const mmap = libc.func(
  'intptr_t mmap(intptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)',
);
const mprotect = libc.func('int mprotect(intptr_t address, size_t length, int protection)');

/** Fresh zeroed memory at `address`; throws when something is mapped there. Returns its bytes. */
export function mapAt(address: number, size: number, protection: number): Uint8Array<ArrayBuffer> {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  const result = Number(mmap(address, size, protection, flags, -1, 0));
  if (result !== address) throw new Error(`mmap of ${size} bytes at 0x${address.toString(16)}: errno ${koffi.errno()}`);
  return new Uint8Array(koffi.view(BigInt(address), size));
}

export function protect(address: number, size: number, protection: number): void {
  if (mprotect(address, size, protection) !== 0) throw new Error(`mprotect: errno ${koffi.errno()}`);
}
