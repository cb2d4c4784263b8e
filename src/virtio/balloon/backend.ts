import type { Backend, BackendHost, Json, Later, Session } from '../backend.ts';
import type { Chain } from '../chain.ts';
import { hasFeature } from '../constants.ts';
import type { Queue } from '../queue.ts';
import * as B from './constants.ts';
import { DriverAnswer } from './driver-answer.ts';

/** Page numbers of one inflate request that are looked at; Linux sends 256. */
const MAX_PFNS = 65536;
/** Statistics that a driver may send at once. */
const MAX_STATISTICS = 64;
/** Milliseconds that the driver has for its statistics. */
const STATISTICS_TIMEOUT = 1000;
/** And for hints: it goes through all free memory. */
const HINTS_TIMEOUT = 10_000;

/** A request of the main process. Sizes are in bytes. */
export type BalloonRequest =
  /** How large the balloon is to be: a multiple of 4 KiB. Answers null. */
  | { readonly kind: 'set'; readonly size: number }
  /** Answers BalloonSize. */
  | { readonly kind: 'get' }
  /** Answers BalloonStatistics, fresh ones if the driver gives them within a second. */
  | { readonly kind: 'statistics' }
  /** Asks the driver once for all free pages, which go back to the host. Answers their bytes when it has no more. */
  | { readonly kind: 'hint' };

export interface BalloonSize {
  /** What it is to be, and what the driver says it is. */
  readonly target: number;
  readonly actual: number;
}

/** What the driver said last of the guest's memory, by name, in bytes or counts. Empty: nothing yet. */
export type BalloonStatistics = Partial<Record<(typeof B.STATISTICS)[number], number>>;

export function create(host: BackendHost): Backend {
  return new Balloon(host);
}

class Balloon implements Backend {
  readonly #host: BackendHost;
  #statsQueue: Queue | undefined;
  /** The driver's buffer for statistics, which it gets back when new ones are wanted. */
  #statsChain: Chain | undefined;
  #statistics: BalloonStatistics = {};
  /** Can hints be asked for? */
  #hints = false;
  #command = B.FIRST_COMMAND - 1;
  /** Bytes that this command has brought. */
  #hinted = 0;
  readonly #statisticsAnswer: DriverAnswer;
  readonly #hintsAnswer: DriverAnswer;

  constructor(host: BackendHost) {
    this.#host = host;
    this.#statisticsAnswer = new DriverAnswer(host.loop, STATISTICS_TIMEOUT, () => this.#statistics);
    this.#hintsAnswer = new DriverAnswer(host.loop, HINTS_TIMEOUT, () => this.#hinted);
  }

  start({ features, queues }: Session): void {
    // Linux numbers the queues that there are, without gaps for features that were not taken.
    let next = 0;
    const take = (bit?: bigint): Queue | undefined =>
      bit === undefined || hasFeature(features, bit) ? queues[next++] : undefined;
    this.#serve(take(), (chain) => this.#inflate(chain));
    this.#serve(take(), () => {});
    this.#statsQueue = take(B.VIRTIO_BALLOON_F_STATS_VQ);
    const hints = take(B.VIRTIO_BALLOON_F_FREE_PAGE_HINT);
    this.#hints = hints !== undefined;
    this.#serve(hints, (chain) => this.#hint(chain));
    this.#serve(take(B.VIRTIO_BALLOON_F_PAGE_REPORTING), (chain) => this.#release(chain));
    const stats = this.#statsQueue;
    if (stats !== undefined) stats.onNotify = () => this.#takeStatistics(stats);
  }

  reset(): void {
    this.#statsQueue = undefined;
    this.#statsChain = undefined;
    this.#hints = false;
    this.#statisticsAnswer.arrive();
    this.#hintsAnswer.arrive();
  }

  request(message: Json): Json | Later {
    const request = message as unknown as BalloonRequest;
    switch (request.kind) {
      case 'set':
        this.#set(request.size);
        return null;
      case 'get':
        return { target: this.#config(B.CONFIG_NUM_PAGES), actual: this.#config(B.CONFIG_ACTUAL) };
      case 'statistics':
        return this.#askStatistics();
      case 'hint':
        return this.#askHints();
    }
  }

  /** Gives each chain to `work`, then back. */
  #serve(queue: Queue | undefined, work: (chain: Chain) => void): void {
    if (queue === undefined) return;
    queue.onNotify = () => {
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
        work(chain);
        queue.push(chain, 0);
      }
      queue.flush();
    };
  }

  // ---- Memory ----------------------------------------------------------------------------------------------------------------

  /** Pages that the guest has put into the balloon, by number. */
  #inflate(chain: Chain): void {
    const pfns = new Uint32Array(Math.min(Math.floor(chain.readableLength / 4), MAX_PFNS));
    chain.read(new Uint8Array(pfns.buffer));
    pfns.sort();
    // Neighbours go together: one system call a run.
    for (let first = 0; first < pfns.length; ) {
      let end = first + 1;
      while (end < pfns.length && pfns[end]! - pfns[end - 1]! <= 1) end++;
      const pages = pfns[end - 1]! - pfns[first]! + 1;
      this.#host.releaseMemory(pfns[first]! * B.PAGE_SIZE, pages * B.PAGE_SIZE);
      first = end;
    }
  }

  /** Free memory as such: the chain's writable ranges. */
  #release({ writable }: Chain): void {
    for (const { guestAddress, length } of writable) this.#host.releaseMemory(guestAddress, length);
  }

  #hint(chain: Chain): void {
    if (chain.readableLength >= 4) {
      const id = new Uint32Array(1);
      chain.read(new Uint8Array(id.buffer));
      // The driver has no more: it may have its pages back.
      if (id[0] === B.VIRTIO_BALLOON_CMD_ID_STOP) {
        this.#writeConfig(B.CONFIG_FREE_PAGE_HINT_CMD_ID, B.VIRTIO_BALLOON_CMD_ID_DONE);
        this.#hintsAnswer.arrive();
      }
    }
    // Nothing is used of memory whose hint belongs to an earlier command, or comes after the end: it may be in use again.
    if (this.#word(B.CONFIG_FREE_PAGE_HINT_CMD_ID) !== this.#command) return;
    this.#release(chain);
    this.#hinted += chain.writableLength;
  }

  #askHints(): Later {
    if (!this.#hints) throw new Error("the guest's driver gives no hints of free pages");
    // Whoever asks meanwhile gets the same answer.
    if (!this.#hintsAnswer.isAwaited) {
      this.#hinted = 0;
      this.#command = Math.max((this.#command + 1) >>> 0, B.FIRST_COMMAND);
      this.#writeConfig(B.CONFIG_FREE_PAGE_HINT_CMD_ID, this.#command);
    }
    return this.#hintsAnswer.wait();
  }

  #set(size: number): void {
    const pages = size / B.PAGE_SIZE;
    if (!Number.isInteger(pages) || pages < 0 || size > this.#host.memory.size) {
      throw new Error(`a balloon has a multiple of ${B.PAGE_SIZE} bytes, and at most the guest's memory`);
    }
    this.#writeConfig(B.CONFIG_NUM_PAGES, pages);
  }

  /** A number of pages in the configuration, in bytes. */
  #config(offset: number): number {
    return this.#word(offset) * B.PAGE_SIZE;
  }

  #word(offset: number): number {
    const { config } = this.#host;
    return new DataView(config.buffer, config.byteOffset, config.length).getUint32(offset, true);
  }

  #writeConfig(offset: number, value: number): void {
    this.#host.changeConfig(offset, new Uint8Array(Uint32Array.of(value).buffer));
  }

  // ---- Statistics ------------------------------------------------------------------------------------------------------------

  #askStatistics(): Json | Later {
    const queue = this.#statsQueue;
    if (queue === undefined) return this.#statistics;
    if (this.#statsChain !== undefined) {
      queue.push(this.#statsChain, 0);
      this.#statsChain = undefined;
      queue.flush();
    }
    return this.#statisticsAnswer.wait();
  }

  #takeStatistics(queue: Queue): void {
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      // There is to be one buffer only.
      if (this.#statsChain !== undefined) queue.push(this.#statsChain, 0);
      this.#statsChain = chain;
      this.#statistics = readStatistics(chain);
    }
    queue.flush();
    this.#statisticsAnswer.arrive();
  }
}

function readStatistics(chain: Chain): BalloonStatistics {
  const bytes = new Uint8Array(B.STATISTIC_SIZE * MAX_STATISTICS);
  const count = Math.floor(chain.read(bytes) / B.STATISTIC_SIZE);
  const view = new DataView(bytes.buffer);
  const statistics: BalloonStatistics = {};
  for (let i = 0; i < count; i++) {
    const name = B.STATISTICS[view.getUint16(i * B.STATISTIC_SIZE, true)];
    const value = view.getBigUint64(i * B.STATISTIC_SIZE + 2, true);
    // All ones: the driver does not know.
    if (name !== undefined && value !== 0xffff_ffff_ffff_ffffn) statistics[name] = Number(value);
  }
  return statistics;
}
