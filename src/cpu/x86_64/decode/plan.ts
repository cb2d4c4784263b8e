// What the decoder needs of the instruction table, by opcode: all numbers of a line, made when the opcode is first met.

import * as L from '../layout.ts';
import type { OperandSpec, Place } from './encoding.ts';
import { handlersOf } from './handlers.ts';
import { type DecoderLine, linesOf, opcodeKey } from './lines.ts';

/** How the memory operand's address is made (Form in handlers.ts), as a number. */
export const Form = { register: 0, base: 1, index: 2, slow: 3 } as const;
export type Form = (typeof Form)[keyof typeof Form];

/** Where registers of one kind are in the state. */
export class RegisterFile {
  static readonly vector = new RegisterFile(L.XMM, L.XMM_SIZE, 15);
  static readonly mmx = new RegisterFile(L.FPR, 16, 7);
  static readonly general = new RegisterFile(L.GPR, 8, 15);
  static readonly bytes = new RegisterFile(L.GPR, 8, 15, true);
  /** Passed by number: control and debug registers; segments and the FPU's stack, which REX does not reach. */
  static readonly numbers = new RegisterFile(0, 1, 15);
  static readonly eight = new RegisterFile(0, 1, 7);

  readonly base: number;
  readonly step: number;
  /** What of a number counts. */
  readonly mask: number;
  /** Bytes of general registers: the second bytes of four of them are registers, too. */
  readonly bytes: boolean;

  private constructor(base: number, step: number, mask: number, bytes = false) {
    this.base = base;
    this.step = step;
    this.mask = mask;
    this.bytes = bytes;
  }

  static of({ place, size }: OperandSpec): RegisterFile {
    if ('VWUH'.includes(place)) return RegisterFile.vector;
    if ('PQN'.includes(place)) return RegisterFile.mmx;
    if ('CD'.includes(place)) return RegisterFile.numbers;
    if (place === 'S' || place === 'ST') return RegisterFile.eight;
    return size === 'b' ? RegisterFile.bytes : RegisterFile.general;
  }
}

/**
 * What follows the address: an immediate of a byte, a word, the operand's size, that but four bytes at most; a register in a byte; a branch's
 * displacement; a far pointer; ENTER's nesting level.
 */
type Immediate = 'byte' | 'word' | 'whole' | 'short' | 'register' | 'near' | 'near-byte' | 'far' | 'level';

const REG_PLACES: readonly Place[] = ['G', 'V', 'P', 'S', 'C', 'D'];
const RM_PLACES: readonly Place[] = ['E', 'R', 'W', 'U', 'Q', 'N', 'ST'];
const VVVV_PLACES: readonly Place[] = ['B', 'H'];
const ENTER = 0xc8;

function immediateOf({ place, size }: OperandSpec): Immediate | undefined {
  switch (place) {
    case 'I':
      return size === 'b' ? 'byte' : size === 'w' ? 'word' : size === 'v' ? 'whole' : 'short';
    case 'L':
      return 'register';
    case 'J':
      return size === 'b' ? 'near-byte' : 'near';
    case 'A':
      return 'far';
    default:
      return undefined;
  }
}

/** What the decoder needs of one line. Numbers that select the line are -1 where they do not. */
export class Plan {
  readonly hasModrm: boolean;
  readonly modrm: number;
  readonly w: number;
  readonly vexL: number;
  /** 0: none of the mandatory ones. */
  readonly prefix: number;
  /** XCHG with the accumulator. */
  readonly xchg: boolean;
  readonly lockable: boolean;
  readonly sizes: readonly number[];
  readonly default64: 'no' | 'default' | 'forced';
  /** Registers by ModRM.reg, by ModRM.rm, by VEX.vvvv, in the opcode. */
  readonly reg: RegisterFile | undefined;
  readonly rm: RegisterFile | undefined;
  readonly vvvv: RegisterFile | undefined;
  readonly low: RegisterFile | undefined;
  /** Has an absolute memory offset. */
  readonly offset: boolean;
  readonly vsib: boolean;
  readonly vexVector: boolean;
  readonly vex: boolean;
  readonly immediates: readonly Immediate[];
  /** Nothing after it belongs to the same block. */
  readonly ends: boolean;
  /** Uses the stack: what is 64 bits wide by default does, but for the jumps. */
  readonly stack: boolean;
  /** Handlers by long mode, form and size. */
  readonly #handlers: number[] = [];

  constructor(line: DecoderLine) {
    const { encoding } = line;
    const file = (places: readonly Place[]): RegisterFile | undefined => {
      const operand = encoding.operands.find(({ place }) => places.includes(place));
      return operand && RegisterFile.of(operand);
    };
    this.hasModrm = encoding.hasModrm;
    this.modrm = encoding.modrm ?? -1;
    this.w = encoding.w === 'any' ? -1 : encoding.w;
    this.vexL = encoding.vexL === 'any' ? -1 : encoding.vexL;
    this.prefix =
      encoding.prefix === 'any' ? -1 : encoding.prefix === 'none' ? 0 : Number.parseInt(encoding.prefix, 16);
    this.xchg = encoding.map === 0 && encoding.plusRegister;
    this.lockable = encoding.lockable;
    this.sizes = encoding.sizes;
    this.default64 = encoding.default64;
    this.reg = file(REG_PLACES);
    this.rm = file(RM_PLACES);
    this.vvvv = file(VVVV_PLACES);
    this.low = file(['Z']);
    this.offset = encoding.operands.some(({ place }) => place === 'O');
    this.vsib = encoding.vsib;
    this.vexVector = encoding.vexVector;
    this.vex = encoding.vex;
    const immediates = encoding.operands.map(immediateOf).filter((immediate) => immediate !== undefined);
    this.immediates = encoding.map === 0 && encoding.opcode === ENTER ? [...immediates, 'level'] : immediates;
    this.ends = encoding.ends;
    this.stack = encoding.default64 !== 'no' && line.name !== 'jmp';
    for (const [i, { size, form, long }] of handlersOf(encoding).entries()) {
      for (const mode of encoding.byMode ? [long] : [true, false]) {
        this.#handlers[this.#key(size, Form[form], mode)] = line.base + i;
      }
    }
  }

  #key(size: number, form: Form, long: boolean): number {
    const sizeIndex = this.sizes.length === 1 ? 0 : this.sizes.indexOf(size);
    return (sizeIndex * 4 + form) * 2 + (long ? 1 : 0);
  }

  /** Table index of the handler for an operand size, an address form and 64-bit mode or others. */
  handler(size: number, form: Form, long: boolean): number {
    return this.#handlers[this.#key(size, form, long)] as number;
  }
}

const NONE: readonly Plan[] = [];
/** ModRM bytes are told apart by reg and by whether rm is a register. */
const KINDS = 16;
/** Opcode maps: one byte, 0F, 0F38, 0F3A. */
const MAPS = 4;

/** Lines by opcode. */
export class DecodeTable {
  readonly #vex: boolean;
  /** Plans that can be meant, by map, opcode and mode, then by kind of ModRM byte; the last kind: there is none. */
  readonly #candidates = new Array<(readonly Plan[])[] | undefined>(MAPS * 256 * 2).fill(undefined);
  readonly #plans = new Map<DecoderLine, Plan>();

  constructor(vex: boolean) {
    this.#vex = vex;
  }

  /** `modrm`: the byte behind the opcode, -1 if there is none. */
  candidates(map: number, opcode: number, mode64: boolean, modrm: number): readonly Plan[] {
    const kind = modrm < 0 ? KINDS : (modrm >= 0xc0 ? 8 : 0) | ((modrm >> 3) & 7);
    if (map >= MAPS) return NONE;
    const byKind = (this.#candidates[(map * 256 + opcode) * 2 + (mode64 ? 1 : 0)] ??= []);
    return (byKind[kind] ??= this.#find(map, opcode, mode64, kind));
  }

  /** Whether some line of the opcode has a ModRM byte. */
  hasModrm(map: number, opcode: number): boolean {
    return linesOf(opcodeKey(this.#vex, map, opcode)).some(({ encoding }) => encoding.hasModrm);
  }

  #find(map: number, opcode: number, mode64: boolean, kind: number): readonly Plan[] {
    const fits = ({ encoding }: DecoderLine): boolean => {
      if (mode64 ? !encoding.in64 : !encoding.inLegacy) return false;
      if (!encoding.hasModrm) return true;
      if (kind === KINDS || (encoding.digit ?? kind & 7) !== (kind & 7)) return false;
      return kind >= 8 ? encoding.registerForm : encoding.memoryForm;
    };
    const lines = linesOf(opcodeKey(this.#vex, map, opcode)).filter(fits);
    return lines.length > 0 ? lines.map((line) => this.#plan(line)) : NONE;
  }

  #plan(line: DecoderLine): Plan {
    let plan = this.#plans.get(line);
    if (!plan) this.#plans.set(line, (plan = new Plan(line)));
    return plan;
  }
}
