/** What a back end starts from. */
import type { Json } from './backend.ts';
import type { StateShape } from './state.ts';

/** How interrupts that are no MSI-X vectors are told of. */
export type Interrupt =
  /** By an event, which is an edge of a line (MMIO). */
  | 'event'
  /** By a message to the main process, which has the pin (PCI). */
  | 'message';

/** Everything that a back end starts from: plain JSON. */
export interface BackendStart {
  readonly device: string;
  readonly params: Json;
  readonly shape: StateShape;
  readonly interrupt: Interrupt;
  /** Guest RAM: where what part of its descriptor is in guest-physical memory. */
  readonly memory: readonly { readonly start: number; readonly size: number; readonly fdOffset: number }[];
  /** Are writes to it counted, for a processor? */
  readonly countsWrites: boolean;
  /** Vectors: one for the configuration, one for each queue; 0 where there is no MSI-X. */
  readonly vectors: number;
  /**
   * Descriptors, in this order: guest RAM, the state's memfd, the channel (a Unix stream socket), the control event, the interrupt's
   * event, one event for each queue, one for each vector, the counts of writes to guest RAM if there are any, and then the device's own. A
   * process of its own gets them under other numbers in the same order.
   */
  readonly fds: readonly number[];
}

/** Where descriptors are in BackendStart.fds. */
export const FD_MEMORY = 0;
export const FD_STATE = 1;
export const FD_CHANNEL = 2;
export const FD_CONTROL = 3;
export const FD_INTERRUPT = 4;
export const FD_QUEUES = 5;
