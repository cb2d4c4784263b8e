import type { ConfigSpace } from './config-space.ts';

/**
 * A PCI function, number 0 of its device. As any device it is built in every thread over the same shared state, and any
 * thread may make any of its calls.
 */
export interface PciDevice {
  readonly config: ConfigSpace;
  /** Power-on state of what it has besides its configuration space: once, before any other call in any thread. */
  reset?(): void;
  /** Reads in a BAR, named by its index; total as BusDevice's. Absent: for functions without BARs. */
  readBar?(bar: number, offset: number, data: Uint8Array): void;
  writeBar?(bar: number, offset: number, data: Uint8Array): void;
  /**
   * A BAR answers at `address` from now on; undefined: nowhere. Told in order, in the thread that moved it, with the root
   * bus's lock held: it may not access configuration space through the bus.
   */
  barMoved?(bar: number, address: number | undefined): void;
}
