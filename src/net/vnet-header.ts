/** struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6): what goes before each frame, on a virtio queue and on a tap. */
import type { FrameInfo } from './link.ts';

export const VNET_HEADER_SIZE = 12;

const NEEDS_CSUM = 1;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;

// Offsets.
const GSO_TYPE = 1;
const HDR_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;
const NUM_BUFFERS = 10;

/** Fills in the header of a frame to the guest, which is in one buffer. */
export function writeVnetHeader(header: DataView, info: FrameInfo): void {
  const { checksumStart, checksumOffset, segmentSize, headerLength, ipv6 } = info;
  header.setUint8(0, checksumStart === undefined ? 0 : NEEDS_CSUM);
  header.setUint8(GSO_TYPE, segmentSize === 0 ? 0 : ipv6 ? GSO_TCPV6 : GSO_TCPV4);
  header.setUint16(HDR_LEN, segmentSize === 0 ? 0 : headerLength, true);
  header.setUint16(GSO_SIZE, segmentSize, true);
  header.setUint16(CSUM_START, checksumStart ?? 0, true);
  header.setUint16(CSUM_OFFSET, checksumStart === undefined ? 0 : checksumOffset, true);
  header.setUint16(NUM_BUFFERS, 1, true);
}

/** Does the header of a frame of the guest say that its checksum is left to others? */
export function leavesChecksum(header: Uint8Array): boolean {
  return ((header[0] as number) & NEEDS_CSUM) !== 0;
}
