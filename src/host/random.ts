/** Random bytes of the kernel: getrandom(2). */
import { check, libc, uninterrupted } from './ffi.ts';

const getrandom = libc('intptr_t getrandom(void *buf, size_t buflen, unsigned int flags)');

/** Fills memory of this process, by its address, with random bytes. Returns how many: all of up to 256, perhaps fewer of more. Throws OsError. */
export function fillRandom(address: number, length: number): number {
  return check(
    'getrandom',
    uninterrupted(() => getrandom(address, length, 0)),
  );
}
