// x87 instructions run on this machine's processor and on the built-in one, from the same registers and memory.

import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { Processor } from '../../../../src/cpu/x86_64/processor.ts';
import { littleEndian } from '../../../asm/encoder.ts';
import * as N from '../../../native/layout.ts';
import { machineCode } from '../../../native/machine-code.ts';
import { nativeTarget } from '../../../native/native-target.ts';

/** As much as the cases' addresses need: linear and physical ones are the same. */
const RAM_SIZE = 0x62000000;
const PML4 = 0x1000;
const HLT = 0xf4;
/** FXSAVE64 area. */
const ST = 32;

/** What an instruction starts from, and what it leaves. */
export interface Outcome {
  /** Not stopped by an exception. */
  readonly ended: boolean;
  readonly control: number;
  readonly status: number;
  /** A bit for each physical register in use. */
  readonly tags: number;
  /** ST(0) to ST(7) as 20 hexadecimal digits; undefined what is empty. */
  readonly registers: (string | undefined)[];
  /** The first 128 bytes of memory. */
  readonly memory: string;
  /** Arithmetic flags. */
  readonly flags: number;
  readonly rax: bigint;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).reverse().toString('hex');
}

/** One case in the two worlds: registers and memory of case number `index`. */
export class Case {
  readonly index: number;
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(index: number, bytes: Uint8Array<ArrayBuffer>) {
    this.index = index;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get memoryAddress(): number {
    return N.CASES + this.index * N.CASE_SIZE + N.CASE_MEMORY;
  }

  outcome(): Outcome {
    const { view, bytes } = this;
    const at = N.CASE_FX_OUT;
    const status = view.getUint16(at + 2, true);
    const tags = view.getUint8(at + 4);
    const top = (status >> 11) & 7;
    const registers = Array.from({ length: 8 }, (_, i) =>
      (tags >> ((top + i) & 7)) & 1 ? hex(bytes.subarray(at + ST + i * 16, at + ST + i * 16 + 10)) : undefined,
    );
    return {
      ended: view.getUint32(N.CASE_OUT, true) === N.EXIT_NEXT,
      control: view.getUint16(at, true),
      status,
      tags,
      registers,
      memory: hex(bytes.subarray(N.CASE_MEMORY, N.CASE_MEMORY + 128)),
      flags: view.getUint32(N.CASE_OUT_RFLAGS, true) & L.FLAGS_ARITH,
      rax: view.getBigUint64(N.CASE_OUT_GPR, true),
    };
  }
}

const code = machineCode();

export class Bench {
  readonly #native = nativeTarget();
  readonly #cpu: Processor;
  /** Bytes of each case's instruction. */
  readonly #lengths: number[] = [];

  constructor() {
    const none = (): never => {
      throw new Error('no device is here');
    };
    this.#cpu = new Processor(
      {
        mmio: none,
        pio: none,
        readMsr: none,
        writeMsr: none,
        tsc: none,
        cr8: () => {},
        log: () => {},
        breakpoints: new Set<bigint>(),
      },
      'none',
    );
    const { view, helpers } = this.#cpu;
    const set64 = (address: number, value: number): void => view.setBigUint64(address, BigInt(value), true);
    helpers.reset_state(0);
    view.setUint32(L.SLOT_COUNT, 1, true);
    set64(L.SLOTS + L.SLOT_O_START, 0);
    set64(L.SLOTS + L.SLOT_O_SIZE, RAM_SIZE);
    view.setUint32(L.SLOTS + L.SLOT_O_HOST, L.RAM_BASE, true);
    const ram = L.RAM_BASE;
    set64(ram + PML4, PML4 + 0x1007);
    set64(ram + PML4 + 0x1000, PML4 + 0x2007);
    set64(ram + PML4 + 0x1008, PML4 + 0x3007);
    for (let i = 0; i < 1024; i++) set64(ram + PML4 + 0x2000 + i * 8, i * 0x200000 + 0x87);
    set64(L.CR3, PML4);
    set64(L.CR4, 0x620);
    set64(L.EFER, 0xd01);
    set64(L.CR0, 0x80000033);
    for (let segment = L.SEG_ES; segment <= L.SEG_GS; segment += L.SEG_SIZE) {
      view.setUint32(segment + L.SEG_O_LIMIT, 0xffffffff, true);
      view.setUint32(segment + L.SEG_O_ATTR, segment === L.SEG_CS ? 0xa09b : 0xc093, true);
      set64(segment + L.SEG_O_BASE, 0);
    }
    helpers.update_mode();
    helpers.tlb_flush(1);
  }

  /** Case `index`, cleared, of the instruction in `instruction`, with RBX at its memory. */
  prepare(index: number, instruction: readonly number[]): Case {
    const target = this.#native;
    const start = index * N.CASE_SIZE;
    const prepared = new Case(index, target.cases.subarray(start, start + N.CASE_SIZE));
    prepared.bytes.fill(0);
    const address = N.CODE + index * N.CODE_SLOT;
    const jump = littleEndian((code.labels.get('exit_next') as number) - (address + instruction.length + 5), 4);
    target.code.set([...instruction, 0xe9, ...jump], index * N.CODE_SLOT);
    this.#lengths[index] = instruction.length;
    const { view } = prepared;
    view.setBigUint64(N.CASE_CODE, BigInt(address), true);
    view.setUint32(N.CASE_USE, N.USE_FX, true);
    view.setUint32(N.CASE_RFLAGS, 0x202, true);
    view.setBigUint64(N.CASE_GPR + 3 * 8, BigInt(prepared.memoryAddress), true);
    view.setBigUint64(N.CASE_GPR + 4 * 8, BigInt(N.STACK_END), true);
    view.setUint32(N.CASE_FX + 24, 0x1f80, true);
    return prepared;
  }

  /** Runs the cases 0 to `count` - 1 in the built-in machine and natively: pairs of outcomes. */
  run(count: number): { ours: Outcome; native: Outcome }[] {
    const ours = Array.from({ length: count }, (_, index) => this.#runOurs(index));
    this.#native.run(count);
    return ours.map((outcome, index) => {
      const start = index * N.CASE_SIZE;
      return {
        ours: outcome,
        native: new Case(index, this.#native.cases.subarray(start, start + N.CASE_SIZE)).outcome(),
      };
    });
  }

  #runOurs(index: number): Outcome {
    const { view, bytes, helpers } = this.#cpu;
    const start = index * N.CASE_SIZE;
    const input = this.#native.cases.slice(start, start + N.CASE_SIZE);
    const given = new DataView(input.buffer);
    const address = N.CODE + index * N.CODE_SLOT;
    const slot = this.#native.code.slice(index * N.CODE_SLOT, (index + 1) * N.CODE_SLOT);
    slot[this.#lengths[index] as number] = HLT;
    bytes.set(slot, L.RAM_BASE + address);
    bytes.set(input, L.RAM_BASE + N.CASES + start);
    for (let i = 0; i < 16; i++) view.setBigUint64(L.GPR + i * 8, given.getBigUint64(N.CASE_GPR + i * 8, true), true);
    helpers.set_rflags(given.getUint32(N.CASE_RFLAGS, true) & ~0x200);
    const fx = N.CASE_FX;
    const status = given.getUint16(fx + 2, true);
    const top = (status >> 11) & 7;
    let tags = 0;
    for (let i = 0; i < 8; i++) {
      const to = L.FPR + ((top + i) & 7) * 16;
      view.setBigUint64(to, given.getBigUint64(fx + ST + i * 16, true), true);
      view.setBigUint64(to + 8, given.getBigUint64(fx + ST + i * 16 + 8, true) & 0xffffn, true);
      if (!((given.getUint8(fx + 4) >> i) & 1)) tags |= 3 << (2 * i);
    }
    view.setUint32(L.FCW, given.getUint16(fx, true), true);
    view.setUint32(L.FSW, status, true);
    view.setUint32(L.FTW, tags, true);
    for (const pointer of [L.FIP, L.FDP]) view.setBigUint64(pointer, 0n, true);
    for (const word of [L.FOP, L.FCS, L.FDS]) view.setUint32(word, 0, true);
    view.setUint32(L.ACTIVITY, 0, true);
    view.setBigUint64(L.RIP, BigInt(address), true);
    this.#cpu.forgetCode();
    const reason = this.#cpu.run(100);
    const output = new Case(index, input);
    input.set(
      bytes.subarray(
        L.RAM_BASE + N.CASES + start + N.CASE_MEMORY,
        L.RAM_BASE + N.CASES + start + N.CASE_MEMORY + N.CASE_MEMORY_SIZE,
      ),
      N.CASE_MEMORY,
    );
    const out = output.view;
    out.setUint32(N.CASE_OUT, reason === L.EXIT_HLT ? N.EXIT_NEXT : N.EXIT_FAULT, true);
    out.setUint16(N.CASE_FX_OUT, view.getUint32(L.FCW, true), true);
    const after = view.getUint32(L.FSW, true);
    out.setUint16(N.CASE_FX_OUT + 2, after, true);
    const word = view.getUint32(L.FTW, true);
    let used = 0;
    for (let i = 0; i < 8; i++) if (((word >> (2 * i)) & 3) !== 3) used |= 1 << i;
    out.setUint8(N.CASE_FX_OUT + 4, used);
    for (let i = 0; i < 8; i++) {
      const from = L.FPR + (((after >> 11) + i) & 7) * 16;
      input.set(bytes.subarray(from, from + 16), N.CASE_FX_OUT + ST + i * 16);
    }
    out.setUint32(N.CASE_OUT_RFLAGS, helpers.get_rflags(), true);
    out.setBigUint64(N.CASE_OUT_GPR, view.getBigUint64(L.RAX, true), true);
    return output.outcome();
  }
}
