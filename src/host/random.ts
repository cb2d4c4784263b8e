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

/** A random number of 64 bits. Throws OsError. */
export function randomU64(): bigint {
  return (BigInt(randomU32()) << 32n) | BigInt(randomU32());
}

/** A random number of 32 bits. Unlike node:crypto it opens no file at its first use: it works in a jail. Throws OsError. */
export function randomU32(): number {
  const word = new Uint32Array(1);
  check(
    'getrandom',
    uninterrupted(() => getrandom(word, 4, 0)),
  );
  return word[0] as number;
}
