import * as L from '../../../native/layout.ts';
import type { Form } from './form.ts';
import type { Random } from './random.ts';

const MASK64 = 0xffffffffffffffffn;
export const RSP = 4;
export const RBP = 5;

/** One case while it is made: views of its bytes, and which registers and bytes already have a purpose. */
export class CaseBuilder {
  readonly random: Random;
  readonly form: Form;
  /** Index in the batch. */
  readonly index: number;
  readonly view: DataView<ArrayBuffer>;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly words: Uint32Array<ArrayBuffer>;
  /** Bit n: general register n keeps its value. */
  pinned = 0;
  /** Bit n: general register n gets its value when the operands are known: no address may use it. */
  changing = 0;
  /** Shift count, for the flags it leaves undefined. */
  count = 0;
  /** Fixed by the kind, otherwise random. */
  immediate: bigint | undefined;
  /** ModRM.reg, ModRM.rm or opcode register when the kind chose it. */
  reg: number | undefined;
  /** Linear address of the memory operand when the kind chose it. */
  target: number | undefined;
  /** The kind allows memory operands that fault. */
  mayFault = true;
  /** Alignment that the memory operand usually has. */
  alignment = 1;
  addr32 = false;
  /** Addresses use no registers: others may have changed them when the instruction runs. */
  absoluteOnly = false;
  /** Address of the instruction. */
  code: number;
  /** Called when the ModRM.rm register or the memory operand's address is known. */
  onOperand: ((operand: { register?: number; address?: bigint }) => void) | undefined;

  constructor(random: Random, form: Form, index: number, cases: Uint8Array<ArrayBuffer>) {
    this.random = random;
    this.form = form;
    this.index = index;
    this.code = L.CODE + index * L.CODE_SLOT;
    const offset = cases.byteOffset + index * L.CASE_SIZE;
    this.view = new DataView(cases.buffer, offset, L.CASE_SIZE);
    this.bytes = new Uint8Array(cases.buffer, offset, L.CASE_SIZE);
    this.words = new Uint32Array(cases.buffer, offset, L.CASE_SIZE / 4);
  }

  /** Linear address of the case's memory. */
  get memory(): number {
    return L.CASES + this.index * L.CASE_SIZE + L.CASE_MEMORY;
  }

  get(register: number): bigint {
    return this.view.getBigUint64(L.CASE_GPR + register * 8, true);
  }

  set(register: number, value: bigint): void {
    this.view.setBigUint64(L.CASE_GPR + register * 8, value & MASK64, true);
  }

  /** Sets a register and keeps it. */
  pin(register: number, value: bigint | number): void {
    this.set(register, BigInt(value));
    this.pinned |= 1 << register;
  }

  isPinned(register: number): boolean {
    return ((this.pinned >> register) & 1) !== 0;
  }

  /** A register that is not pinned (nor RSP). */
  freeRegister(): number {
    for (;;) {
      const register = this.random.below(16);
      if (register !== RSP && !this.isPinned(register)) return register;
    }
  }

  get use(): number {
    return this.view.getUint32(L.CASE_USE, true);
  }

  set use(value: number) {
    this.view.setUint32(L.CASE_USE, value, true);
  }

  /** Low `bits` of a register, keeping the others. */
  setLow(register: number, bits: number, value: bigint): void {
    const mask = (1n << BigInt(bits)) - 1n;
    this.set(register, (this.get(register) & ~mask) | (value & mask));
  }

  /** Whether `size` bytes at `address` are in the case's memory. */
  inMemory(address: number, size: number): boolean {
    return address >= this.memory && address + size <= this.memory + L.CASE_MEMORY_SIZE;
  }

  /** `size` bytes, 1 to 8, of the case's memory or edge; zero elsewhere. */
  read(address: number, size: number): bigint {
    const offset = this.#offset(address, size);
    if (offset === undefined) return 0n;
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.view.getUint8(offset + i));
    return value;
  }

  write(address: number, size: number, value: bigint): void {
    const offset = this.#offset(address, size);
    if (offset === undefined) return;
    for (let i = 0; i < size; i++) this.view.setUint8(offset + i, Number((value >> BigInt(i * 8)) & 0xffn));
  }

  #offset(address: number, size: number): number | undefined {
    if (this.inMemory(address, size)) return address - this.memory + L.CASE_MEMORY;
    if (address >= L.EDGE_WINDOW && address + size <= L.EDGE_WINDOW + L.EDGE_WINDOW_SIZE) {
      return address - L.EDGE_WINDOW + L.CASE_EDGE;
    }
    return undefined;
  }

  /** Address of `size` bytes well inside the case's memory, mostly aligned as the form likes it. */
  place(size: number): number {
    const room = L.CASE_MEMORY_SIZE - 128 - size;
    const offset = 64 + this.random.below(Math.max(room, 1));
    const aligned = this.alignment > 1 && !this.random.oneIn(8);
    // Cases are 64-byte aligned.
    return this.memory + (aligned ? offset - (offset % this.alignment) : offset);
  }

  /** Fills the edge window and makes the runner load and save it. */
  useEdge(): void {
    if ((this.use & L.USE_EDGE) !== 0) return;
    this.use |= L.USE_EDGE;
    for (let i = 0; i < 64; i += 4) this.view.setUint32(L.CASE_EDGE + i, this.random.u32(), true);
  }
}
