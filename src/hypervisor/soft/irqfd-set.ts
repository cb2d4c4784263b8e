// Which events are bound to which interrupt lines (KVM_IRQFD): the same for all threads of a machine. The first vCPU's takes their signals,
// between two pieces of the guest's code and in its sleep: a device process reaches the guest without any other thread.

import { closeDescriptor } from '../../host/descriptor.ts';
import { EPOLLIN, Epoll } from '../../host/epoll.ts';
import { EventFd, takeEvent } from '../../host/eventfd.ts';
import { MAX_GSI } from '../irqchip/routing.ts';
import { SharedTable } from './shared-table.ts';

/** Events of a machine at most. */
const ROWS = 1024;
const FIELDS = 2;
const FD = 0;
const GSI = 1;

/** Token of the event that ends a sleep: no eventfd registered has descriptor 0 and line 0, it would be standard input. */
const WAKE_TOKEN = 0;

/** For other threads; survives structured clone. */
export interface IrqfdShare {
  readonly epollFd: number;
  readonly wakeFd: number;
  readonly table: SharedArrayBuffer;
}

export class IrqfdSet {
  readonly share: IrqfdShare;
  readonly #epoll: Epoll;
  readonly #table: SharedTable;

  /** Throws OsError. */
  constructor(share?: IrqfdShare) {
    this.#epoll = new Epoll(share?.epollFd);
    this.#table = new SharedTable(ROWS, FIELDS, share?.table);
    const wakeFd = share?.wakeFd ?? new EventFd().fd;
    if (share === undefined) this.#epoll.add(wakeFd, EPOLLIN, WAKE_TOKEN);
    this.share = { epollFd: this.#epoll.fd, wakeFd, table: this.#table.buffer };
  }

  /** Has there ever been an event? */
  get used(): boolean {
    return this.#table.version !== 0;
  }

  /** A signal of this eventfd ends sleep(). */
  get wakeFd(): number {
    return this.share.wakeFd;
  }

  /** From now on a signal of `fd`, a non-blocking eventfd, is an edge of line `gsi`. As with KVM an event has one line. Throws OsError, RangeError. */
  add(fd: number, gsi: number): void {
    const token = irqfdToken(fd, gsi);
    this.#table.exclusive(() => {
      if (this.#find(fd) !== undefined) throw new RangeError(`event ${fd} has an interrupt line already`);
      const row = this.#find(0);
      if (row === undefined) throw new RangeError(`more than ${ROWS} events with interrupt lines`);
      this.#epoll.add(fd, EPOLLIN, token);
      this.#table.setRow(row, [fd, gsi]);
    });
  }

  /** When this returns nobody waits for `fd` or reads it any more: it may be closed. Throws RangeError when it was not there. */
  remove(fd: number, gsi: number): void {
    this.#table.exclusive(() => {
      const row = this.#find(fd);
      if (row === undefined || this.#table.row(row)[GSI] !== gsi) {
        throw new RangeError(`event ${fd} is not bound to line ${gsi}`);
      }
      this.#epoll.remove(fd);
      this.#table.setRow(row, [0, 0]);
    });
  }

  /** Calls `raise` for each line that has a signal. Was there one? Throws OsError. */
  take(raise: (gsi: number) => void): boolean {
    const { version } = this.#table;
    const events = this.#epoll.wait(0);
    if (events.length === 0) return false;
    let raised = false;
    this.#table.exclusive(() => {
      // An event removed meanwhile may be closed, its number somebody else's.
      for (const { token } of this.#table.version === version ? events : this.#epoll.wait(0)) {
        if (token === WAKE_TOKEN) takeEvent(this.wakeFd);
        else if (takeEvent(Math.floor(token / MAX_GSI)) > 0) {
          raise(token % MAX_GSI);
          raised = true;
        }
      }
    });
    return raised;
  }

  /** Blocks this thread until there is a signal, `milliseconds` at most (fractions count). Throws OsError. */
  sleep(milliseconds: number): void {
    this.#epoll.sleep(milliseconds);
  }

  /** The end of the machine: no thread uses the set any more. */
  close(): void {
    this.#epoll.close();
    closeDescriptor(this.wakeFd);
  }

  /** Row of a descriptor; of 0: the first that is free. */
  #find(fd: number): number | undefined {
    for (let row = 0; row < ROWS; row++) if (this.#table.value(row, FD) === fd) return row;
    return undefined;
  }
}

/** Descriptor and line in one number, below 2^41. Throws RangeError. */
function irqfdToken(fd: number, gsi: number): number {
  if (!Number.isInteger(fd) || fd <= 0 || fd > 0x7fffffff)
    throw new RangeError(`${fd} is not a descriptor of an event`);
  if (!Number.isInteger(gsi) || gsi < 0 || gsi >= MAX_GSI)
    throw new RangeError(`GSI ${gsi} is not in 0 to ${MAX_GSI - 1}`);
  return fd * MAX_GSI + gsi;
}
