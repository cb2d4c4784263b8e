import * as L from '../layout.ts';
import { DecodeTable, Form, type Plan, RegisterFile } from './plan.ts';

/** Longest instruction (SDM volume 3, 6.15, #GP): one byte more raises #GP(0). */
export const MAX_INSTRUCTION = 15;

/** Outcome of decode(). */
export type DecodeStatus = 'ok' | 'undefined' | 'too-long' | 'more-bytes';

const SEG_FS = 4;
const SEG_SS = 2;
const SEG_DS = 3;
const NO_SEGMENT = -1;

/**
 * Decodes one instruction at a time into its fields. The instance is reused: fields hold the last decoded instruction.
 */
export class Decoder {
  plan: Plan | undefined;
  /** Operand size in bytes, as the line's handlers count it. */
  size = 0;
  form: Form = Form.register;
  length = 0;
  /** State address for ModRM.reg, for ModRM.rm or the base, for the index, for VEX.vvvv. */
  reg = 0;
  rm = 0;
  index = 0;
  vvvv = 0;
  scale = 0;
  /** State address of the segment whose base is added, or ZERO. */
  segment = 0;
  /** 64 bits each, in signed halves: every other representation of such numbers costs memory for each of them. */
  displacementLow = 0;
  displacementHigh = 0;
  immediateLow = 0;
  immediateHigh = 0;
  /** RP_* bits. */
  prefixes = 0;
  /** Branch displacement, if the line has one. */
  relative = 0;
  hasRelative = false;

  #bytes: Uint8Array;
  #view: DataView;
  #at = 0;
  #end = 0;
  #mode64 = false;
  #codeSize = 0;
  #rex = 0;
  #operand66 = false;
  #repeat = 0;
  #segmentPrefix = NO_SEGMENT;
  #address67 = false;
  #lock = false;
  #vex = false;
  #vexL = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get mode64(): boolean {
    return this.#mode64;
  }

  /**
   * @param start index of the first byte in `bytes`
   * @param available bytes that may be read from there (a page's rest, or MAX_INSTRUCTION)
   * @param mode MODE_* bits of the code segment
   */
  decode(start: number, available: number, mode: number): DecodeStatus {
    this.#at = start;
    this.#end = start + Math.min(available, MAX_INSTRUCTION);
    this.#codeSize = mode & L.MODE_CODE_MASK;
    this.#mode64 = this.#codeSize === L.MODE_CODE64;
    try {
      return this.#instruction(mode);
    } catch (error) {
      if (error !== OUT_OF_BYTES) throw error;
      return available >= MAX_INSTRUCTION ? 'too-long' : 'more-bytes';
    } finally {
      this.length = this.#at - start;
    }
  }

  #u8(): number {
    if (this.#at >= this.#end) throw OUT_OF_BYTES;
    return this.#bytes[this.#at++] as number;
  }

  /** Moves past `count` bytes and gives the index of the first. */
  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#end) throw OUT_OF_BYTES;
    this.#at = at + count;
    return at;
  }

  /** A signed number of 1, 2 or 4 bytes. */
  #signed(count: number): number {
    const at = this.#take(count);
    if (count === 1) return this.#view.getInt8(at);
    if (count === 2) return this.#view.getInt16(at, true);
    return this.#view.getInt32(at, true);
  }

  #setDisplacement(value: number): void {
    this.displacementLow = value | 0;
    this.displacementHigh = value < 0 ? -1 : 0;
  }

  #setImmediate(value: number): void {
    this.immediateLow = value | 0;
    this.immediateHigh = value < 0 ? -1 : 0;
  }

  #prefixBytes(): number {
    this.#rex = 0;
    this.#operand66 = false;
    this.#repeat = 0;
    this.#segmentPrefix = NO_SEGMENT;
    this.#address67 = false;
    this.#lock = false;
    for (;;) {
      const byte = this.#u8();
      if (PREFIX[byte] === NO_PREFIX) return byte;
      switch (byte) {
        case 0x66:
          this.#operand66 = true;
          break;
        case 0x67:
          this.#address67 = true;
          break;
        case 0xf0:
          this.#lock = true;
          break;
        case 0xf2:
        case 0xf3:
          this.#repeat = byte;
          break;
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
          // ES, CS, SS, DS mean nothing in 64-bit mode, and do not undo FS or GS.
          if (!this.#mode64) this.#segmentPrefix = (byte >> 3) & 3;
          break;
        case 0x64:
        case 0x65:
          this.#segmentPrefix = byte - 0x64 + SEG_FS;
          break;
        default: {
          if (!this.#mode64) return byte;
          this.#rex = byte;
          const next = this.#u8();
          // A REX prefix counts only right before the opcode.
          if (PREFIX[next] === NO_PREFIX) return next;
          this.#rex = 0;
          this.#at--;
        }
      }
    }
  }

  #instruction(mode: number): DecodeStatus {
    let opcode = this.#prefixBytes();
    let map = 0;
    this.#vex = false;
    this.#vexL = 0;
    this.vvvv = L.ZERO;
    let vvvv = 0;
    if ((opcode === 0xc4 || opcode === 0xc5) && this.#isVex(mode)) {
      if (this.#rex || this.#operand66 || this.#repeat || this.#lock) return 'undefined';
      this.#vex = true;
      const first = this.#u8();
      let last = first;
      map = 1;
      let rex = 0x40 | (first & 0x80 ? 0 : 4);
      if (opcode === 0xc4) {
        map = first & 31;
        rex |= (first & 0x40 ? 0 : 2) | (first & 0x20 ? 0 : 1);
        last = this.#u8();
        if (last & 0x80) rex |= 8;
      }
      if (!this.#mode64) rex &= ~7;
      this.#rex = rex;
      vvvv = ~(last >> 3) & (this.#mode64 ? 15 : 7);
      this.#vexL = (last >> 2) & 1;
      this.#operand66 = (last & 3) === 1;
      this.#repeat = (last & 3) === 2 ? 0xf3 : (last & 3) === 3 ? 0xf2 : 0;
      opcode = this.#u8();
    } else if (opcode === 0x0f) {
      opcode = this.#u8();
      map = 1;
      if (opcode === 0x38 || opcode === 0x3a) {
        map = opcode === 0x38 ? 2 : 3;
        opcode = this.#u8();
      }
    }
    const modrm = this.#at < this.#end ? (this.#bytes[this.#at] as number) : -1;
    const candidates = (this.#vex ? vexTable : table).candidates(map, opcode, this.#mode64, modrm);
    const plan = this.#select(candidates, modrm, opcode);
    if (!plan) {
      const cut = modrm < 0 && (this.#vex ? vexTable : table).hasModrm(map, opcode);
      return cut ? this.#outOfBytes() : 'undefined';
    }
    // VEX.vvvv must say register 0, inverted, where it is not used.
    if (vvvv !== 0 && !plan.vvvv) return 'undefined';
    if (this.#lock && !(plan.lockable && modrm >= 0 && modrm < 0xc0)) return 'undefined';
    this.plan = plan;
    this.size = this.#operandSize(plan);
    this.index = L.ZERO;
    this.segment = L.ZERO;
    this.scale = 0;
    this.displacementLow = 0;
    this.displacementHigh = 0;
    this.immediateLow = 0;
    this.immediateHigh = 0;
    this.hasRelative = false;
    this.prefixes = this.#prefixBits();
    this.reg = 0;
    this.rm = 0;
    this.form = Form.register;
    if (plan.hasModrm) this.#modrm(plan, vvvv);
    else this.#implicit(plan, opcode);
    if (plan.immediates.length > 0) this.#immediates(plan);
    if (plan.vsib && !this.#gathers()) return 'undefined';
    // x87 has no immediates: the place holds the 11-bit opcode that FOP gets.
    if (map === 0 && (opcode & 0xf8) === 0xd8) this.immediateLow = ((opcode & 7) << 8) | modrm;
    return 'ok';
  }

  /** Whether a gather's address has a SIB byte, and its registers differ. */
  #gathers(): boolean {
    return this.index >= L.XMM && this.index !== this.reg && this.index !== this.vvvv && this.reg !== this.vvvv;
  }

  #outOfBytes(): never {
    throw OUT_OF_BYTES;
  }

  /** Outside 64-bit mode C4 and C5 are LES and LDS unless their ModRM names a register; real mode has no VEX. */
  #isVex(mode: number): boolean {
    if (this.#mode64) return true;
    if (mode & L.MODE_REAL) return false;
    if (this.#at >= this.#end) throw OUT_OF_BYTES;
    return (this.#bytes[this.#at] as number) >= 0xc0;
  }

  #select(candidates: readonly Plan[], modrm: number, opcode: number): Plan | undefined {
    const w = this.#rex & 8 ? 1 : 0;
    const prefix = this.#repeat !== 0 ? this.#repeat : this.#operand66 ? 0x66 : 0;
    let fallback: Plan | undefined;
    for (let i = 0; i < candidates.length; i++) {
      const plan = candidates[i] as Plan;
      if (plan.modrm >= 0 && plan.modrm !== modrm) continue;
      if (plan.w >= 0 && plan.w !== w) continue;
      if (this.#vex && plan.vexL >= 0 && plan.vexL !== this.#vexL) continue;
      // 90 is NOP, not XCHG of the accumulator with itself (which would clear the upper half).
      if (opcode === 0x90 && plan.xchg && !(this.#rex & 1)) continue;
      if (plan.prefix < 0) fallback ??= plan;
      else if (plan.prefix === prefix) return plan;
      // 66 beside a mandatory F2 or F3, or with an instruction that has operand sizes, is an operand size.
      else if (plan.prefix === 0 && prefix === 0x66 && plan.sizes.length === 3) fallback ??= plan;
    }
    return fallback;
  }

  #operandSize({ sizes, default64 }: Plan): number {
    if (sizes.length === 1) return sizes[0] as number;
    if (sizes[1] === 32) return this.#vexL ? 32 : 16;
    const wide = (this.#rex & 8) !== 0;
    if (this.#mode64) {
      if (default64 === 'forced') return 8;
      if (wide) return 8;
      const short = this.#operand66 && sizes[0] === 2;
      if (short) return 2;
      return default64 === 'default' ? 8 : 4;
    }
    if (sizes[0] === 4) return 4;
    return (this.#codeSize === L.MODE_CODE32) !== this.#operand66 ? 4 : 2;
  }

  #prefixBits(): number {
    let bits = 0;
    if (this.#mode64) {
      if (this.#address67) bits |= L.RP_ADDR32;
    } else {
      bits |= (this.#codeSize === L.MODE_CODE32) !== this.#address67 ? L.RP_ADDR32 : L.RP_ADDR16;
    }
    if (this.#repeat === 0xf3) bits |= L.RP_REP;
    if (this.#repeat === 0xf2) bits |= L.RP_REPNE;
    if (this.#lock) bits |= L.RP_LOCK;
    if (this.size === 2) bits |= L.RP_OP16;
    // REX.W where operands have no sizes: PCMPESTRI and PCMPESTRM.
    if (this.size === 8 || (this.size === 0 && this.#mode64 && this.#rex & 8)) bits |= L.RP_OP64;
    return bits;
  }

  /** State address of a register. */
  #register(file: RegisterFile, number: number): number {
    // AH CH DH BH, unless a REX prefix makes them SPL BPL SIL DIL.
    if (file.bytes && number >= 4 && number < 8 && (this.#rex === 0 || this.#vex)) return L.GPR + (number - 4) * 8 + 1;
    return file.base + (number & file.mask) * file.step;
  }

  #modrm(plan: Plan, vvvv: number): void {
    const modrm = this.#u8();
    if (plan.reg) this.reg = this.#register(plan.reg, ((modrm >> 3) & 7) | (this.#rex & 4 ? 8 : 0));
    if (plan.vvvv) this.vvvv = this.#register(plan.vvvv, vvvv);
    if (modrm >= 0xc0) {
      if (plan.rm) this.rm = this.#register(plan.rm, (modrm & 7) | (this.#rex & 1 ? 8 : 0));
      return;
    }
    if (this.prefixes & L.RP_ADDR16) this.#address16(modrm);
    else this.#address(modrm, plan.vsib);
    if (plan.vexVector && this.form === Form.base) this.form = Form.index;
  }

  #finishAddress(stack: boolean, hasIndex: boolean): void {
    const segment = this.#segmentPrefix;
    const effective = segment !== NO_SEGMENT ? segment : stack ? SEG_SS : SEG_DS;
    if (effective === SEG_SS) this.prefixes |= L.RP_STACK;
    if (this.#mode64 && !this.#address67) {
      if (segment >= SEG_FS) {
        this.segment = L.SEG + segment * L.SEG_SIZE;
        this.form = Form.index;
      } else {
        this.form = hasIndex ? Form.index : Form.base;
      }
    } else {
      this.segment = L.SEG + effective * L.SEG_SIZE;
      this.form = Form.slow;
    }
  }

  #address(modrm: number, vsib: boolean): void {
    const mod = modrm >> 6;
    let base = modrm & 7;
    let stack = false;
    let hasIndex = false;
    let noBase = false;
    if (base === 4) {
      const sib = this.#u8();
      const index = ((sib >> 3) & 7) | (this.#rex & 2 ? 8 : 0);
      if (index !== 4 || vsib) {
        this.index = vsib ? L.XMM + index * L.XMM_SIZE : L.GPR + index * 8;
        this.scale = sib >> 6;
        hasIndex = true;
      }
      base = sib & 7;
      noBase = base === 5 && mod === 0;
      stack = base === 4 || (base === 5 && !noBase);
      // R12 and R13 are not stack registers.
      if (this.#rex & 1) stack = false;
      this.rm = noBase ? L.ZERO : L.GPR + (base | (this.#rex & 1 ? 8 : 0)) * 8;
    } else if (base === 5 && mod === 0) {
      noBase = true;
      this.rm = this.#mode64 ? L.IP_PAGE : L.ZERO;
    } else {
      stack = base === 5 && !(this.#rex & 1);
      this.rm = L.GPR + (base | (this.#rex & 1 ? 8 : 0)) * 8;
    }
    if (mod === 1) this.#setDisplacement(this.#signed(1));
    else if (mod === 2 || noBase) this.#setDisplacement(this.#signed(4));
    this.#finishAddress(stack, hasIndex);
  }

  #address16(modrm: number): void {
    const mod = modrm >> 6;
    const rm = modrm & 7;
    // BX+SI BX+DI BP+SI BP+DI SI DI BP BX
    const bases = [3, 3, 5, 5, 6, 7, 5, 3];
    const indices = [6, 7, 6, 7, -1, -1, -1, -1];
    const direct = mod === 0 && rm === 6;
    this.rm = direct ? L.ZERO : L.GPR + (bases[rm] as number) * 8;
    const index = indices[rm] as number;
    if (index >= 0) this.index = L.GPR + index * 8;
    if (mod === 1) this.#setDisplacement(this.#signed(1));
    else if (mod === 2 || direct) this.#setDisplacement(this.#signed(2));
    this.#finishAddress(bases[rm] === 5 && !direct, true);
  }

  /** Operands of an instruction without ModRM. */
  #implicit(plan: Plan, opcode: number): void {
    if (plan.low) {
      this.rm = this.#register(plan.low, (opcode & 7) | (this.#rex & 1 ? 8 : 0));
    } else if (plan.offset) {
      const bytes = this.prefixes & L.RP_ADDR16 ? 2 : this.prefixes & L.RP_ADDR32 ? 4 : 8;
      const at = this.#take(bytes);
      this.displacementLow = bytes === 2 ? this.#view.getUint16(at, true) : this.#view.getInt32(at, true);
      this.displacementHigh = bytes === 8 ? this.#view.getInt32(at + 4, true) : 0;
      this.rm = L.ZERO;
      this.#finishAddress(false, true);
      return;
    }
    // String instructions and XLAT: the source's segment.
    const segment = this.#segmentPrefix === NO_SEGMENT ? SEG_DS : this.#segmentPrefix;
    if (!this.#mode64 || segment >= SEG_FS) this.segment = L.SEG + segment * L.SEG_SIZE;
  }

  #immediates({ immediates }: Plan): void {
    for (let i = 0; i < immediates.length; i++) {
      switch (immediates[i]) {
        case 'byte':
          this.#setImmediate(this.#signed(1));
          break;
        case 'word':
          this.#setImmediate(this.#signed(2));
          break;
        case 'whole':
          this.#setImmediate(this.#signed(Math.min(this.size, 4)));
          if (this.size === 8) this.immediateHigh = this.#signed(4);
          break;
        case 'short':
          this.#setImmediate(this.#signed(Math.min(this.size || 4, 4)));
          break;
        case 'register': {
          const number = (this.#signed(1) & 0xff) >> 4;
          this.immediateLow = this.#register(RegisterFile.vector, this.#mode64 ? number : number & 7);
          break;
        }
        case 'near':
          this.hasRelative = true;
          this.relative = this.#signed(this.size === 2 ? 2 : 4);
          break;
        case 'near-byte':
          this.hasRelative = true;
          this.relative = this.#signed(1);
          break;
        case 'far':
          this.#setImmediate(this.#signed(this.size === 2 ? 2 : 4));
          this.#setDisplacement(this.#signed(2));
          break;
        case 'level':
          this.displacementLow = this.#signed(1) & 0xff;
          break;
        default:
      }
    }
  }

  /** Table index of the handler for the decoded instruction. */
  get handler(): number {
    return (this.plan as Plan).handler(this.size, this.form, this.#mode64);
  }
}

const OUT_OF_BYTES = new Error('out of bytes');

const table = new DecodeTable(false);
const vexTable = new DecodeTable(true);

const NO_PREFIX = 0;
/** By byte: whether it is a prefix, REX included. */
const PREFIX = new Uint8Array(256);
for (const byte of [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) PREFIX[byte] = 1;
PREFIX.fill(1, 0x40, 0x50);
