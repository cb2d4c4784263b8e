/** Frames into the driver's receive buffers (virtio 1.2, 5.1.6.4). */
import { VNET_HEADER_SIZE } from '../../net/vnet-header.ts';
import type { Chain } from '../chain.ts';
import type { Queue } from '../queue.ts';

/** Offset of the header's field num_buffers. */
const NUM_BUFFERS = 10;

/**
 * Gives the driver a frame: its header (struct virtio_net_hdr_v1), then its pieces. `mergeable`: it may lie in several buffers.
 * False: there are not enough buffers yet. A frame that can never fit is dropped.
 */
export function deliver(queue: Queue, header: Uint8Array, pieces: readonly Uint8Array[], mergeable: boolean): boolean {
  let length = VNET_HEADER_SIZE;
  for (const piece of pieces) length += piece.length;
  const first = queue.pop();
  if (first === undefined) return false;
  if (first.writableLength < VNET_HEADER_SIZE || (!mergeable && first.writableLength < length)) {
    queue.push(first, 0);
    queue.flush();
    return true;
  }
  const chains = [first];
  for (let room = first.writableLength; room < length; ) {
    const chain = queue.pop();
    if (chain === undefined) {
      for (let i = 0; i < chains.length; i++) queue.unpop();
      return false;
    }
    chains.push(chain);
    room += chain.writableLength;
  }
  header[NUM_BUFFERS] = chains.length;
  header[NUM_BUFFERS + 1] = chains.length >> 8;
  fill(queue, chains, [header, ...pieces]);
  queue.flush();
  return true;
}

function fill(queue: Queue, chains: readonly Chain[], pieces: readonly Uint8Array[]): void {
  let piece = 0;
  let skip = 0;
  for (const chain of chains) {
    let written = 0;
    while (piece < pieces.length) {
      const bytes = pieces[piece] as Uint8Array;
      const count = chain.write(skip === 0 ? bytes : bytes.subarray(skip), written);
      written += count;
      skip += count;
      if (skip < bytes.length) break;
      piece++;
      skip = 0;
    }
    queue.push(chain, written);
  }
}
