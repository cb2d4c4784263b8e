/** Putting IP packets together that the guest sends in fragments (RFC 791, RFC 8200 4.5). Overlaps are dropped whole (RFC 5722). */
import { formatAddress } from './address.ts';
import { ETHERNET_SIZE, type IpPacket } from './ip/packet.ts';
import type { GuestFrame } from './link.ts';
import { MemoryFrame } from './memory-frame.ts';

/** Packets that wait for fragments at the same time, and for how long, ms. */
const MAX_PACKETS = 16;
const PATIENCE = 15_000;
const MAX_FRAGMENTS = 64;
/** Data of a packet. */
const MAX_LENGTH = 65535;

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

interface Partial {
  readonly since: number;
  readonly pieces: Piece[];
  /** Bytes of all, known from the last piece. */
  total: number | undefined;
}

/** A packet that is whole: what its header says, and the frame it could have come in. */
export interface WholePacket {
  readonly packet: IpPacket;
  readonly frame: GuestFrame;
}

export class Reassembly {
  /** By what makes fragments belong together, the oldest first. */
  readonly #partial = new Map<string, Partial>();

  /** Takes a fragment; the packet, when it was the last to come. */
  add(packet: IpPacket, frame: GuestFrame, now: number): WholePacket | undefined {
    const { fragment } = packet;
    if (fragment === undefined) return undefined;
    const { source, destination, protocol } = packet;
    const key = `${formatAddress(source)} ${formatAddress(destination)} ${protocol} ${fragment.id}`;
    let partial = this.#partial.get(key);
    if (partial !== undefined && now - partial.since > PATIENCE) {
      this.#partial.delete(key);
      partial = undefined;
    }
    if (partial === undefined) {
      partial = { since: now, pieces: [], total: undefined };
      this.#partial.set(key, partial);
      if (this.#partial.size > MAX_PACKETS) this.#partial.delete(this.#partial.keys().next().value as string);
    }
    const bytes = frame.bytes().slice(packet.start, packet.start + packet.length);
    if (!fits(partial, fragment.offset, bytes.length, fragment.more)) {
      this.#partial.delete(key);
      return undefined;
    }
    partial.pieces.push({ offset: fragment.offset, bytes });
    if (!fragment.more) partial.total = fragment.offset + bytes.length;
    const have = partial.pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);
    if (have !== partial.total) return undefined;
    this.#partial.delete(key);
    return whole(packet, frame, partial, have);
  }

  forget(): void {
    this.#partial.clear();
  }
}

function fits({ pieces, total }: Partial, offset: number, length: number, more: boolean): boolean {
  const end = offset + length;
  if (length === 0 || end > MAX_LENGTH || pieces.length >= MAX_FRAGMENTS || (more && length % 8 !== 0)) return false;
  if (total !== undefined && (!more || end > total)) return false;
  return (
    pieces.every((piece) => offset >= piece.offset + piece.bytes.length || end <= piece.offset) &&
    (more || pieces.every((piece) => piece.offset + piece.bytes.length <= offset))
  );
}

function whole(packet: IpPacket, frame: GuestFrame, { pieces }: Partial, length: number): WholePacket {
  // Headers above read the hardware addresses, and what is at `start`.
  const bytes = new Uint8Array(ETHERNET_SIZE + length);
  bytes.set(frame.head.subarray(0, ETHERNET_SIZE));
  for (const piece of pieces) bytes.set(piece.bytes, ETHERNET_SIZE + piece.offset);
  return {
    packet: { ...packet, start: ETHERNET_SIZE, length, fragment: undefined },
    frame: new MemoryFrame(bytes, false),
  };
}
