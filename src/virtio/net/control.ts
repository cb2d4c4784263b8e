/** The control queue (virtio 1.2, 5.1.6.5). */
import type { Chain } from '../chain.ts';
import type { Queue } from '../queue.ts';
import * as N from './constants.ts';
import type { FrameFilter } from './filter.ts';

/** Longest command: two tables of 1,000 addresses. */
const MAX_COMMAND = 16 * 1024;
const HEADER_SIZE = 2;

export interface ControlTarget {
  readonly filter: FrameFilter;
  /** Uses so many pairs of queues; false: it cannot. */
  setPairs(count: number): boolean;
}

/** Serves the commands that wait. */
export function serveControl(queue: Queue, target: ControlTarget): void {
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
    const ack = obey(chain, target) ? N.VIRTIO_NET_OK : N.VIRTIO_NET_ERR;
    queue.push(chain, chain.write(Uint8Array.of(ack)));
  }
  queue.flush();
}

function obey(chain: Chain, { filter, setPairs }: ControlTarget): boolean {
  if (chain.readableLength < HEADER_SIZE || chain.readableLength > MAX_COMMAND) return false;
  const command = new Uint8Array(chain.readableLength);
  chain.read(command);
  const data = command.subarray(HEADER_SIZE);
  switch (((command[0] as number) << 8) | (command[1] as number)) {
    case code(N.VIRTIO_NET_CTRL_RX, N.VIRTIO_NET_CTRL_RX_PROMISC):
      if (data.length === 1) filter.promiscuous = data[0] !== 0;
      return data.length === 1;
    case code(N.VIRTIO_NET_CTRL_RX, N.VIRTIO_NET_CTRL_RX_ALLMULTI):
      if (data.length === 1) filter.allMulticast = data[0] !== 0;
      return data.length === 1;
    case code(N.VIRTIO_NET_CTRL_MAC, N.VIRTIO_NET_CTRL_MAC_TABLE_SET):
      return filter.setTables(data);
    case code(N.VIRTIO_NET_CTRL_MAC, N.VIRTIO_NET_CTRL_MAC_ADDR_SET):
      if (data.length === 6) filter.mac = data;
      return data.length === 6;
    case code(N.VIRTIO_NET_CTRL_MQ, N.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET):
      return data.length === 2 && setPairs((data[0] as number) | ((data[1] as number) << 8));
    default:
      return false;
  }
}

function code(commandClass: number, command: number): number {
  return (commandClass << 8) | command;
}
