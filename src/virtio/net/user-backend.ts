/** The network device on the user-mode network. */
import { type FrameInfo, type Link, NO_OFFLOADS, type Offloads } from '../../net/link.ts';
import { UserNetwork } from '../../net/network.ts';
import { VNET_HEADER_SIZE, writeVnetHeader } from '../../net/vnet-header.ts';
import type { Backend, BackendHost, Session } from '../backend.ts';
import { hasFeature } from '../constants.ts';
import type { Queue } from '../queue.ts';
import * as N from './constants.ts';
import { serveControl } from './control.ts';
import { FrameFilter } from './filter.ts';
import { deliver } from './receive.ts';
import { ChainFrame, holdsFrame, SCRATCH_SIZE } from './transmit.ts';
import type { UserParams } from './user-model.ts';

/** Frames that are taken in a turn: the network's sockets want theirs, too. */
const MAX_BATCH = 256;

export function create(host: BackendHost): Backend {
  return new UserBackend(host);
}

class UserBackend implements Backend, Link {
  offloads: Offloads = NO_OFFLOADS;
  readonly #host: BackendHost;
  readonly #network: UserNetwork;
  readonly #mac: Uint8Array;
  readonly #header = new Uint8Array(VNET_HEADER_SIZE);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #scratch = new Uint8Array(SCRATCH_SIZE);
  #filter: FrameFilter;
  #receive: Queue | undefined;
  #transmit: Queue | undefined;
  #mergeable = false;

  constructor(host: BackendHost) {
    const { config, logged } = host.params as unknown as UserParams;
    const { fds } = host;
    this.#host = host;
    this.#mac = Uint8Array.from(config.mac);
    this.#filter = new FrameFilter(this.#mac);
    this.#network = new UserNetwork(host.loop, this, config, {
      log: logged ? fds[0] : undefined,
      published: fds.slice(logged ? 1 : 0),
    });
  }

  start({ features, queues: [receive, transmit, control] }: Session): void {
    const has = (bit: bigint): boolean => hasFeature(features, bit);
    this.offloads = {
      checksum: has(N.VIRTIO_NET_F_GUEST_CSUM),
      tso4: has(N.VIRTIO_NET_F_GUEST_TSO4),
      tso6: has(N.VIRTIO_NET_F_GUEST_TSO6),
    };
    this.#mergeable = has(N.VIRTIO_NET_F_MRG_RXBUF);
    this.#filter = new FrameFilter(this.#mac);
    this.#receive = receive;
    this.#transmit = transmit;
    if (receive !== undefined) receive.onNotify = () => this.#network.linkReady();
    if (transmit !== undefined) transmit.onNotify = () => this.#serve(transmit);
    if (control !== undefined) {
      const target = { filter: this.#filter, setPairs: (count: number) => count === 1 };
      control.onNotify = () => serveControl(control, target);
    }
  }

  reset(): void {
    this.#receive = this.#transmit = undefined;
    this.#network.reset();
  }

  close(): void {
    this.#network.close();
  }

  #serve(queue: Queue): void {
    // A session that was reset meanwhile has another queue, or none.
    if (queue !== this.#transmit) return;
    let left = MAX_BATCH;
    for (; left > 0; left--) {
      const chain = queue.pop();
      if (chain === undefined) break;
      if (holdsFrame(chain)) this.#network.input(new ChainFrame(chain, this.#scratch));
      queue.push(chain, 0);
    }
    queue.flush();
    this.#network.flush();
    if (left === 0) this.#host.loop.after(0, () => this.#serve(queue));
  }

  send(pieces: readonly Uint8Array[], info: FrameInfo): boolean {
    const queue = this.#receive;
    if (queue === undefined) return false;
    if (!this.#filter.accepts(pieces[0] as Uint8Array)) return true;
    writeVnetHeader(this.#headerView, info);
    return deliver(queue, this.#header, pieces, this.#mergeable);
  }
}
