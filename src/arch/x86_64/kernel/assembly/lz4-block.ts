// The inner loop of LZ4 (block format), in AssemblyScript: build/lz4.wasm. Copies may write up to 15 bytes more than
// asked for, below the end of the room that the caller leaves behind the output.

const MIN_MATCH: usize = 4;

/** A length that goes on over several bytes runs over the end. */
const BAD_LENGTH: i32 = -1;
const BAD_LITERALS: i32 = -2;
const CUT_OFF: i32 = -3;
const BAD_MATCH: i32 = -4;

/** Bytes of output of one call, about: so that engines come to a better version of the function soon. */
const ENOUGH: usize = 65536;

/** Where the input goes on. */
export let at: usize = 0;

/** The rest of a length that began with 15; all ones: it has no end. */
function more(end: usize): usize {
  let sum: usize = 0;
  while (at < end) {
    const byte = <usize>load<u8>(at++);
    sum += byte;
    if (byte != 255) return sum;
  }
  return <usize>-1;
}

/** Copies 16 bytes at a time. */
function copy(to: usize, from: usize, length: usize): void {
  for (const end = to + length; to < end; to += 16, from += 16) {
    store<u64>(to, load<u64>(from));
    store<u64>(to, load<u64>(from, 8), 8);
  }
}

/**
 * Unpacks some of the block whose input goes on at [from, end), whose output began at `start` and goes on at `to`, up to
 * `limit`. Returns the address after the last byte written, with the rest of the input at `at`; or an error.
 */
export function decode_some(from: usize, end: usize, start: usize, to: usize, limit: usize): i32 {
  const enough = to + ENOUGH;
  at = from;
  while (at < end && to < enough) {
    const token = load<u8>(at++);
    let literals = <usize>(token >> 4);
    if (literals == 15) {
      const rest = more(end);
      if (rest == <usize>-1) return BAD_LENGTH;
      literals += rest;
    }
    if (literals > end - at || literals > limit - to) return BAD_LITERALS;
    copy(to, at, literals);
    at += literals;
    to += literals;
    // The last sequence of a block has no match.
    if (at == end) break;
    if (end - at < 2) return CUT_OFF;
    const offset = <usize>load<u16>(at);
    at += 2;
    let length = <usize>(token & 15);
    if (length == 15) {
      const rest = more(end);
      if (rest == <usize>-1) return BAD_LENGTH;
      length += rest;
    }
    length += MIN_MATCH;
    if (offset == 0 || offset > to - start || length > limit - to) return BAD_MATCH;
    if (offset >= 16) {
      copy(to, to - offset, length);
      to += length;
    } else {
      // An overlapping match repeats bytes that it has just written.
      for (const stop = to + length; to < stop; to++) store<u8>(to, load<u8>(to - offset));
    }
  }
  return <i32>to;
}
