/**
 * A small x86 assembler for bare guests and for machine code that tests run. `assemble()` runs a function that calls an
 * Assembler's methods, named as instructions, in order; labels are numbers, so anything may be computed from them.
 */

import { type Bits, type Encoding, encode, littleEndian } from './encoder.ts';
import { isImmediate, isMemory, isRegister, type Memory, type Operand, register } from './operands.ts';

export { absolute, at, type Memory, type Operand } from './operands.ts';

const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'] as const;
export type Condition = (typeof CONDITIONS)[number];

export interface Program {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Addresses by label. */
  readonly labels: ReadonlyMap<string, number>;
}

/** A target: a label or an address. */
export type Target = string | number;

export class Assembler {
  #bits: Bits;
  readonly #origin: number;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #known: ReadonlyMap<string, number> | undefined;

  /** `known` holds the labels that an earlier pass found; without it, labels not yet met count as the origin. */
  constructor(origin: number, bits: Bits, known?: ReadonlyMap<string, number>) {
    this.#origin = origin;
    this.#bits = bits;
    this.#known = known;
  }

  get bytes(): readonly number[] {
    return this.#bytes;
  }

  get labels(): ReadonlyMap<string, number> {
    return this.#labels;
  }

  /** Address of the next byte. */
  get here(): number {
    return this.#origin + this.#bytes.length;
  }

  /** Code that follows is for a code segment of this default size. */
  bits(bits: Bits): void {
    this.#bits = bits;
  }

  label(name: string): void {
    if (this.#labels.has(name)) throw new Error(`label ${name} is there already`);
    this.#labels.set(name, this.here);
  }

  /** Address of a label, or the number itself. */
  address(target: Target): number {
    if (typeof target === 'number') return target;
    const address = this.#labels.get(target) ?? this.#known?.get(target);
    if (address === undefined && this.#known !== undefined) throw new Error(`no label ${target}`);
    return address ?? this.#origin;
  }

  /** Bytes as they are. */
  db(...bytes: number[]): void {
    this.#bytes.push(...bytes.map((byte) => byte & 0xff));
  }

  dw(...values: number[]): void {
    for (const value of values) this.db(...littleEndian(value, 2));
  }

  dd(...values: number[]): void {
    for (const value of values) this.db(...littleEndian(value, 4));
  }

  dq(...values: (number | bigint)[]): void {
    for (const value of values) this.db(...littleEndian(value, 8));
  }

  /** Fills with `fill` (NOP) to a multiple of `boundary`. */
  align(boundary: number, fill = 0x90): void {
    while (this.here % boundary !== 0) this.db(fill);
  }

  /** Fills with zeros up to `address`. */
  org(address: number): void {
    if (address < this.here) throw new Error(`0x${address.toString(16)} is behind 0x${this.here.toString(16)}`);
    while (this.here < address) this.db(0);
  }

  /** Any encoding. */
  emit(encoding: Encoding): void {
    this.db(...encode(this.#bits, encoding));
  }

  #size(...operands: (Operand | undefined)[]): number {
    for (const operand of operands) if (isRegister(operand)) return register(operand).size;
    for (const operand of operands) if (isMemory(operand) && operand.size !== undefined) return operand.size;
    throw new Error('operand size is not known');
  }

  /** `opcode` for bytes, `opcode + 1` for words and more, with r/m and a register. */
  #modrm(opcode: readonly number[], size: number, rm: string | Memory, reg: number, regNeedsRex = false): void {
    const last = opcode[opcode.length - 1] as number;
    this.emit({ size, opcode: [...opcode.slice(0, -1), size === 1 ? last : last + 1], reg, regNeedsRex, rm });
  }

  mov(destination: string | Memory, source: Operand): void {
    const d = isRegister(destination) ? register(destination) : undefined;
    const s = isRegister(source) ? register(source) : undefined;
    if (d?.kind === 'segment')
      return this.emit({ size: 0, opcode: [0x8e], reg: d.number, rm: source as string | Memory });
    if (s?.kind === 'segment') return this.emit({ size: d?.size ?? 0, opcode: [0x8c], reg: s.number, rm: destination });
    if (d?.kind === 'control') return this.emit({ size: 0, opcode: [0x0f, 0x22], reg: d.number, rm: source as string });
    if (s?.kind === 'control') return this.emit({ size: 0, opcode: [0x0f, 0x20], reg: s.number, rm: destination });
    if (d?.kind === 'debug') return this.emit({ size: 0, opcode: [0x0f, 0x23], reg: d.number, rm: source as string });
    if (s?.kind === 'debug') return this.emit({ size: 0, opcode: [0x0f, 0x21], reg: s.number, rm: destination });
    if (s !== undefined) return this.#modrm([0x88], s.size, destination, s.number, s.needsRex);
    if (isMemory(source)) return this.#modrm([0x8a], this.#size(destination), source, d?.number ?? 0, d?.needsRex);
    const size = this.#size(destination);
    const value = source as number | bigint;
    const immediate = { value, size: Math.min(size, 4) };
    if (d !== undefined) {
      // MOV r32, imm32 clears the upper half: the short form of an unsigned constant.
      if (size === 8 && value >= 0 && value <= 0xffffffff)
        return this.emit({ size: 4, opcode: [0xb8], plus: d, immediate });
      if (size === 8 && (value < -0x80000000 || value > 0x7fffffff)) {
        return this.emit({ size, opcode: [0xb8], plus: d, immediate: { value, size: 8 } });
      }
      if (size !== 8) return this.emit({ size, opcode: [size === 1 ? 0xb0 : 0xb8], plus: d, immediate });
    }
    this.#signExtends(size, value);
    this.emit({ size, opcode: [size === 1 ? 0xc6 : 0xc7], reg: 0, rm: destination, immediate });
  }

  /** 64-bit operations extend their 32-bit immediate by its sign. */
  #signExtends(size: number, value: number | bigint): void {
    if (size === 8 && (value > 0x7fffffff || value < -0x80000000))
      throw new RangeError(`${value} does not fit a sign-extended immediate`);
  }

  /** MOV r64, imm64 at full length, whatever the value. */
  movabs(destination: string, value: number | bigint): void {
    this.emit({ size: 8, opcode: [0xb8], plus: register(destination), immediate: { value, size: 8 } });
  }

  #group1(digit: number, destination: string | Memory, source: Operand): void {
    if (isRegister(source)) {
      const s = register(source);
      return this.#modrm([digit * 8], s.size, destination, s.number, s.needsRex);
    }
    if (isMemory(source)) {
      const d = register(destination as string);
      return this.#modrm([digit * 8 + 2], d.size, source, d.number, d.needsRex);
    }
    const size = this.#size(destination);
    const short = source >= -128 && source <= 127;
    this.#signExtends(size, source);
    const opcode = [size === 1 ? 0x80 : short ? 0x83 : 0x81];
    const immediate = { value: source, size: size === 1 || short ? 1 : Math.min(size, 4) };
    this.emit({ size, opcode, reg: digit, rm: destination, immediate });
  }

  add(d: string | Memory, s: Operand): void {
    this.#group1(0, d, s);
  }
  or(d: string | Memory, s: Operand): void {
    this.#group1(1, d, s);
  }
  adc(d: string | Memory, s: Operand): void {
    this.#group1(2, d, s);
  }
  sbb(d: string | Memory, s: Operand): void {
    this.#group1(3, d, s);
  }
  and(d: string | Memory, s: Operand): void {
    this.#group1(4, d, s);
  }
  sub(d: string | Memory, s: Operand): void {
    this.#group1(5, d, s);
  }
  xor(d: string | Memory, s: Operand): void {
    this.#group1(6, d, s);
  }
  cmp(d: string | Memory, s: Operand): void {
    this.#group1(7, d, s);
  }

  test(destination: string | Memory, source: string | number): void {
    if (isRegister(source)) {
      const s = register(source);
      return this.#modrm([0x84], s.size, destination, s.number, s.needsRex);
    }
    const size = this.#size(destination);
    const immediate = { value: source, size: Math.min(size, 4) };
    this.emit({ size, opcode: [size === 1 ? 0xf6 : 0xf7], reg: 0, rm: destination, immediate });
  }

  #unary(opcode: number, digit: number, operand: string | Memory): void {
    this.#modrm([opcode], this.#size(operand), operand, digit);
  }

  inc(operand: string | Memory): void {
    this.#unary(0xfe, 0, operand);
  }
  dec(operand: string | Memory): void {
    this.#unary(0xfe, 1, operand);
  }
  not(operand: string | Memory): void {
    this.#unary(0xf6, 2, operand);
  }
  neg(operand: string | Memory): void {
    this.#unary(0xf6, 3, operand);
  }
  mul(operand: string | Memory): void {
    this.#unary(0xf6, 4, operand);
  }
  div(operand: string | Memory): void {
    this.#unary(0xf6, 6, operand);
  }

  #shift(digit: number, operand: string | Memory, count: number | 'cl'): void {
    const size = this.#size(operand);
    if (count === 'cl') return this.#modrm([0xd2], size, operand, digit);
    this.emit({
      size,
      opcode: [size === 1 ? 0xc0 : 0xc1],
      reg: digit,
      rm: operand,
      immediate: { value: count, size: 1 },
    });
  }

  shl(operand: string | Memory, count: number | 'cl'): void {
    this.#shift(4, operand, count);
  }
  shr(operand: string | Memory, count: number | 'cl'): void {
    this.#shift(5, operand, count);
  }

  lea(destination: string, source: Memory): void {
    const d = register(destination);
    this.emit({ size: d.size, opcode: [0x8d], reg: d.number, rm: source });
  }

  xchg(a: string | Memory, b: string): void {
    const r = register(b);
    this.#modrm([0x86], r.size, a, r.number, r.needsRex);
  }

  push(operand: Operand): void {
    if (isImmediate(operand))
      return this.emit({ size: 0, opcode: [0x68], immediate: { value: operand, size: this.#bits === 16 ? 2 : 4 } });
    if (isMemory(operand))
      return this.emit({ size: operand.size ?? this.#bits / 8, opcode: [0xff], reg: 6, rm: operand, default64: true });
    const r = register(operand);
    if (r.kind === 'segment')
      return this.db(...(r.number > 3 ? [0x0f, r.number === 4 ? 0xa0 : 0xa8] : [0x06 | (r.number << 3)]));
    this.emit({ size: r.size, opcode: [0x50], plus: r, default64: true });
  }

  pop(operand: string | Memory): void {
    if (isMemory(operand))
      return this.emit({ size: operand.size ?? this.#bits / 8, opcode: [0x8f], reg: 0, rm: operand, default64: true });
    const r = register(operand);
    if (r.kind === 'segment')
      return this.db(...(r.number > 3 ? [0x0f, r.number === 4 ? 0xa1 : 0xa9] : [0x07 | (r.number << 3)]));
    this.emit({ size: r.size, opcode: [0x58], plus: r, default64: true });
  }

  #relative(opcode: readonly number[], target: Target): void {
    const size = this.#bits === 16 ? 2 : 4;
    const next = this.here + opcode.length + size;
    this.db(...opcode, ...littleEndian(this.address(target) - next, size));
  }

  #short(opcode: number, target: Target): void {
    const distance = this.address(target) - (this.here + 2);
    // Labels of the first pass are not true yet.
    this.db(opcode, this.#known === undefined ? 0 : (littleEndian(distance, 1)[0] as number));
  }

  jmp(target: Target | Memory): void {
    if (isMemory(target))
      return this.emit({ size: target.size ?? this.#bits / 8, opcode: [0xff], reg: 4, rm: target, default64: true });
    this.#relative([0xe9], target);
  }

  call(target: Target | Memory): void {
    if (isMemory(target))
      return this.emit({ size: target.size ?? this.#bits / 8, opcode: [0xff], reg: 2, rm: target, default64: true });
    this.#relative([0xe8], target);
  }

  /** JMP to the address in a register. */
  jmpRegister(name: string): void {
    this.emit({ size: register(name).size, opcode: [0xff], reg: 4, rm: name, default64: true });
  }
  callRegister(name: string): void {
    this.emit({ size: register(name).size, opcode: [0xff], reg: 2, rm: name, default64: true });
  }
  jcc(condition: Condition, target: Target): void {
    this.#relative([0x0f, 0x80 | CONDITIONS.indexOf(condition)], target);
  }
  jmpShort(target: Target): void {
    this.#short(0xeb, target);
  }
  loop(target: Target): void {
    this.#short(0xe2, target);
  }

  /** JMP ptr16:16 or ptr16:32 (by the code's size, or `size` bytes of offset). */
  jmpFar(selector: number, target: Target, size = this.#bits === 16 ? 2 : 4): void {
    this.#far(0xea, selector, target, size);
  }
  callFar(selector: number, target: Target, size = this.#bits === 16 ? 2 : 4): void {
    this.#far(0x9a, selector, target, size);
  }

  #far(opcode: number, selector: number, target: Target, size: number): void {
    if (size * 8 !== this.#bits) this.db(0x66);
    this.db(opcode, ...littleEndian(this.address(target), size), ...littleEndian(selector, 2));
  }

  /** JMP/CALL m16:16, m16:32, m16:64: `size` bytes of offset at the memory operand, then the selector. */
  jmpFarMemory(memory: Memory, size: number): void {
    this.emit({ size, opcode: [0xff], reg: 5, rm: memory });
  }
  callFarMemory(memory: Memory, size: number): void {
    this.emit({ size, opcode: [0xff], reg: 3, rm: memory });
  }

  ret(pop?: number): void {
    this.db(...(pop === undefined ? [0xc3] : [0xc2, ...littleEndian(pop, 2)]));
  }
  /** RETF with an operand of `size` bytes. */
  retf(size = this.#bits === 16 ? 2 : 4): void {
    this.emit({ size, opcode: [0xcb] });
  }
  /** IRET, IRETD, IRETQ by the operand's size. */
  iret(size = this.#bits / 8): void {
    this.emit({ size, opcode: [0xcf] });
  }
  int(vector: number): void {
    this.db(0xcd, vector);
  }
  int3(): void {
    this.db(0xcc);
  }
  int1(): void {
    this.db(0xf1);
  }
  into(): void {
    this.db(0xce);
  }
  hlt(): void {
    this.db(0xf4);
  }
  nop(): void {
    this.db(0x90);
  }
  cli(): void {
    this.db(0xfa);
  }
  sti(): void {
    this.db(0xfb);
  }
  cld(): void {
    this.db(0xfc);
  }
  std(): void {
    this.db(0xfd);
  }
  ud2(): void {
    this.db(0x0f, 0x0b);
  }
  leave(): void {
    this.db(0xc9);
  }
  cpuid(): void {
    this.db(0x0f, 0xa2);
  }
  rdmsr(): void {
    this.db(0x0f, 0x32);
  }
  wrmsr(): void {
    this.db(0x0f, 0x30);
  }
  rdtsc(): void {
    this.db(0x0f, 0x31);
  }
  clts(): void {
    this.db(0x0f, 0x06);
  }
  syscall(): void {
    this.db(0x0f, 0x05);
  }
  /** SYSRET to 64-bit code with `size` 8, to compatibility mode with 4. */
  sysret(size = 8): void {
    this.emit({ size, opcode: [0x0f, 0x07] });
  }
  sysenter(): void {
    this.db(0x0f, 0x34);
  }
  sysexit(size = 8): void {
    this.emit({ size: size === 8 ? 8 : 0, opcode: [0x0f, 0x35] });
  }
  swapgs(): void {
    this.db(0x0f, 0x01, 0xf8);
  }
  stac(): void {
    this.db(0x0f, 0x01, 0xcb);
  }
  clac(): void {
    this.db(0x0f, 0x01, 0xca);
  }
  pushf(): void {
    this.db(0x9c);
  }
  popf(): void {
    this.db(0x9d);
  }
  repMovsb(): void {
    this.db(0xf3, 0xa4);
  }
  repStosb(): void {
    this.db(0xf3, 0xaa);
  }
  #table(opcode: readonly number[], digit: number, memory: Memory): void {
    this.emit({ size: 0, opcode, reg: digit, rm: memory });
  }
  sgdt(memory: Memory): void {
    this.#table([0x0f, 0x01], 0, memory);
  }
  sidt(memory: Memory): void {
    this.#table([0x0f, 0x01], 1, memory);
  }
  lgdt(memory: Memory): void {
    this.#table([0x0f, 0x01], 2, memory);
  }
  lidt(memory: Memory): void {
    this.#table([0x0f, 0x01], 3, memory);
  }
  invlpg(memory: Memory): void {
    this.#table([0x0f, 0x01], 7, memory);
  }
  fxsave64(memory: Memory): void {
    this.emit({ size: 8, opcode: [0x0f, 0xae], reg: 0, rm: memory });
  }
  fxrstor64(memory: Memory): void {
    this.emit({ size: 8, opcode: [0x0f, 0xae], reg: 1, rm: memory });
  }
  ldmxcsr(memory: Memory): void {
    this.#table([0x0f, 0xae], 2, memory);
  }
  stmxcsr(memory: Memory): void {
    this.#table([0x0f, 0xae], 3, memory);
  }
  lldt(operand: string | Memory): void {
    this.emit({ size: 0, opcode: [0x0f, 0x00], reg: 2, rm: operand });
  }
  ltr(operand: string | Memory): void {
    this.emit({ size: 0, opcode: [0x0f, 0x00], reg: 3, rm: operand });
  }
  str(operand: string | Memory): void {
    this.emit({ size: 0, opcode: [0x0f, 0x00], reg: 1, rm: operand });
  }
  lmsw(operand: string | Memory): void {
    this.emit({ size: 0, opcode: [0x0f, 0x01], reg: 6, rm: operand });
  }

  /** IN AL/AX/EAX from an immediate port or DX. */
  in(accumulator: 'al' | 'ax' | 'eax', port: number | 'dx'): void {
    this.#port(0xe4, accumulator, port);
  }
  out(port: number | 'dx', accumulator: 'al' | 'ax' | 'eax'): void {
    this.#port(0xe6, accumulator, port);
  }

  #port(opcode: number, accumulator: string, port: number | 'dx'): void {
    const size = register(accumulator).size;
    const wide = size === 1 ? 0 : 1;
    if (port === 'dx') this.emit({ size, opcode: [opcode + 8 + wide] });
    else this.emit({ size, opcode: [opcode + wide], immediate: { value: port, size: 1 } });
  }
}

/**
 * Assembles `program` for an address. Runs it until labels keep their places, at most eight times.
 * Throws when a label is missing, a value does not fit, or the labels never settle.
 */
export function assemble(origin: number, bits: Bits, program: (a: Assembler) => void): Program {
  let known: ReadonlyMap<string, number> | undefined;
  for (let pass = 0; pass < 8; pass++) {
    const a = new Assembler(origin, bits, known);
    program(a);
    const labels = a.labels;
    if (known !== undefined && [...labels].every(([name, address]) => known?.get(name) === address)) {
      return { bytes: Uint8Array.from(a.bytes), labels };
    }
    known = labels;
  }
  throw new Error('labels do not settle');
}
