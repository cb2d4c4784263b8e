/** TCP headers (RFC 9293, 3.1; window scaling: RFC 7323). */
import { readU16, readU32, writeU16, writeU32 } from '../ip/packet.ts';

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

export const TCP_SIZE = 20;
/** Offset of the checksum. */
export const TCP_CHECKSUM = 16;
/** Shift counts beyond this are read as this (RFC 7323, 2.3). */
const MAX_SCALE = 14;
/** What IPv4 hosts must take without being asked (RFC 9293, 3.7.1); IPv6 hosts take more. */
const DEFAULT_MSS = 536;
const LEAST_MSS = 88;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_SCALE = 3;

export interface Segment {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** As it stands in the header: not scaled. */
  readonly window: number;
  /** Offset of the data in the frame, and bytes. */
  readonly start: number;
  readonly length: number;
}

/** What a SYN says beside. */
export interface SynOptions {
  /** Largest segment that its sender takes, bytes of data. */
  readonly mss: number;
  /** Shift count of its sender's windows; undefined: it does not scale. */
  readonly scale: number | undefined;
}

/** Reads a header at `start` of a frame's first bytes; `length`: of header and data. Undefined: it is none. */
export function readSegment(head: Uint8Array, start: number, length: number): Segment | undefined {
  if (length < TCP_SIZE || head.length < start + TCP_SIZE) return undefined;
  const headerLength = ((head[start + 12] as number) >> 4) * 4;
  if (headerLength < TCP_SIZE || headerLength > length || head.length < start + headerLength) return undefined;
  return {
    sourcePort: readU16(head, start),
    destinationPort: readU16(head, start + 2),
    seq: readU32(head, start + 4),
    ack: readU32(head, start + 8),
    flags: head[start + 13] as number,
    window: readU16(head, start + 14),
    start: start + headerLength,
    length: length - headerLength,
  };
}

/** Reads the options of a SYN whose header starts at `from`. What is malformed ends them. */
export function readOptions(head: Uint8Array, from: number, end: number): SynOptions {
  let mss = DEFAULT_MSS;
  let scale: number | undefined;
  for (let at = from + TCP_SIZE; at < end; ) {
    const kind = head[at] as number;
    if (kind === OPTION_END) break;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    const size = at + 1 < end ? (head[at + 1] as number) : 0;
    if (size < 2 || at + size > end) break;
    if (kind === OPTION_MSS && size === 4) mss = Math.max(readU16(head, at + 2), LEAST_MSS);
    if (kind === OPTION_SCALE && size === 3) scale = Math.min(head[at + 2] as number, MAX_SCALE);
    at += size;
  }
  return { mss, scale };
}

/** Fills in a header of 20 bytes, without options; the checksum is zero. */
export function writeSegment(
  header: Uint8Array,
  { sourcePort, destinationPort, seq, ack, flags, window }: Omit<Segment, 'start' | 'length'>,
): void {
  writeU16(header, 0, sourcePort);
  writeU16(header, 2, destinationPort);
  writeU32(header, 4, seq);
  writeU32(header, 8, ack);
  header[12] = (header.length / 4) << 4;
  header[13] = flags;
  writeU16(header, 14, window);
  writeU32(header, TCP_CHECKSUM, 0);
}

/** The header of a SYN: writeSegment()'s, and the options after it. */
export function synHeader(mss: number, scale: number | undefined): Uint8Array {
  const header = new Uint8Array(scale === undefined ? TCP_SIZE + 4 : TCP_SIZE + 8);
  header.set([OPTION_MSS, 4, mss >> 8, mss & 0xff], TCP_SIZE);
  if (scale !== undefined) header.set([OPTION_SCALE, 3, scale, OPTION_NOP], TCP_SIZE + 4);
  return header;
}

/** The distance from `b` to `a`, of sequence numbers modulo 2^32: negative where a is before b. */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}
