/** Fields of messages: little-endian integers and strings of bytes. */
import { EFBIG, EINVAL, OsError } from '../host/errno.ts';

/** A message that ends before its fields do: OsError EINVAL. */
export class WireReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes;
    this.#at = at;
  }

  #take(size: number): number {
    const at = this.#at;
    if (at + size > this.#bytes.length) throw new OsError('message', EINVAL);
    this.#at = at + size;
    return at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }

  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }

  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  u64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }

  i64(): bigint {
    return this.#bytes.readBigInt64LE(this.#take(8));
  }

  /** A place in a file, or its size; no file is larger than what a number holds exactly. */
  size(): number {
    const value = this.u64();
    if (value > Number.MAX_SAFE_INTEGER) throw new OsError('message', EFBIG);
    return Number(value);
  }

  /** Goes on behind so many bytes. */
  skip(size: number): void {
    this.#take(size);
  }

  /** Bytes that are valid as long as the message is. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** 9P's form: a length of 16 bits, then so many bytes. */
  string(): Uint8Array {
    return this.bytes(this.u16());
  }

  /** FUSE's form: up to a NUL. */
  text(): Uint8Array {
    const end = this.#bytes.indexOf(0, this.#at);
    if (end < 0) throw new OsError('message', EINVAL);
    const text = this.bytes(end - this.#at);
    this.#at++;
    return text;
  }
}

export class WireWriter {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** What was written so far. */
  get written(): Buffer {
    return this.#bytes.subarray(0, this.#at);
  }

  get length(): number {
    return this.#at;
  }

  /** Goes back, or on, to a place. */
  moveTo(at: number): this {
    this.#at = at;
    return this;
  }

  u8(value: number): this {
    this.#at = this.#bytes.writeUInt8(value, this.#at);
    return this;
  }

  u16(value: number): this {
    this.#at = this.#bytes.writeUInt16LE(value, this.#at);
    return this;
  }

  u32(value: number): this {
    this.#at = this.#bytes.writeUInt32LE(value, this.#at);
    return this;
  }

  i32(value: number): this {
    this.#at = this.#bytes.writeInt32LE(value, this.#at);
    return this;
  }

  u64(value: bigint): this {
    this.#at = this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#at);
    return this;
  }

  /** Bytes that mean nothing. */
  zeroes(count: number): this {
    this.#bytes.fill(0, this.#at, this.#at + count);
    this.#at += count;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
    return this;
  }

  /** 9P's form of a string. */
  string(value: Uint8Array): this {
    return this.u16(value.length).bytes(value);
  }
}
