// One line of the instruction table, parsed.
//
// A line reads: [prefix] [0F | 0F38 | 0F3A] opcode[/digit] [operands] [words], for example
//   '01 Ev,Gv lock'   'F3 0F B8 Gv,Ev'   '66 0F38 00 Vx,Wx'   '81/5 Ev,Iz'   '50+ Zv d64 mode'   'VEX.0F38.F2 Gy,By,Ey'
// Operands have the SDM's names (volume 2, appendix A.2): a letter for the place and letters for the size.

/** Where an operand is. */
export type Place =
  /** General register or memory by ModRM.rm. */
  | 'E'
  /** General register by ModRM.reg. */
  | 'G'
  /** Memory only. */
  | 'M'
  /** General register by ModRM.rm only. */
  | 'R'
  /** General register in the opcode's low three bits. */
  | 'Z'
  /** General register by VEX.vvvv. */
  | 'B'
  /** Immediate. */
  | 'I'
  /** Branch displacement. */
  | 'J'
  /** Absolute memory offset. */
  | 'O'
  /** Far pointer immediate. */
  | 'A'
  /** XMM by reg; XMM or memory by rm; XMM by rm only; XMM by VEX.vvvv. */
  | 'V'
  | 'W'
  | 'U'
  | 'H'
  /** XMM by the upper four bits of an immediate byte. */
  | 'L'
  /** MMX by reg; MMX or memory by rm; MMX by rm only. */
  | 'P'
  | 'Q'
  | 'N'
  /** Segment, control, debug register by reg. */
  | 'S'
  | 'C'
  | 'D'
  /** The accumulator, CL, DX, the constant 1. */
  | 'AX'
  | 'CL'
  | 'DX'
  | '1'
  /** ST(i) by ModRM.rm: passed as a number. */
  | 'ST';

/**
 * How an operand's size follows from the instruction's: 'v' 2, 4, 8; 'y' 4, 8; 'z' as v but at most 4 bytes of immediate;
 * 'x' 16, or 32 by VEX.L; 'h', 'f', 'e' a half, a quarter, an eighth of x; 'o' always 16.
 */
export type SizeCode = 'b' | 'w' | 'd' | 'q' | 'o' | 'v' | 'y' | 'z' | 't' | 'x' | 'h' | 'f' | 'e' | 'p' | 'none';
/** Sizes that follow VEX.L. */
const VECTOR_SIZES: readonly SizeCode[] = ['x', 'h', 'f', 'e'];

export interface OperandSpec {
  readonly place: Place;
  readonly size: SizeCode;
}

export type Map = 0 | 1 | 2 | 3;
export type MandatoryPrefix = 'none' | '66' | 'F3' | 'F2';

export interface Encoding {
  readonly map: Map;
  readonly opcode: number;
  /** Mandatory prefix; 'any' where prefixes keep their ordinary meaning. */
  readonly prefix: MandatoryPrefix | 'any';
  readonly vex: boolean;
  /** ModRM.reg that selects this line, or undefined. */
  readonly digit: number | undefined;
  /** Whole ModRM byte that selects this line (x87 and 0F 01 groups), or undefined. */
  readonly modrm: number | undefined;
  readonly hasModrm: boolean;
  /** Has a handler for no memory operand (ModRM.rm is a register, or there is no ModRM); has handlers for a memory operand. */
  readonly registerForm: boolean;
  readonly memoryForm: boolean;
  /** The opcode's low three bits are a register. */
  readonly plusRegister: boolean;
  readonly operands: readonly OperandSpec[];
  /** Has vector operands by VEX. */
  readonly vexVector: boolean;
  /** The index of the address is a vector register. */
  readonly vsib: boolean;
  /** Operand sizes with a handler each: [0] where size plays no part. */
  readonly sizes: readonly number[];
  readonly lockable: boolean;
  /** Operand size is 64 in 64-bit mode without REX.W (a 66 prefix makes it 16 only where `d64`). */
  readonly default64: 'no' | 'default' | 'forced';
  /** Valid in 64-bit mode; valid outside it. */
  readonly in64: boolean;
  readonly inLegacy: boolean;
  /** Implicit stack, instruction pointer or segment use: 64-bit mode and the other modes have handlers of their own. */
  readonly byMode: boolean;
  /** Nothing after it belongs to the same block. */
  readonly ends: boolean;
  /** VEX.L: 0, 1, or either. */
  readonly vexL: 0 | 1 | 'any';
  /** REX.W / VEX.W that selects this line. */
  readonly w: 0 | 1 | 'any';
}

const WORDS = new Set([
  'lock',
  'd64',
  'f64',
  'i64',
  'o64',
  'mode',
  'end',
  'W0',
  'W1',
  'L0',
  'L1',
  'mem',
  'reg',
  'np',
  'opsize',
  'vsib',
]);
const MODRM_PLACES = new Set<Place>(['E', 'G', 'M', 'R', 'V', 'W', 'U', 'P', 'Q', 'N', 'S', 'C', 'D', 'ST']);
const REGISTER_ONLY = new Set<Place>(['R', 'U', 'N', 'ST', 'C', 'D']);
const FIXED: Record<string, OperandSpec> = {
  AL: { place: 'AX', size: 'b' },
  AX: { place: 'AX', size: 'w' },
  eAX: { place: 'AX', size: 'z' },
  rAX: { place: 'AX', size: 'v' },
  CL: { place: 'CL', size: 'b' },
  DX: { place: 'DX', size: 'w' },
  '1': { place: '1', size: 'b' },
  STi: { place: 'ST', size: 'none' },
};

function parseOperand(text: string): OperandSpec {
  const fixed = FIXED[text];
  if (fixed) return fixed;
  return { place: text[0] as Place, size: (text.slice(1) || 'none') as SizeCode };
}

/** Parses a line of the instruction table; throws on a line it does not understand. */
export function parseEncoding(line: string): Encoding {
  const tokens = line.split(' ');
  let at = 0;
  let prefix: MandatoryPrefix | 'any' = 'any';
  let vex = false;
  if (tokens[at] === 'VEX') {
    vex = true;
    prefix = 'none';
    at++;
  }
  // A 66, F3 or F2 is a prefix only when an escape byte follows (or for the few one-byte lines, another opcode).
  if (/^(66|F3|F2)$/.test(tokens[at] as string) && /^0F|^[0-9A-F]{2}/.test(tokens[at + 1] ?? '')) {
    prefix = tokens[at++] as MandatoryPrefix;
  }
  let map: Map = 0;
  if (tokens[at] === '0F') map = 1;
  else if (tokens[at] === '0F38') map = 2;
  else if (tokens[at] === '0F3A') map = 3;
  if (map > 0) at++;
  const match = /^([0-9A-F]{2})(\+)?(?:\/([0-7])|:([0-9A-F]{2}))?$/.exec(tokens[at++] as string);
  if (!match) throw new Error(`instruction table: cannot read '${line}'`);
  const rest = tokens.slice(at);
  const words = new Set(rest.filter((token) => WORDS.has(token)));
  const operandText = rest.find((token) => !WORDS.has(token));
  const operands = operandText ? operandText.split(',').map(parseOperand) : [];
  if (words.has('np')) prefix = 'none';
  const digit = match[3] === undefined ? undefined : Number(match[3]);
  const modrm = match[4] === undefined ? undefined : Number.parseInt(match[4], 16);
  const hasModrm = digit !== undefined || modrm !== undefined || operands.some((o) => MODRM_PLACES.has(o.place));
  const registerOnly = modrm !== undefined || words.has('reg') || operands.some((o) => REGISTER_ONLY.has(o.place));
  const memoryOnly = words.has('mem') || operands.some((o) => o.place === 'M');
  const offset = operands.some((o) => o.place === 'O');
  const codes = new Set(operands.map((o) => o.size));
  let sizes = [0];
  if (codes.has('v') || codes.has('p')) sizes = [2, 4, 8];
  else if (codes.has('y')) sizes = [4, 8];
  else if (codes.has('z')) sizes = [2, 4];
  const vexL = words.has('L0') ? 0 : words.has('L1') ? 1 : 'any';
  if (vex && VECTOR_SIZES.some((code) => codes.has(code))) sizes = vexL === 'any' ? [16, 32] : [vexL === 0 ? 16 : 32];
  const default64 = words.has('f64') ? 'forced' : words.has('d64') ? 'default' : 'no';
  if (default64 !== 'no' || words.has('opsize')) sizes = [2, 4, 8];
  return {
    map,
    opcode: Number.parseInt(match[1] as string, 16),
    prefix,
    vex,
    digit,
    modrm,
    hasModrm,
    registerForm: !memoryOnly && !offset,
    memoryForm: offset || (hasModrm && !registerOnly),
    plusRegister: match[2] === '+',
    operands,
    vexVector: vex && operands.some((o) => 'VWUH'.includes(o.place)),
    vsib: words.has('vsib'),
    sizes,
    lockable: words.has('lock'),
    default64,
    in64: !words.has('i64'),
    inLegacy: !words.has('o64'),
    byMode: words.has('mode'),
    ends: words.has('end'),
    vexL,
    w: words.has('W0') ? 0 : words.has('W1') ? 1 : 'any',
  };
}

/** Bytes of an operand for an instruction of `size` bytes. */
export function operandBytes(code: SizeCode, size: number): number {
  switch (code) {
    case 'b':
      return 1;
    case 'w':
      return 2;
    case 'd':
      return 4;
    case 'q':
      return 8;
    case 't':
      return 10;
    case 'o':
      return 16;
    case 'x':
      return Math.max(size, 16);
    case 'h':
      return size / 2;
    case 'f':
      return size / 4;
    case 'e':
      return size / 8;
    default:
      return size;
  }
}
