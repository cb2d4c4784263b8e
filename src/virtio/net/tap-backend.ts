/** The network device on a tap: frames go between its queues and the tap's, with the same headers before them. */
import { EPOLLET, EPOLLIN } from '../../host/epoll.ts';
import { EBADFD, EIO } from '../../host/errno.ts';
import { setOffloads } from '../../host/tap.ts';
import { readDescriptor, writeRanges } from '../../host/vector-io.ts';
import { MAX_FRAME } from '../../net/link.ts';
import { VNET_HEADER_SIZE } from '../../net/vnet-header.ts';
import type { Backend, BackendHost, Session } from '../backend.ts';
import { hasFeature } from '../constants.ts';
import type { Queue } from '../queue.ts';
import * as N from './constants.ts';
import { serveControl } from './control.ts';
import { FrameFilter } from './filter.ts';
import { tapOffloads } from './offloads.ts';
import { deliver } from './receive.ts';
import type { TapParams } from './tap-model.ts';
import { TapQueues } from './tap-queues.ts';
import { holdsFrame } from './transmit.ts';

/** Frames that are moved in a turn in one direction. */
const MAX_BATCH = 256;

/** Does the tap's answer tell that it is down, or that it has been removed? */
const isOut = (result: number): boolean => result === -EIO || result === -EBADFD;

/** A pair of queues and the tap's queue that they belong to. */
interface Pair {
  readonly index: number;
  readonly fd: number;
  receive: Queue | undefined;
  transmit: Queue | undefined;
  /** A frame that the driver had no buffers for: the header is at its start. */
  kept: Uint8Array | undefined;
  /** The tap may have a frame. */
  readable: boolean;
}

export function create(host: BackendHost): Backend {
  return new TapBackend(host);
}

class TapBackend implements Backend {
  readonly #host: BackendHost;
  readonly #pairs: readonly Pair[];
  readonly #tapQueues: TapQueues;
  readonly #mac: Uint8Array;
  readonly #buffer = new Uint8Array(VNET_HEADER_SIZE + MAX_FRAME);
  #filter: FrameFilter;
  #mergeable = false;
  /** The tap is down, or gone. */
  #down = false;

  constructor(host: BackendHost) {
    this.#host = host;
    this.#mac = Uint8Array.from((host.params as unknown as TapParams).mac);
    this.#filter = new FrameFilter(this.#mac);
    this.#tapQueues = new TapQueues(host.fds);
    this.#pairs = host.fds.map((fd, index) => ({
      index,
      fd,
      receive: undefined,
      transmit: undefined,
      kept: undefined,
      readable: true,
    }));
    for (const pair of this.#pairs) {
      host.loop.watch(pair.fd, EPOLLIN | EPOLLET, () => {
        pair.readable = true;
        this.#receive(pair);
      });
    }
  }

  start({ features, queues }: Session): void {
    const has = (bit: bigint): boolean => hasFeature(features, bit);
    this.#mergeable = has(N.VIRTIO_NET_F_MRG_RXBUF);
    this.#filter = new FrameFilter(this.#mac);
    const several = has(N.VIRTIO_NET_F_MQ);
    const count = several ? this.#pairs.length : 1;
    // Until the driver says something else.
    this.#tapQueues.use(1);
    this.#pairs.slice(0, count).forEach((pair, i) => {
      setOffloads(pair.fd, tapOffloads(features));
      const [receive, transmit] = [queues[2 * i], queues[2 * i + 1]];
      pair.receive = receive;
      pair.transmit = transmit;
      if (receive !== undefined) receive.onNotify = () => this.#receive(pair);
      if (transmit !== undefined) transmit.onNotify = () => this.#transmit(pair, transmit);
    });
    // Without several pairs it follows the first (5.1.2).
    const control = queues[2 * count];
    if (control === undefined) return;
    const target = { filter: this.#filter, setPairs: (pairs: number) => this.#usePairs(pairs, count) };
    control.onNotify = () => serveControl(control, target);
  }

  reset(): void {
    for (const pair of this.#pairs) pair.receive = pair.transmit = pair.kept = undefined;
  }

  #usePairs(pairs: number, most: number): boolean {
    if (pairs < 1 || pairs > most) return false;
    this.#tapQueues.use(pairs);
    for (const pair of this.#pairs) this.#receive(pair);
    return true;
  }

  #inUse({ index }: Pair): boolean {
    return index < this.#tapQueues.used;
  }

  #receive(pair: Pair): void {
    const queue = pair.receive;
    if (queue === undefined || !this.#inUse(pair)) return;
    if (pair.kept !== undefined) {
      if (!this.#deliver(queue, pair.kept)) return;
      pair.kept = undefined;
    }
    let left = MAX_BATCH;
    for (; left > 0 && pair.readable; left--) {
      const length = readDescriptor(pair.fd, this.#buffer);
      if (length < VNET_HEADER_SIZE) {
        pair.readable = false;
        if (isOut(length)) this.#setLink(false);
        return;
      }
      this.#setLink(true);
      const frame = this.#buffer.subarray(0, length);
      if (!this.#filter.accepts(frame.subarray(VNET_HEADER_SIZE)) || this.#deliver(queue, frame)) continue;
      pair.kept = frame.slice();
      return;
    }
    if (pair.readable) this.#host.loop.after(0, () => this.#receive(pair));
  }

  #deliver(queue: Queue, frame: Uint8Array): boolean {
    const header = frame.subarray(0, VNET_HEADER_SIZE);
    return deliver(queue, header, [frame.subarray(VNET_HEADER_SIZE)], this.#mergeable);
  }

  #transmit(pair: Pair, queue: Queue): void {
    if (pair.transmit !== queue) return;
    let left = MAX_BATCH;
    for (; left > 0; left--) {
      const chain = queue.pop();
      if (chain === undefined) break;
      // What the tap does not take is lost, as on a cable.
      if (holdsFrame(chain) && this.#inUse(pair)) this.#setLink(!isOut(writeRanges(pair.fd, chain.readable)));
      queue.push(chain, 0);
    }
    queue.flush();
    if (left === 0) this.#host.loop.after(0, () => this.#transmit(pair, queue));
  }

  /** Tells the driver that the cable is in, or out. */
  #setLink(up: boolean): void {
    if (up !== this.#down) return;
    this.#down = !up;
    this.#host.changeConfig(N.CONFIG_STATUS, Uint8Array.of(up ? N.VIRTIO_NET_S_LINK_UP : 0, 0));
  }
}
