/**
 * Instruction forms, from lines of text: `[prefix] [0F | 0F38 | 0F3A] opcode[/digit | /modrm] name [operands] [words]`,
 * for example `01 add Ev,Gv lock`, `F3 0F B8 popcnt Gv,Ev popcnt`, `D9/F0 f2xm1`. Operand letters are the SDM's (volume 2,
 * appendix A.2). One line gives a form for each operand size, for register and memory, and with LOCK.
 *
 * Words: `lock`; `d64` (64 bits by default, 16 by prefix), `f64` (always 64); `regonly`, `memonly`; `=kind` names what
 * prepares the state (kinds.ts); `?flags` the flags that are undefined after it; anything else is a processor feature.
 */

import { undefinedFlagsOf } from './flags.ts';

export interface OperandForm {
  /** E G M R Z I J O A V W U P Q N AX CL DX 1 ST, as in the SDM. */
  readonly place: string;
  /** Bytes. */
  readonly size: number;
}

export interface Form {
  readonly name: string;
  readonly mnemonic: string;
  /** The line it comes from. */
  readonly line: string;
  /** 0x66, 0xf2, 0xf3 where it is part of the opcode. */
  readonly mandatory: number | undefined;
  readonly opcode: readonly number[];
  readonly digit: number | undefined;
  /** The whole ModRM byte. */
  readonly modrm: number | undefined;
  /** ModRM.rm is a register, or memory; undefined without ModRM. */
  readonly rm: 'register' | 'memory' | undefined;
  /** Low three opcode bits are a register. */
  readonly plus: boolean;
  readonly lock: boolean;
  /** F2 or F3 as a repeat prefix. */
  readonly repeat: number | undefined;
  /** Operand size in bytes where 66 and REX.W choose it; 0 where it plays no part. */
  readonly size: number;
  readonly default64: boolean;
  readonly operands: readonly OperandForm[];
  /** Bytes of immediates after the address. */
  readonly immediates: readonly number[];
  /** Bytes of the memory operand. */
  readonly memorySize: number;
  readonly features: readonly string[];
  readonly kind: string | undefined;
  readonly undefinedFlags: string;
  /** Uses x87, MMX or SSE state. */
  readonly floating: boolean;
}

const MAPS: Record<string, readonly number[]> = { '0F': [0x0f], '0F38': [0x0f, 0x38], '0F3A': [0x0f, 0x3a] };
const OPERAND = /^(E|G|M|R|Z|I|J|O|V|W|U|P|Q|N)(b|w|d|q|v|y|z|x|t|s|l|p)$/;
const FIXED: Record<string, OperandForm> = {
  AL: { place: 'AX', size: 1 },
  CL: { place: 'CL', size: 1 },
  DX: { place: 'DX', size: 2 },
  '1': { place: '1', size: 0 },
  M: { place: 'M', size: 0 },
  STi: { place: 'ST', size: 10 },
  XMM0: { place: 'XMM0', size: 16 },
};
/** Sizes by letter; s (28-byte x87 environment), l (x87 state) and t (80-bit) are memory alone. */
const SIZES: Record<string, number> = { b: 1, w: 2, d: 4, q: 8, x: 16, t: 10, s: 28, l: 108, p: 512 };

function operandOf(text: string, size: number): OperandForm {
  if (text === 'rAX') return { place: 'AX', size };
  const fixed = FIXED[text];
  if (fixed !== undefined) return fixed;
  const match = OPERAND.exec(text);
  if (match === null) throw new Error(`operand ${text}`);
  const [, place, letter] = match as unknown as [string, string, string];
  const bytes =
    letter === 'v' || letter === 'y' ? size : letter === 'z' ? Math.min(size, 4) : (SIZES[letter] as number);
  return { place, size: bytes };
}

interface Parsed {
  readonly line: string;
  readonly mandatory: number | undefined;
  readonly opcode: readonly number[];
  readonly digit: number | undefined;
  readonly modrm: number | undefined;
  readonly plus: boolean;
  readonly mnemonic: string;
  readonly operands: readonly string[];
  readonly words: readonly string[];
}

function parse(line: string): Parsed {
  const fields = line.trim().split(/\s+/);
  let mandatory: number | undefined;
  if (
    /^(66|F2|F3)$/.test(fields[0] as string) &&
    fields.length > 1 &&
    /^(0F|0F38|0F3A|90)$/.test(fields[1] as string)
  ) {
    mandatory = Number.parseInt(fields.shift() as string, 16);
  }
  const map = MAPS[fields[0] as string];
  if (map !== undefined) fields.shift();
  const match = /^([0-9A-F]{2})(\+)?(?:\/([0-7]|[C-F][0-9A-F]))?$/.exec(fields.shift() as string);
  if (match === null) throw new Error(`instruction line ${line}`);
  const mnemonic = fields.shift() as string;
  const operands = fields.length > 0 && isOperands(fields[0] as string) ? (fields.shift() as string).split(',') : [];
  const sub = match[3];
  return {
    line,
    mandatory,
    opcode: [...(map ?? []), Number.parseInt(match[1] as string, 16)],
    digit: sub?.length === 1 ? Number(sub) : undefined,
    modrm: sub?.length === 2 ? Number.parseInt(sub, 16) : undefined,
    plus: match[2] !== undefined,
    mnemonic,
    operands,
    words: fields,
  };
}

const isOperands = (text: string): boolean =>
  text.split(',').every((part) => OPERAND.test(part) || part in FIXED || part === 'rAX');

const has = (operands: readonly OperandForm[], places: string): boolean =>
  operands.some(({ place }) => place.length === 1 && places.includes(place));

function sizesOf({ operands, words }: Parsed): number[] {
  if (words.includes('f64')) return [8];
  if (words.includes('d64')) return [2, 8];
  if (operands.some((text) => text.endsWith('v') || text.endsWith('z') || text === 'rAX')) return [2, 4, 8];
  if (words.includes('v')) return [2, 4, 8];
  if (words.includes('y') || operands.some((text) => text.endsWith('y'))) return [4, 8];
  if (words.includes('w64')) return [8];
  return [0];
}

/** All forms of one line. */
function expand(parsed: Parsed): Form[] {
  const { words, mnemonic } = parsed;
  const forms: Form[] = [];
  const word = (prefix: string): string | undefined => words.find((text) => text.startsWith(prefix))?.slice(1);
  const known = /^(lock|d64|f64|v|y|w64|fx|rep|repz|regonly|memonly)$/;
  const features = words.filter((text) => !known.test(text) && !/^[=?]/.test(text));
  const repeats = words.includes('repz')
    ? [undefined, 0xf3, 0xf2]
    : words.includes('rep')
      ? [undefined, 0xf3]
      : [undefined];
  for (const size of sizesOf(parsed)) {
    const operands = parsed.operands.map((text) => operandOf(text, size));
    const hasRm = has(operands, 'EMRWUQN') || parsed.digit !== undefined;
    const rms: ('register' | 'memory' | undefined)[] = !hasRm ? [undefined] : [];
    if (hasRm && !has(operands, 'M') && !words.includes('memonly')) rms.push('register');
    if (hasRm && !has(operands, 'RUN') && !words.includes('regonly')) rms.push('memory');
    for (const rm of rms) {
      const locks = words.includes('lock') && rm === 'memory' ? [false, true] : [false];
      for (const lock of locks) {
        for (const repeat of repeats) {
          const memory = operands.find(({ place }) => 'EMWQO'.includes(place));
          const sizeText = size === 0 ? [] : [String(size * 8)];
          const repeatText = repeat === undefined ? [] : [repeat === 0xf3 ? 'rep' : 'repne'];
          const text = [
            mnemonic,
            parsed.operands.join(','),
            ...sizeText,
            ...(rm === undefined ? [] : [rm]),
            ...(lock ? ['lock'] : []),
            ...repeatText,
          ];
          forms.push({
            name: text.filter((part) => part !== '').join(' '),
            mnemonic,
            line: parsed.line,
            mandatory: parsed.mandatory,
            opcode: parsed.opcode,
            digit: parsed.digit,
            modrm: parsed.modrm,
            rm,
            plus: parsed.plus,
            lock,
            repeat,
            size,
            default64: words.includes('d64') || words.includes('f64'),
            operands,
            immediates: operands.filter(({ place }) => place === 'I').map((operand) => operand.size),
            memorySize: memory?.size ?? 0,
            features,
            kind: word('='),
            undefinedFlags: word('?') ?? undefinedFlagsOf(mnemonic),
            floating: words.includes('fx') || has(operands, 'VWUPQN'),
          });
        }
      }
    }
  }
  return forms;
}

/** The forms of a table, one line each; `#` begins a comment. */
export function formsOf(table: string): Form[] {
  return table
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .flatMap((line) => expand(parse(line)));
}
