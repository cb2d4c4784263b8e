// The instruction table: every instruction the processor has, with its encodings and its meaning. The decoder, the
// interpreter's generator, the translator and the tests read this one table.

import { type Encoding, operandBytes, parseEncoding } from '../decode/encoding.ts';
import type { Emitter, Operand } from './emitter.ts';

/** Writes the code of one instruction, for the operand places the emitter was given. */
export type Meaning = (e: Emitter, ...operands: Operand[]) => void;

/** How the memory operand's address is made. */
export type Form =
  /** ModRM.rm is a register, or there is no ModRM. */
  | 'register'
  /** base + displacement, 64-bit mode. */
  | 'base'
  /** base + index * scale + displacement + segment base, 64-bit mode. */
  | 'index'
  /** All else: legacy segmentation, 16- and 32-bit addresses. */
  | 'slow';

/** One handler: an encoding with what the decoder fixes beforehand. */
export interface Shape {
  readonly line: Line;
  readonly size: number;
  readonly form: Form;
  /** Handler for 64-bit mode (lines that are `byMode`; true for all other lines). */
  readonly long: boolean;
}

/** An encoding in the table, with its handlers' numbers. */
export interface Line {
  readonly name: string;
  readonly encoding: Encoding;
  readonly meaning: Meaning;
  /** Table index of its first handler. */
  readonly base: number;
}

/** Handlers below this are the engine's own: HANDLER_STALE and its like. */
export const FIRST_HANDLER = 16;

const lines: Line[] = [];
let nextHandler = FIRST_HANDLER;

/** The forms an encoding has, in the order of its handlers. */
function forms(encoding: Encoding, long: boolean): Form[] {
  const all: Form[] = [];
  if (encoding.registerForm) all.push('register');
  // Vector lines of VEX are many, and have no handlers for addresses without an index.
  if (encoding.memoryForm && long && !encoding.vexVector) all.push('base');
  if (encoding.memoryForm) all.push(...(long ? (['index', 'slow'] as const) : (['slow'] as const)));
  return all;
}

function count(encoding: Encoding): number {
  const byForm = forms(encoding, true).length + (encoding.byMode ? forms(encoding, false).length : 0);
  return encoding.sizes.length * byForm;
}

/** Adds an instruction to the table. */
export function instruction(name: string, encodings: readonly string[], meaning: Meaning): void {
  for (const text of encodings) {
    const encoding = parseEncoding(text);
    lines.push({ name, encoding, meaning, base: nextHandler });
    nextHandler += count(encoding);
  }
}

export function allLines(): readonly Line[] {
  return lines;
}

export function handlerCount(): number {
  return nextHandler;
}

/** Every handler of a line, in the order of their numbers. */
export function shapesOf(line: Line): Shape[] {
  const { encoding } = line;
  const shapes: Shape[] = [];
  for (const long of encoding.byMode ? [true, false] : [true]) {
    for (const size of encoding.sizes) {
      for (const form of forms(encoding, long)) shapes.push({ line, size, form, long });
    }
  }
  return shapes;
}

/** The operands of a shape, as the meaning gets them. */
export function operandsOf(shape: Shape): Operand[] {
  return shape.line.encoding.operands.map(({ place, size }) => {
    const memory = shape.form !== 'register' && 'EMWQ'.includes(place) && place.length === 1;
    return { place: memory || place === 'O' ? 'memory' : place, size: operandBytes(size, shape.size) };
  });
}
