import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import type { InstructionTarget } from '../cpu/x86_64/instructions/target.ts';
import * as L from './layout.ts';
import { type MachineCode, machineCode } from './machine-code.ts';
import { mapAt, PROT_EXEC, PROT_READ, PROT_WRITE, protect } from './memory.ts';
import { prepareSignals } from './signals.ts';

/** Why cases cannot run natively here; undefined when they can. */
export function nativeUnavailable(): string | undefined {
  if (process.arch !== 'x64' || process.platform !== 'linux') {
    return `no native oracle on ${process.platform} ${process.arch}: it needs an x86-64 Linux host`;
  }
  return undefined;
}

let features: ReadonlySet<string> | undefined;

/** Feature names of this machine's processor, as /proc/cpuinfo spells them. */
export function nativeFeatures(): ReadonlySet<string> {
  features ??= new Set(/^flags\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? []);
  return features;
}

let amd: boolean | undefined;

/** Made by AMD, whose processors differ from Intel's in what the manuals leave open. */
export function nativeIsAmd(): boolean {
  amd ??=
    nativeUnavailable() === undefined && /^vendor_id\s*:\s*AuthenticAMD$/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
  return amd;
}

const Entry = koffi.proto('void native_entry(intptr_t first, intptr_t count)');

/** This machine's processor. Memory is mapped once for the process and stays: signal handlers may still name it. */
class NativeTarget implements InstructionTarget {
  readonly name = 'native';
  readonly cases: Uint8Array<ArrayBuffer>;
  readonly code: Uint8Array<ArrayBuffer>;
  readonly #edge: Uint8Array<ArrayBuffer>;
  readonly #entry: (first: number, count: number) => void;

  constructor({ bytes, labels }: MachineCode) {
    const ranges = new Map<number, Uint8Array<ArrayBuffer>>();
    for (const range of L.RANGES) {
      // The cases' code stays writable: that costs nothing here, where no case writes to it.
      const protection = PROT_READ | PROT_WRITE | (range.execute ? PROT_EXEC : 0);
      ranges.set(range.start, mapAt(range.start, range.size, protection));
    }
    const at = (start: number): Uint8Array<ArrayBuffer> => ranges.get(start) as Uint8Array<ArrayBuffer>;
    at(L.RUNNER).set(bytes);
    const state = at(L.STATE);
    prepareSignals(new DataView(state.buffer, state.byteOffset, state.byteLength), labels);
    at(L.READ_ONLY).set(readOnlyBytes());
    protect(L.RUNNER, 0x4000, PROT_READ | PROT_EXEC);
    protect(L.READ_ONLY, 0x1000, PROT_READ);
    this.cases = at(L.CASES);
    this.#edge = at(L.EDGE);
    this.code = at(L.CODE);
    this.#entry = koffi.decode(BigInt(labels.get('native_entry') as number), Entry);
  }

  run(count: number): void {
    if (!(count >= 0 && count <= L.MAX_CASES)) throw new RangeError(`${count} cases`);
    this.#edge.fill(0);
    this.#entry(L.CASES, count);
  }

  close(): void {}
}

/** What the READ_ONLY page holds in every target: all byte values. */
export function readOnlyBytes(): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: 4096 }, (_, i) => (i * 167) ^ (i >> 4));
}

let target: NativeTarget | undefined;

/** The native target; throws where nativeUnavailable() gives a reason. */
export function nativeTarget(): InstructionTarget {
  const reason = nativeUnavailable();
  if (reason !== undefined) throw new Error(reason);
  target ??= new NativeTarget(machineCode());
  return target;
}
