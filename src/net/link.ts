/** The cable between the guest and the network: what the device of the guest offers to it, and the other way round. */
import type { HostRange } from '../disk/iovec.ts';

/** What the guest's driver takes off the network's hands (virtio 1.2, 5.1.3). */
export interface Offloads {
  /** A frame may leave its TCP or UDP checksum to the driver. */
  readonly checksum: boolean;
  /** TCP segments larger than the MTU, on IPv4 and on IPv6. */
  readonly tso4: boolean;
  readonly tso6: boolean;
}

export const NO_OFFLOADS: Offloads = { checksum: false, tso4: false, tso6: false };

/** What the guest is told of a frame beside its bytes: the fields of struct virtio_net_hdr that are not zero. */
export interface FrameInfo {
  /** Offset of the TCP or UDP header, whose checksum field holds the pseudo-header's sum; undefined: the checksum is whole. */
  readonly checksumStart: number | undefined;
  /** Offset of the checksum field in that header. */
  readonly checksumOffset: number;
  /** Bytes of data in each TCP segment, where the frame holds more than one; else 0. */
  readonly segmentSize: number;
  /** All headers. */
  readonly headerLength: number;
  readonly ipv6: boolean;
}

/** The way to the guest. */
export interface Link {
  /** As negotiated; may change when the device is reset. */
  readonly offloads: Offloads;
  /** Gives the guest a frame: its pieces one after the other. False: there is no room, and nothing was sent. */
  send(pieces: readonly Uint8Array[], info: FrameInfo): boolean;
}

/** A frame from the guest. */
export interface GuestFrame {
  /** Bytes of the whole frame. */
  readonly length: number;
  /** A copy of the first bytes: HEAD_SIZE of them, or all. */
  readonly head: Uint8Array;
  /** The driver left the TCP or UDP checksum to the device: there is none to check. */
  readonly partialChecksum: boolean;
  /** Bytes in their place, where the guest can still change them. The range is inside the frame. */
  ranges(offset: number, length: number): readonly HostRange[];
  /** A copy of the whole frame. */
  bytes(): Uint8Array;
}

/** Holds every header of a TCP segment: Ethernet, IPv6 with a few extensions or IPv4 with all options, TCP with all options. */
export const HEAD_SIZE = 256;

/** Largest frame: what TSO makes of an IP packet of 64 KiB. */
export const MAX_FRAME = 14 + 65535 + 40;
