import type { MessagePort } from 'node:worker_threads';

/** What is to be found out about the vCPUs while they run. */
export interface InsightWishes {
  /** Count exits and what else costs something to count. */
  readonly stats: boolean;
  /** Take samples of where the guest is. */
  readonly profile: boolean;
  /** Compare what translated code does with what the interpreter does. */
  readonly checkTranslation: boolean;
}

/** The end that a vCPU's thread gets; survives structured clone. */
export interface InsightEnd {
  readonly wishes: InsightWishes;
  readonly port: MessagePort;
  /** Int32 word 0: how often statistics have been asked for. */
  readonly asked: SharedArrayBuffer;
}

/** Names and values, in the order in which people read them. Names that end in "ms" are times. */
export type Counts = Readonly<Record<string, number>>;

/** Samples of one vCPU, columns of the same length. */
export interface Samples {
  /** Nanoseconds of the machine's clock. */
  readonly times: Float64Array;
  /** RIP; 0 while the vCPU was halted. */
  readonly places: BigUint64Array;
  /** CR3 in user mode, else 0. */
  readonly spaces: BigUint64Array;
}

export type InsightMessage =
  | { readonly kind: 'stats'; readonly counts: Counts }
  | { readonly kind: 'samples'; readonly samples: Samples }
  | { readonly kind: 'mismatch'; readonly report: string }
  /** SHA-256 of registers and memory at the end. */
  | { readonly kind: 'digest'; readonly digest: string };
