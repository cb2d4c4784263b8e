import * as L from '../layout.ts';
import { allLines, type Form, handlerIndex, type Line } from '../semantics/index.ts';
import type { Encoding } from './encoding.ts';

/** Longest instruction (SDM volume 3, 6.15, #GP): one byte more raises #GP(0). */
export const MAX_INSTRUCTION = 15;

/** Outcome of decode(). */
export type DecodeStatus = 'ok' | 'undefined' | 'too-long' | 'more-bytes';

const SEGMENT_PREFIX: Record<number, number> = { 0x26: 0, 0x2e: 1, 0x36: 2, 0x3e: 3, 0x64: 4, 0x65: 5 };
const SEG_FS = 4;
const SEG_SS = 2;
const SEG_DS = 3;
const NO_SEGMENT = -1;

/** Lines by [map][opcode]. */
const table: Line[][][] = [];
const vexTable: Line[][][] = [];

function place(line: Line, opcode: number): void {
  const { encoding } = line;
  const tables = encoding.vex ? vexTable : table;
  ((tables[encoding.map] ??= [])[opcode] ??= []).push(line);
}

for (const line of allLines()) {
  const { encoding } = line;
  for (let r = 0; r < (encoding.plusRegister ? 8 : 1); r++) place(line, encoding.opcode + r);
}

/**
 * Decodes one instruction at a time into its fields. The instance is reused: fields hold the last decoded instruction.
 */
export class Decoder {
  line: Line | undefined;
  /** Operand size in bytes, as the line's handlers count it. */
  size = 0;
  form: Form = 'register';
  length = 0;
  /** State address for ModRM.reg, for ModRM.rm or the base, for the index, for VEX.vvvv. */
  reg = 0;
  rm = 0;
  index = 0;
  vvvv = 0;
  scale = 0;
  /** State address of the segment whose base is added, or ZERO. */
  segment = 0;
  displacement = 0n;
  immediate = 0n;
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

  #signed(count: number): bigint {
    const at = this.#take(count);
    if (count === 1) return BigInt(this.#view.getInt8(at));
    if (count === 2) return BigInt(this.#view.getInt16(at, true));
    if (count === 4) return BigInt(this.#view.getInt32(at, true));
    return this.#view.getBigInt64(at, true);
  }

  #signedNumber(count: number): number {
    const at = this.#take(count);
    if (count === 1) return this.#view.getInt8(at);
    if (count === 2) return this.#view.getInt16(at, true);
    return this.#view.getInt32(at, true);
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
          if (!this.#mode64) this.#segmentPrefix = SEGMENT_PREFIX[byte] as number;
          break;
        case 0x64:
        case 0x65:
          this.#segmentPrefix = SEGMENT_PREFIX[byte] as number;
          break;
        default:
          if (this.#mode64 && (byte & 0xf0) === 0x40) {
            this.#rex = byte;
            const next = this.#u8();
            // A REX prefix counts only right before the opcode.
            if (!isPrefix(next)) return next;
            this.#rex = 0;
            this.#at--;
            break;
          }
          return byte;
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
    const candidates = (this.#vex ? vexTable : table)[map]?.[opcode];
    if (!candidates) return 'undefined';
    const modrm = this.#at < this.#end ? (this.#bytes[this.#at] as number) : -1;
    const line = this.#select(candidates, modrm, opcode);
    if (!line) return modrm < 0 && candidates.some((c) => c.encoding.hasModrm) ? this.#outOfBytes() : 'undefined';
    const { encoding } = line;
    // VEX.vvvv must say register 0, inverted, where it is not used.
    if (vvvv !== 0 && !encoding.operands.some(({ place }) => place === 'B' || place === 'H')) return 'undefined';
    if (this.#lock && !(encoding.lockable && modrm >= 0 && modrm < 0xc0)) return 'undefined';
    this.line = line;
    this.size = this.#operandSize(encoding);
    this.index = L.ZERO;
    this.segment = L.ZERO;
    this.scale = 0;
    this.displacement = 0n;
    this.immediate = 0n;
    this.hasRelative = false;
    this.prefixes = this.#prefixBits();
    this.reg = 0;
    this.rm = 0;
    this.form = 'register';
    if (encoding.hasModrm) this.#modrm(encoding, vvvv);
    else this.#implicit(encoding, opcode);
    this.#immediates(encoding);
    if (encoding.vsib && !this.#gathers()) return 'undefined';
    // x87 has no immediates: the place holds the 11-bit opcode that FOP gets.
    if (map === 0 && (opcode & 0xf8) === 0xd8) this.immediate = BigInt(((opcode & 7) << 8) | modrm);
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

  #select(candidates: readonly Line[], modrm: number, opcode: number): Line | undefined {
    const w = this.#rex & 8 ? 1 : 0;
    const prefix = this.#repeat === 0xf3 ? 'F3' : this.#repeat === 0xf2 ? 'F2' : this.#operand66 ? '66' : 'none';
    let fallback: Line | undefined;
    for (const line of candidates) {
      const { encoding } = line;
      if (this.#mode64 ? !encoding.in64 : !encoding.inLegacy) continue;
      if (encoding.hasModrm) {
        if (modrm < 0) continue;
        if (encoding.modrm !== undefined && encoding.modrm !== modrm) continue;
        if (encoding.digit !== undefined && encoding.digit !== ((modrm >> 3) & 7)) continue;
        if (modrm >= 0xc0 ? !encoding.registerForm : !encoding.memoryForm) continue;
      }
      if (encoding.w !== 'any' && encoding.w !== w) continue;
      if (this.#vex && encoding.vexL !== 'any' && encoding.vexL !== this.#vexL) continue;
      // 90 is NOP, not XCHG of the accumulator with itself (which would clear the upper half).
      if (opcode === 0x90 && encoding.map === 0 && encoding.plusRegister && !(this.#rex & 1)) continue;
      if (encoding.prefix === 'any') fallback ??= line;
      else if (encoding.prefix === prefix) return line;
      // 66 beside a mandatory F2 or F3, or with an instruction that has operand sizes, is an operand size.
      else if (encoding.prefix === 'none' && prefix === '66' && encoding.sizes.length === 3) fallback ??= line;
    }
    return fallback;
  }

  #operandSize(encoding: Encoding): number {
    const { sizes, default64 } = encoding;
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
  #register(code: string, number: number, bytes: number): number {
    switch (code) {
      case 'V':
      case 'W':
      case 'U':
      case 'H':
      case 'L':
        return L.XMM + number * L.XMM_SIZE;
      case 'P':
      case 'Q':
      case 'N':
        return L.FPR + (number & 7) * 16;
      case 'S':
        return number & 7;
      case 'C':
      case 'D':
      case 'ST':
        return number;
      default:
        // AH CH DH BH, unless a REX prefix makes them SPL BPL SIL DIL.
        if (bytes === 1 && number >= 4 && number < 8 && (this.#rex === 0 || this.#vex))
          return L.GPR + (number - 4) * 8 + 1;
        return L.GPR + number * 8;
    }
  }

  #modrm(encoding: Encoding, vvvv: number): void {
    const modrm = this.#u8();
    const regNumber = ((modrm >> 3) & 7) | (this.#rex & 4 ? 8 : 0);
    const rmNumber = (modrm & 7) | (this.#rex & 1 ? 8 : 0);
    for (const operand of encoding.operands) {
      const bytes = operand.size === 'b' ? 1 : 8;
      switch (operand.place) {
        case 'G':
        case 'V':
        case 'P':
        case 'C':
        case 'D':
          this.reg = this.#register(operand.place, regNumber, bytes);
          break;
        case 'S':
          this.reg = (modrm >> 3) & 7;
          break;
        case 'B':
        case 'H':
          this.vvvv = this.#register(operand.place, vvvv, 8);
          break;
        case 'ST':
          this.rm = modrm & 7;
          break;
        case 'E':
        case 'R':
        case 'W':
        case 'U':
        case 'Q':
        case 'N':
          if (modrm >= 0xc0) this.rm = this.#register(operand.place, rmNumber, bytes);
          break;
        default:
      }
    }
    if (modrm < 0xc0) {
      if (this.prefixes & L.RP_ADDR16) this.#address16(modrm);
      else this.#address(modrm, encoding.vsib);
      if (encoding.vexVector && this.form === 'base') this.form = 'index';
    }
  }

  #finishAddress(stack: boolean, hasIndex: boolean): void {
    const segment = this.#segmentPrefix;
    const effective = segment !== NO_SEGMENT ? segment : stack ? SEG_SS : SEG_DS;
    if (effective === SEG_SS) this.prefixes |= L.RP_STACK;
    if (this.#mode64 && !this.#address67) {
      if (segment >= SEG_FS) {
        this.segment = L.SEG + segment * L.SEG_SIZE;
        this.form = 'index';
      } else {
        this.form = hasIndex ? 'index' : 'base';
      }
    } else {
      this.segment = L.SEG + effective * L.SEG_SIZE;
      this.form = 'slow';
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
    if (mod === 1) this.displacement = this.#signed(1);
    else if (mod === 2 || noBase) this.displacement = this.#signed(4);
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
    if (mod === 1) this.displacement = this.#signed(1);
    else if (mod === 2 || direct) this.displacement = this.#signed(2);
    this.#finishAddress(bases[rm] === 5 && !direct, true);
  }

  /** Operands of an instruction without ModRM. */
  #implicit(encoding: Encoding, opcode: number): void {
    for (const operand of encoding.operands) {
      if (operand.place === 'Z') {
        const number = (opcode & 7) | (this.#rex & 1 ? 8 : 0);
        this.rm = this.#register('G', number, operand.size === 'b' ? 1 : 8);
      } else if (operand.place === 'O') {
        const bytes = this.prefixes & L.RP_ADDR16 ? 2 : this.prefixes & L.RP_ADDR32 ? 4 : 8;
        const at = this.#take(bytes);
        this.displacement =
          bytes === 8
            ? this.#view.getBigInt64(at, true)
            : BigInt(bytes === 4 ? this.#view.getUint32(at, true) : this.#view.getUint16(at, true));
        this.rm = L.ZERO;
        this.#finishAddress(false, true);
        return;
      }
    }
    // String instructions and XLAT: the source's segment.
    const segment = this.#segmentPrefix === NO_SEGMENT ? SEG_DS : this.#segmentPrefix;
    if (!this.#mode64 || segment >= SEG_FS) this.segment = L.SEG + segment * L.SEG_SIZE;
  }

  #immediates(encoding: Encoding): void {
    for (const operand of encoding.operands) {
      if (operand.place === 'I') {
        const bytes =
          operand.size === 'b'
            ? 1
            : operand.size === 'w'
              ? 2
              : operand.size === 'v'
                ? this.size
                : Math.min(this.size || 4, 4);
        this.immediate = this.#signed(bytes);
      } else if (operand.place === 'L') {
        const number = Number(this.#signed(1) & 0xffn) >> 4;
        this.immediate = BigInt(this.#register('L', this.#mode64 ? number : number & 7, 16));
      } else if (operand.place === 'J') {
        this.hasRelative = true;
        this.relative = this.#signedNumber(operand.size === 'b' ? 1 : this.size === 2 ? 2 : 4);
      } else if (operand.place === 'A') {
        this.immediate = this.#signed(this.size === 2 ? 2 : 4);
        this.displacement = this.#signed(2);
      }
    }
    // ENTER's nesting level.
    if (encoding.map === 0 && encoding.opcode === 0xc8) this.displacement = this.#signed(1) & 0xffn;
  }

  /** Table index of the handler for the decoded instruction. */
  get handler(): number {
    return handlerIndex(this.line as Line, this.size, this.form, this.#mode64);
  }
}

const OUT_OF_BYTES = new Error('out of bytes');

function isPrefix(byte: number): boolean {
  return (
    byte === 0x66 ||
    byte === 0x67 ||
    byte === 0xf0 ||
    byte === 0xf2 ||
    byte === 0xf3 ||
    byte === 0x26 ||
    byte === 0x2e ||
    byte === 0x36 ||
    byte === 0x3e ||
    byte === 0x64 ||
    byte === 0x65 ||
    (byte & 0xf0) === 0x40
  );
}
