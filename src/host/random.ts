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

function fill<T extends NodeJS.ArrayBufferView>(words: T): T {
  check(
    'getrandom',
    uninterrupted(() => getrandom(words, words.byteLength, 0)),
  );
  return words;
}

/** A random number of 64 bits. Throws OsError. */
export function randomU64(): bigint {
  return fill(new BigUint64Array(1))[0] as bigint;
}

/** A random number of 32 bits. Unlike node:crypto it opens no file at its first use: it works in a jail. Throws OsError. */
export function randomU32(): number {
  return fill(new Uint32Array(1))[0] as number;
}
