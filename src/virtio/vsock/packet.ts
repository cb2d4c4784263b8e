/** Headers of packets: struct virtio_vsock_hdr (virtio 1.2, 5.10.6). */
import { CID_HOST, VIRTIO_VSOCK_TYPE_STREAM } from './constants.ts';

/** Bytes. */
export const HEADER_SIZE = 44;

// Offsets.
const SRC_CID = 0;
const DST_CID = 8;
const SRC_PORT = 16;
const DST_PORT = 20;
const LEN = 24;
const TYPE = 28;
const OP = 30;
const FLAGS = 32;
const BUF_ALLOC = 36;
const FWD_CNT = 40;

/** The two ends of a connection, by their ports. */
export interface Ports {
  readonly host: number;
  readonly guest: number;
}

/** What a driver said in a header. */
export interface GuestHeader extends Ports {
  /** Context identifiers: exact where they have 32 bits. */
  readonly srcCid: number;
  readonly dstCid: number;
  /** Bytes after the header. */
  readonly length: number;
  readonly type: number;
  readonly op: number;
  readonly flags: number;
  /** The sender's buffer for this connection, bytes, and how many that came through it have left it, modulo 2^32. */
  readonly bufAlloc: number;
  readonly fwdCnt: number;
}

/** What the device says in one. */
export interface HostHeader {
  readonly op: number;
  readonly length?: number;
  /** Of a stream, if not given. */
  readonly type?: number;
  readonly flags?: number;
  readonly bufAlloc?: number;
  readonly fwdCnt?: number;
}

function readCid(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

export function readHeader(bytes: Uint8Array): GuestHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_SIZE);
  return {
    srcCid: readCid(view, SRC_CID),
    dstCid: readCid(view, DST_CID),
    guest: view.getUint32(SRC_PORT, true),
    host: view.getUint32(DST_PORT, true),
    length: view.getUint32(LEN, true),
    type: view.getUint16(TYPE, true),
    op: view.getUint16(OP, true),
    flags: view.getUint32(FLAGS, true),
    bufAlloc: view.getUint32(BUF_ALLOC, true),
    fwdCnt: view.getUint32(FWD_CNT, true),
  };
}

/** A header from the host to the guest `cid`. */
export function writeHeader(cid: number, ports: Ports, header: HostHeader): Uint8Array {
  const view = new DataView(new ArrayBuffer(HEADER_SIZE));
  view.setUint32(SRC_CID, CID_HOST, true);
  view.setUint32(DST_CID, cid, true);
  view.setUint32(SRC_PORT, ports.host, true);
  view.setUint32(DST_PORT, ports.guest, true);
  view.setUint32(LEN, header.length ?? 0, true);
  view.setUint16(TYPE, header.type ?? VIRTIO_VSOCK_TYPE_STREAM, true);
  view.setUint16(OP, header.op, true);
  view.setUint32(FLAGS, header.flags ?? 0, true);
  view.setUint32(BUF_ALLOC, header.bufAlloc ?? 0, true);
  view.setUint32(FWD_CNT, header.fwdCnt ?? 0, true);
  return new Uint8Array(view.buffer);
}
