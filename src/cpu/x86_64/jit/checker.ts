// Translated code against the interpreter, while a guest runs: a region runs, what it did is noted and undone, the interpreter does
// the same instructions one by one, and both must have come to the same registers and the same memory. What the interpreter did
// stays.
//
// A run that asked a device or a clock is not compared: that cannot be asked twice. Devices that write to the guest's memory at the
// same time can be taken for a difference.

import { handlerCount } from '../decode/lines.ts';
import * as L from '../layout.ts';

/** Runs of a region that are all compared; of those after them, one of so many. */
const FIRST_RUNS = 64;
const LATER_RUNS = 256;
const PAGE = 4096;
/** Differences of one run that are told. */
const MOST_TOLD = 8;
/** A record below this is none (layout.ts, LAST_RECORD). */
const FIRST_RECORD = 16;

interface Checked {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly helpers: { update_mode(): void; get_rflags(): number; tlb_flush(all: number): void };
  /** The engine's run(): with a budget of 0 it runs to the next look-up or taken branch. */
  interpret(budget: number): number;
  forgetCode(): void;
  mismatch(report: string): void;
}

/** State that is about decoded code, not about the guest: it stays when the guest's is put back. */
const NOT_THE_GUESTS: readonly (readonly [start: number, size: number])[] = [
  [L.ARENA_NEXT, 8],
  [L.CODE_STALE, 4],
  // And the numbers behind it.
  [L.JUMP_EPOCH, 32],
  [L.HOT_COUNT, 4],
  [L.HOT_BLOCKS, L.HOT_BLOCKS_MOST * 4],
  [L.COUNT_TRANSLATED, 8],
];

/** What is compared, besides RFLAGS. */
const COMPARED: readonly (readonly [name: string, start: number, count: number, size: number])[] = [
  ['general register', L.GPR, 16, 8],
  ['RIP', L.RIP, 1, 8],
  ['word of segment and table registers', L.SEG, (L.CR0 - L.SEG) / 8, 8],
  ['word of control registers and MSRs', L.CR0, (L.CPL - L.CR0) / 8, 8],
  ['CPL and mode', L.CPL, 4, 4],
  ['activity', L.ACTIVITY, 1, 4],
  ['NMIs blocked', L.NMI_BLOCKED, 1, 4],
  ['word of x87 registers', L.FPR, 16, 8],
  ['x87 control', L.FCW, 3, 4],
  ['MXCSR', L.MXCSR, 1, 4],
  ['word of vector registers', L.XMM, (16 * L.XMM_SIZE) / 8, 8],
];

export class TranslationChecker {
  readonly #cpu: Checked;
  /** By first record: how often its region ran. */
  readonly #runs = new Map<number, number>();
  /** By host offset: pages before anything was written to them. */
  readonly #pages = new Map<number, Uint8Array>();
  #asked = false;

  constructor(cpu: Checked) {
    this.#cpu = cpu;
  }

  /** Somebody outside the processor was asked for something. */
  outside(): void {
    this.#asked = true;
  }

  /** A page is about to be written for the first time. */
  pageWritten(host: number): void {
    const page = host - (host % PAGE);
    if (!this.#pages.has(page)) this.#pages.set(page, this.#cpu.bytes.slice(page, page + PAGE));
  }

  /** Decoded code was forgotten: records will be others. */
  forget(): void {
    this.#runs.clear();
  }

  /** Runs about `budget` instructions; returns EXIT_*, and BUDGET says how many. */
  run(budget: number): number {
    const { view } = this.#cpu;
    let left = budget;
    // Where the guest is may have changed since it ran last.
    let record = 0;
    for (;;) {
      if (record < FIRST_RECORD) {
        const reason = this.#cpu.interpret(-1);
        if (reason !== L.EXIT_BUDGET) return reason;
        record = view.getUint32(L.LAST_RECORD, true);
      }
      const reason = this.#isDue(record) ? this.#check(record) : this.#cpu.interpret(0);
      // What stops for a debugger has run nothing.
      left -= Math.max(1, -view.getInt32(L.BUDGET, true));
      view.setInt32(L.BUDGET, left, true);
      if (reason !== L.EXIT_BUDGET || left < 0) return reason;
      record = view.getUint32(L.LAST_RECORD, true);
    }
  }

  #isDue(record: number): boolean {
    if (record < FIRST_RECORD || this.#cpu.view.getUint16(record + L.R_HANDLER, true) < handlerCount()) return false;
    const runs = (this.#runs.get(record) ?? 0) + 1;
    this.#runs.set(record, runs);
    return runs <= FIRST_RUNS || runs % LATER_RUNS === 0;
  }

  #check(record: number): number {
    const { bytes, view, helpers } = this.#cpu;
    const before = bytes.slice(L.STATE, L.STATE_END);
    this.#asked = false;
    this.#tellWrites();
    const reason = this.#cpu.interpret(0);
    view.setUint32(L.TELL_WRITES, 0, true);
    if (this.#asked || (reason !== L.EXIT_BUDGET && reason !== L.EXIT_IRQ_WINDOW)) return reason;

    const count = -view.getInt32(L.BUDGET, true);
    const after = new DataView(bytes.slice(L.STATE, L.STATE_END).buffer);
    const flags = helpers.get_rflags();
    const written = new Map([...this.#pages.keys()].map((page) => [page, bytes.slice(page, page + PAGE)]));
    for (const [page, data] of this.#pages) bytes.set(data, page);
    const kept = NOT_THE_GUESTS.map(([start, size]) => bytes.slice(start, start + size));
    bytes.set(before, L.STATE);
    for (const [i, [start]] of NOT_THE_GUESTS.entries()) bytes.set(kept[i] as Uint8Array, start);
    helpers.update_mode();
    const original = new Map(this.#pages);

    this.#tellWrites();
    const [stepped, steps] = this.#step(count);
    view.setUint32(L.TELL_WRITES, 0, true);
    const differences = steps === count ? this.#differences(after, flags) : [`it ends after ${steps} instructions`];
    for (const page of new Set([...written.keys(), ...this.#pages.keys()])) {
      // A page that one of them alone has written is, for the other, as it was.
      const theirs = written.get(page) ?? this.#pages.get(page) ?? original.get(page);
      const at = firstDifference(bytes, page, theirs as Uint8Array);
      if (at >= 0) {
        const [is, should] = [(theirs as Uint8Array)[at], bytes[page + at]] as [number, number];
        differences.push(`byte ${at} of the page at host offset ${hex(page)}: ${hex(is)}, not ${hex(should)}`);
      }
    }
    if (differences.length > 0) this.#report(record, before, count, differences);
    view.setInt32(L.BUDGET, -steps, true);
    view.setUint32(L.LAST_RECORD, 0, true);
    return stepped;
  }

  /** From now on pageWritten() is called for every page before it is written. */
  #tellWrites(): void {
    const { view, helpers } = this.#cpu;
    this.#pages.clear();
    view.setUint32(L.TELL_WRITES, 1, true);
    helpers.tlb_flush(1);
  }

  /** The interpreter runs `count` instructions one by one; returns why it stopped, and after how many. */
  #step(count: number): [reason: number, steps: number] {
    const { view } = this.#cpu;
    let reason = L.EXIT_BUDGET;
    let steps = 0;
    view.setUint32(L.WHOLE_STRINGS, 1, true);
    while (steps < count && reason === L.EXIT_BUDGET) {
      view.setUint32(L.MODE, view.getUint32(L.MODE, true) | L.MODE_STEP, true);
      reason = this.#cpu.interpret(0);
      view.setUint32(L.MODE, view.getUint32(L.MODE, true) & ~L.MODE_STEP, true);
      steps++;
    }
    view.setUint32(L.WHOLE_STRINGS, 0, true);
    return [reason, steps];
  }

  #differences(after: DataView, flags: number): string[] {
    const { view, helpers } = this.#cpu;
    const found: string[] = [];
    const differ = (name: string, is: bigint | number, should: bigint | number): void => {
      if (is !== should) found.push(`${name}: ${hex(is)}, not ${hex(should)}`);
    };
    differ('RFLAGS', flags, helpers.get_rflags());
    for (const [name, start, count, size] of COMPARED) {
      for (let i = 0; i < count; i++) {
        const at = start + i * size;
        const read = (from: DataView, offset: number): bigint =>
          size === 8 ? from.getBigUint64(at - offset, true) : BigInt(from.getUint32(at - offset, true));
        differ(count > 1 ? `${name} ${i}` : name, read(after, L.STATE), read(view, 0));
      }
    }
    return found;
  }

  #report(record: number, before: Uint8Array, count: number, differences: readonly string[]): void {
    const rip = new DataView(before.buffer).getBigUint64(L.RIP - L.STATE, true);
    const more = differences.length > MOST_TOLD ? ` and ${differences.length - MOST_TOLD} more` : '';
    this.#cpu.mismatch(
      `the translation of ${hex(rip)} (record ${hex(record)}, ${count} instructions) differs from the interpreter: ` +
        `${differences.slice(0, MOST_TOLD).join('; ')}${more}`,
    );
    // What was decoded from what the region wrote must not stay.
    this.#cpu.forgetCode();
  }
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** Offset in the page of the first byte that differs; -1: none. */
function firstDifference(bytes: Uint8Array, page: number, other: Uint8Array): number {
  const here = bytes.subarray(page, page + PAGE);
  if (Buffer.compare(here, other) === 0) return -1;
  return here.findIndex((byte, i) => byte !== other[i]);
}
