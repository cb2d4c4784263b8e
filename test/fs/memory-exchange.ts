/** A request in this process's memory, as a driver would have it in the guest's: in pieces. */
import { type HostRange, rangeOf } from '../../src/disk/iovec.ts';
import type { Exchange } from '../../src/fs/exchange.ts';

/** Cuts at these lengths, then where they begin again. */
function pieces(buffer: Buffer, cuts: readonly number[]): Buffer[] {
  const parts: Buffer[] = [];
  for (let at = 0, i = 0; at < buffer.length; i++) {
    const length = cuts[i % cuts.length] ?? buffer.length;
    parts.push(buffer.subarray(at, at + length));
    at += length;
  }
  return parts;
}

function copy(
  parts: readonly Buffer[],
  offset: number,
  length: number,
  each: (part: Buffer, at: number) => void,
): number {
  let skip = offset;
  let done = 0;
  for (const part of parts) {
    const piece = part.subarray(skip, skip + length - done);
    skip = Math.max(skip - part.length, 0);
    if (piece.length > 0) each(piece, done);
    done += piece.length;
  }
  return done;
}

export class MemoryExchange implements Exchange {
  readonly readable: readonly HostRange[];
  readonly writable: readonly HostRange[];
  readonly readableLength: number;
  readonly writableLength: number;
  /** What the answer was written to. */
  readonly answer: Buffer;
  readonly #in: Buffer[];
  readonly #out: Buffer[];

  constructor(request: Uint8Array, room: number, cuts: readonly number[] = [1000, 4096, 7]) {
    this.answer = Buffer.alloc(room);
    this.#in = pieces(Buffer.from(request), cuts);
    this.#out = pieces(this.answer, cuts);
    this.readable = this.#in.map(rangeOf);
    this.writable = this.#out.map(rangeOf);
    this.readableLength = request.length;
    this.writableLength = room;
  }

  read(target: Uint8Array, offset = 0): number {
    return copy(this.#in, offset, target.length, (piece, at) => target.set(piece, at));
  }

  write(source: Uint8Array, offset = 0): number {
    return copy(this.#out, offset, source.length, (piece, at) => piece.set(source.subarray(at, at + piece.length)));
  }
}
