/** The network device on a tap whose frames the kernel moves: this process sets it up, and serves the control queue. */
import { setOffloads } from '../../host/tap.ts';
import type { Backend, BackendHost, Session } from '../backend.ts';
import { hasFeature } from '../constants.ts';
import * as I from '../vhost/ioctls.ts';
import { RING_FEATURES } from '../vhost/open.ts';
import { VhostRings } from '../vhost/rings.ts';
import * as N from './constants.ts';
import { serveControl } from './control.ts';
import { FrameFilter } from './filter.ts';
import { tapOffloads } from './offloads.ts';
import type { TapParams } from './tap-model.ts';
import { TapQueues } from './tap-queues.ts';
import { VHOST_NET_FEATURES } from './vhost-model.ts';

/** A pair of queues: the tap's, and the kernel's for it. */
interface Pair {
  readonly tap: number;
  readonly rings: VhostRings;
}

export function create(host: BackendHost): Backend {
  return new VhostNetBackend(host);
}

class VhostNetBackend implements Backend {
  kernelQueues: readonly number[] = [];
  readonly #mac: Uint8Array;
  readonly #pairs: readonly Pair[];
  readonly #tapQueues: TapQueues;
  #running: readonly Pair[] = [];

  constructor(host: BackendHost) {
    const { fds } = host;
    // A tap, a device of the kernel's and two events for each pair.
    const count = fds.length / 4;
    this.#mac = Uint8Array.from((host.params as unknown as TapParams).mac);
    this.#pairs = Array.from({ length: count }, (_, i) => {
      const [fd, ...calls] = fds.slice(count + 3 * i, count + 3 * i + 3) as [number, ...number[]];
      return { tap: fds[i] as number, rings: new VhostRings(host, { fd, first: 2 * i, calls }) };
    });
    this.#tapQueues = new TapQueues(fds.slice(0, count));
  }

  start(session: Session): void {
    const { features, queues } = session;
    const count = hasFeature(features, N.VIRTIO_NET_F_MQ) ? this.#pairs.length : 1;
    const pairs = this.#pairs.slice(0, count);
    // Until the driver says something else.
    this.#tapQueues.use(1);
    this.kernelQueues = pairs.flatMap(({ rings }) => rings.queues);
    for (const pair of pairs) {
      setOffloads(pair.tap, tapOffloads(features));
      if (!pair.rings.start(session, features & (RING_FEATURES | VHOST_NET_FEATURES))) continue;
      this.#running = [...this.#running, pair];
      for (const index of [0, 1]) pair.rings.setFile(I.VHOST_NET_SET_BACKEND, index, pair.tap);
    }
    const control = queues[2 * count];
    if (control === undefined) return;
    // The kernel gives the guest all frames of the tap: the guest chooses among them itself.
    const setPairs = (wanted: number): boolean => {
      if (wanted < 1 || wanted > count) return false;
      this.#tapQueues.use(wanted);
      return true;
    };
    const target = { filter: new FrameFilter(this.#mac), setPairs };
    control.onNotify = () => serveControl(control, target);
  }

  reset(): void {
    for (const { rings } of this.#running) {
      for (const index of [0, 1]) rings.setFile(I.VHOST_NET_SET_BACKEND, index, -1);
    }
    this.#running = [];
  }
}
