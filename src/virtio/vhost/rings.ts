/**
 * Queues that the kernel serves (vhost): it reads and writes guest memory by this process's mapping of it. Its device belongs to
 * the process that calls this, from the constructor on.
 */
import { EPOLLET, EPOLLIN } from '../../host/epoll.ts';
import { OsError } from '../../host/errno.ts';
import { check } from '../../host/ffi.ts';
import { ioctl, type Request } from '../../host/ioctl.ts';
import { allocate, set } from '../../host/struct.ts';
import type { BackendHost, Session } from '../backend.ts';
import { BrokenDriverError } from '../chain.ts';
import { GuestRanges } from '../guest-ranges.ts';
import type { Queue, QueueConfig } from '../queue.ts';
import * as I from './ioctls.ts';
import * as S from './structs.ts';

/** Where the kernel's device has its queues. */
export interface VhostPlace {
  /** Descriptor of the kernel's device. */
  readonly fd: number;
  /** Number of its first queue among the device's queues. */
  readonly first: number;
  /** callEvents(), one for each of its queues. */
  readonly calls: readonly number[];
}

export class VhostRings {
  readonly #host: BackendHost;
  readonly #place: VhostPlace;
  readonly #ranges: GuestRanges;

  /** Throws OsError. */
  constructor(host: BackendHost, place: VhostPlace) {
    this.#host = host;
    this.#place = place;
    this.#ranges = new GuestRanges(host.memory);
    this.#call(I.VHOST_SET_OWNER, 0);
    this.#call(I.VHOST_SET_MEM_TABLE, this.#memoryTable());
    for (const [index, call] of place.calls.entries()) {
      host.loop.watch(call, EPOLLIN | EPOLLET, () => host.queueEvents[place.first + index]?.interrupt());
    }
  }

  /** Numbers of the queues. */
  get queues(): number[] {
    return this.#place.calls.map((_, index) => this.#place.first + index);
  }

  #memoryTable(): DataView {
    const { regions } = this.#host.memory;
    const table = allocate(S.vhost_memory, regions.length * S.vhost_memory_region.size);
    set(S.vhost_memory, table, 'nregions', regions.length);
    for (const [index, { guestAddress, bytes }] of regions.entries()) {
      const base = S.vhost_memory.size + index * S.vhost_memory_region.size;
      set(S.vhost_memory_region, table, 'guest_phys_addr', BigInt(guestAddress), base);
      set(S.vhost_memory_region, table, 'memory_size', BigInt(bytes.length), base);
      set(S.vhost_memory_region, table, 'userspace_addr', this.#address(guestAddress), base);
    }
    return table;
  }

  /** A guest-physical address, which was found to be memory, in this process. */
  #address(guestAddress: number): bigint {
    const region = this.#ranges.find(guestAddress, 1);
    if (region === undefined) throw new RangeError(`0x${guestAddress.toString(16)} is not guest memory`);
    return BigInt(region.host + guestAddress - region.start);
  }

  /**
   * Hands the queues of a session over. False: the driver has not set all of them up, so that there is nothing to serve. Throws
   * BrokenDriverError for what the kernel does not take.
   */
  start(session: Session, features: bigint): boolean {
    const queues = this.queues.map((number) => session.queues[number]);
    if (!queues.every((queue) => queue !== undefined)) return false;
    try {
      this.#call(I.VHOST_SET_FEATURES, BigUint64Array.of(features));
      for (const [index, queue] of queues.entries()) this.#setUp(index, queue);
    } catch (error) {
      if (error instanceof OsError)
        throw new BrokenDriverError(`the kernel does not take its queues: ${error.message}`);
      throw error;
    }
    return true;
  }

  #setUp(index: number, { config }: Queue): void {
    this.#setState(I.VHOST_SET_VRING_NUM, index, config.size);
    this.#setState(I.VHOST_SET_VRING_BASE, index, 0);
    this.#setAddresses(index, config);
    const events = this.#host.queueEvents[this.#place.first + index];
    if (events === undefined) throw new RangeError(`no events of queue ${index}`);
    // A driver chooses a queue's vector before it uses the queue. Without one the interrupt takes the way through this process.
    this.setFile(I.VHOST_SET_VRING_CALL, index, events.interruption() ?? (this.#place.calls[index] as number));
    this.setFile(I.VHOST_SET_VRING_KICK, index, events.notification);
  }

  #setState(request: Request, index: number, value: number): void {
    const state = allocate(S.vhost_vring_state);
    set(S.vhost_vring_state, state, 'index', index);
    set(S.vhost_vring_state, state, 'num', value);
    this.#call(request, state);
  }

  #setAddresses(index: number, config: QueueConfig): void {
    const addresses = allocate(S.vhost_vring_addr);
    set(S.vhost_vring_addr, addresses, 'index', index);
    set(S.vhost_vring_addr, addresses, 'desc_user_addr', this.#address(config.descriptors));
    set(S.vhost_vring_addr, addresses, 'avail_user_addr', this.#address(config.driver));
    set(S.vhost_vring_addr, addresses, 'used_user_addr', this.#address(config.device));
    this.#call(I.VHOST_SET_VRING_ADDR, addresses);
  }

  /** Gives one of the kernel's queues a descriptor; -1 takes it away. Throws OsError. */
  setFile(request: Request, index: number, fd: number): void {
    const file = allocate(S.vhost_vring_file);
    set(S.vhost_vring_file, file, 'index', index);
    set(S.vhost_vring_file, file, 'fd', fd);
    this.#call(request, file);
  }

  #call(request: Request, argument: number | NodeJS.ArrayBufferView): void {
    check(request.name, ioctl(this.#place.fd, request.number, argument));
  }
}
