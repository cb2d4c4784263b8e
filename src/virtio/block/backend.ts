import type { Disk } from '../../disk/disk.ts';
import type { Layer } from '../../disk/layers.ts';
import type { LoopTimer } from '../../host/event-loop.ts';
import type { Backend, BackendHost, Json } from '../backend.ts';
import { hasFeature } from '../constants.ts';
import type { Queue } from '../queue.ts';
import * as B from './constants.ts';
import { diskOf } from './disk.ts';
import type { BlockParams } from './model.ts';
import { type BlockCounters, type RequestSurroundings, serve } from './request.ts';

/** A disk that has been written to is flushed after this time, ms: what a driver never flushes is on the disk some day. */
const FLUSH_DELAY = 60_000;
/** Requests, and bytes, after which the driver is told of those that are done while there are more. */
const BATCH = 16;
const BATCH_BYTES = 256 * 1024;

/** A request of the main process. */
export type BlockRequest =
  /** Answers BlockCounters. */
  | { readonly kind: 'statistics' }
  /** Changes the disk's size; bytes. Answers null. */
  | { readonly kind: 'resize'; readonly size: number };

/** Throws DiskError, OsError. */
export function create(host: BackendHost): Backend {
  return new BlockBackend(host);
}

class BlockBackend implements Backend, RequestSurroundings {
  readonly disk: Disk;
  readonly writable: boolean;
  readonly serial = new Uint8Array(B.ID_SIZE);
  readonly counters: BlockCounters = {
    reads: 0,
    readBytes: 0,
    writes: 0,
    writtenBytes: 0,
    flushes: 0,
    discards: 0,
    errors: 0,
  };
  readonly #host: BackendHost;
  /** Each write is flushed before it is done: the driver has no flush, or has switched the cache off. */
  #writeThrough = false;
  #flushes = false;
  #timer: LoopTimer | undefined;
  /** Messages that were logged: each once. */
  readonly #told = new Set<string>();

  constructor(host: BackendHost) {
    const { layers, writable, serial } = host.params as unknown as BlockParams;
    this.#host = host;
    this.writable = writable;
    this.serial.set(Buffer.from(serial, 'latin1').subarray(0, B.ID_SIZE));
    const open = layers.map((layer, i): Layer => ({ ...layer, fd: host.fds[i] as number }));
    this.disk = diskOf(open as [Layer, ...Layer[]]);
    const tail = this.disk.size % B.SECTOR;
    if (tail !== 0) host.log(`its size is no multiple of 512: the guest does not see the last ${tail} bytes`);
  }

  start({ features, queues }: Parameters<Backend['start']>[0]): void {
    this.#flushes = hasFeature(features, B.VIRTIO_BLK_F_FLUSH);
    this.configWritten();
    for (const queue of queues) if (queue !== undefined) queue.onNotify = () => this.#serve(queue);
  }

  reset(): void {
    // What was written before a reset is as safe as the driver made it. The next one may know no cache.
    this.#writeThrough = false;
  }

  configWritten(): void {
    this.#writeThrough = !this.#flushes || this.#host.config[B.CONFIG_WRITEBACK] === 0;
    if (this.#writeThrough && this.#timer !== undefined) this.#flush();
  }

  request(message: Json): Json {
    const request = message as unknown as BlockRequest;
    switch (request.kind) {
      case 'statistics':
        return { ...this.counters };
      case 'resize':
        this.#resize(request.size);
        return null;
    }
  }

  close(): void {
    if (this.writable) this.disk.flush();
  }

  #serve(queue: Queue): void {
    let count = 0;
    let bytes = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      queue.push(chain, serve(chain, this));
      count++;
      bytes += chain.readableLength + chain.writableLength;
      if (count < BATCH && bytes < BATCH_BYTES) continue;
      queue.flush();
      count = 0;
      bytes = 0;
    }
    queue.flush();
  }

  changed(): void {
    if (this.#writeThrough) this.disk.flush();
    else this.#timer ??= this.#host.loop.after(FLUSH_DELAY, () => this.#flush());
  }

  failed(error: Error): void {
    if (this.#told.has(error.message)) return;
    this.#told.add(error.message);
    this.#host.log(`a request failed, which the guest has been told: ${error.message}`);
  }

  #flush(): void {
    if (this.#timer !== undefined) this.#host.loop.cancel(this.#timer);
    this.#timer = undefined;
    try {
      this.disk.flush();
    } catch (error) {
      this.failed(error as Error);
    }
  }

  #resize(size: number): void {
    if (!this.writable) throw new Error('the disk is read-only');
    if (!Number.isSafeInteger(size) || size <= 0 || size % B.SECTOR !== 0) {
      throw new Error('the size of a disk is a multiple of 512 bytes');
    }
    this.disk.resize(size);
    const capacity = new BigUint64Array([BigInt(size / B.SECTOR)]);
    this.#host.changeConfig(B.CONFIG_CAPACITY, new Uint8Array(capacity.buffer));
  }
}
