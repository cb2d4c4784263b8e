/** Something that runs batches of cases (test/native/layout.ts): this machine's processor, or the built-in machine. */
export interface InstructionTarget {
  readonly name: string;
  /** Bytes at layout.ts's CASES. */
  readonly cases: Uint8Array<ArrayBuffer>;
  /** What will be at layout.ts's CODE when run() is called. */
  readonly code: Uint8Array<ArrayBuffer>;
  /** Runs the first `count` cases. Throws when the target itself fails. */
  run(count: number): void;
  close(): void;
}

/** Addresses that a case's code jumps to when done. */
export interface Exits {
  readonly next: number;
  readonly taken: number;
}
