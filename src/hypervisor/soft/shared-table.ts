import { Lock } from '../../host/shared-state.ts';

const VERSION = 0;
const LOCK = 1;
const HEADER = 16;

/** Rows of numbers that all threads of a machine share, with a version that changes with every change. */
export class SharedTable {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #values: Float64Array;
  readonly #lock: Lock;
  readonly #fields: number;
  readonly rows: number;

  constructor(rows: number, fields: number, buffer = new SharedArrayBuffer(HEADER + rows * fields * 8)) {
    this.rows = rows;
    this.#fields = fields;
    this.buffer = buffer;
    this.#words = new Int32Array(buffer, 0, HEADER / 4);
    this.#values = new Float64Array(buffer, HEADER);
    this.#lock = new Lock(this.#words, LOCK);
  }

  get version(): number {
    return Atomics.load(this.#words, VERSION);
  }

  /** Runs with the table to itself. */
  exclusive<T>(work: () => T): T {
    this.#lock.acquire();
    try {
      return work();
    } finally {
      this.#lock.release();
    }
  }

  /** One value of a row. */
  value(row: number, field: number): number {
    return this.#values[row * this.#fields + field] as number;
  }

  /** A row's values. */
  row(index: number): number[] {
    return [...this.#values.subarray(index * this.#fields, (index + 1) * this.#fields)];
  }

  /** Writes a row; only inside exclusive(). */
  setRow(index: number, values: readonly number[]): void {
    this.#values.set(values, index * this.#fields);
    Atomics.add(this.#words, VERSION, 1);
  }
}
