/**
 * LZ4 as Linux packs its kernel with it: the legacy frame (magic 0x184c2102), blocks of up to 8 MiB uncompressed,
 * each preceded by its compressed size in 32 bits. LZ4 frame format 1.6, "Legacy frame", and LZ4 block format.
 */
import { KernelError } from './error.ts';

/** Most bytes a block of the legacy frame unpacks to. */
const MAX_BLOCK = 8 << 20;
const MIN_MATCH = 4;

function corrupt(what: string): KernelError {
  return new KernelError(
    'corrupt-payload',
    `the kernel's LZ4 payload is damaged (${what}): fetch or build the kernel again`,
  );
}

/** Unpacks one block into `out` from `start` on; returns the index after the last byte written. */
function decodeBlock(input: Uint8Array, from: number, end: number, out: Uint8Array, start: number): number {
  const limit = Math.min(out.length, start + MAX_BLOCK);
  let ip = from;
  let op = start;
  while (ip < end) {
    const token = input[ip++] as number;
    let literals = token >> 4;
    if (literals === 15) {
      let byte: number;
      do {
        if (ip >= end) {
          throw corrupt('a length runs over the end of its block');
        }
        byte = input[ip++] as number;
        literals += byte;
      } while (byte === 255);
    }
    if (literals > end - ip || literals > limit - op) {
      throw corrupt('literals run over the end of their block');
    }
    if (literals <= 24) {
      for (let i = 0; i < literals; i++) {
        out[op + i] = input[ip + i] as number;
      }
    } else {
      out.set(input.subarray(ip, ip + literals), op);
    }
    ip += literals;
    op += literals;
    if (ip === end) {
      return op; // the last sequence of a block has no match
    }
    if (end - ip < 2) {
      throw corrupt('a match runs over the end of its block');
    }
    const offset = (input[ip] as number) | ((input[ip + 1] as number) << 8);
    ip += 2;
    let length = token & 15;
    if (length === 15) {
      let byte: number;
      do {
        if (ip >= end) {
          throw corrupt('a length runs over the end of its block');
        }
        byte = input[ip++] as number;
        length += byte;
      } while (byte === 255);
    }
    length += MIN_MATCH;
    if (offset === 0 || offset > op - start || length > limit - op) {
      throw corrupt('a match points outside its block');
    }
    if (length > 64 && offset >= length) {
      out.copyWithin(op, op - offset, op - offset + length);
    } else {
      // An overlapping match repeats bytes that it has just written.
      for (let i = op, stop = op + length; i < stop; i++) {
        out[i] = out[i - offset] as number;
      }
    }
    op += length;
  }
  return op;
}

/**
 * Unpacks a legacy LZ4 frame. `input` starts with the magic number; bytes after the frame are not looked at once
 * `size` bytes are there. Throws KernelError when the result is not exactly `size` bytes.
 */
export function decompressLz4Legacy(input: Uint8Array, size: number): Uint8Array {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const out = new Uint8Array(size);
  let ip = 4;
  let op = 0;
  while (op < size) {
    if (input.length - ip < 4) {
      throw corrupt('it ends early');
    }
    const length = view.getUint32(ip, true);
    ip += 4;
    if (length > input.length - ip) {
      throw corrupt('a block is longer than the payload');
    }
    const end = decodeBlock(input, ip, ip + length, out, op);
    if (end === op) {
      throw corrupt('an empty block');
    }
    op = end;
    ip += length;
  }
  return out;
}
