// The instruction table: every instruction the processor has, with its encodings and its meaning. The decoder, the
// interpreter's generator, the translator and the tests read this one table.

import { type Encoding, operandBytes, parseEncoding } from '../decode/encoding.ts';
import { countHandlers, type Handler, handlersOf } from '../decode/handlers.ts';
import type { Emitter, Operand } from './emitter.ts';

/** Writes the code of one instruction, for the operand places the emitter was given. */
export type Meaning = (e: Emitter, ...operands: Operand[]) => void;

/** One handler: an encoding with what the decoder fixes beforehand. */
export interface Shape extends Handler {
  readonly line: Line;
  /** As the meaning gets them. */
  readonly operands: readonly Operand[];
  readonly isDirectBranch: boolean;
}

/** An encoding in the table, with its handlers' numbers. */
export interface Line {
  readonly name: string;
  /** The encoding, and as it is written. */
  readonly text: string;
  readonly encoding: Encoding;
  readonly meaning: Meaning;
  /** Table index of its first handler. */
  readonly base: number;
}

/** Handlers below this are the engine's own: HANDLER_STALE and its like. */
export const FIRST_HANDLER = 16;

const lines: Line[] = [];
let nextHandler = FIRST_HANDLER;

/** Adds an instruction to the table. */
export function instruction(name: string, encodings: readonly string[], meaning: Meaning): void {
  for (const text of encodings) {
    const encoding = parseEncoding(text);
    lines.push({ name, text, encoding, meaning, base: nextHandler });
    nextHandler += countHandlers(encoding);
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
  const isDirectBranch = line.encoding.operands.some(({ place }) => place === 'J');
  return handlersOf(line.encoding).map((handler) => {
    return { line, ...handler, operands: operandsOf(line, handler), isDirectBranch };
  });
}

function operandsOf({ encoding }: Line, { size, form }: Handler): Operand[] {
  return encoding.operands.map((operand) => {
    const { place } = operand;
    const memory = form !== 'register' && 'EMWQ'.includes(place) && place.length === 1;
    return { place: memory || place === 'O' ? 'memory' : place, size: operandBytes(operand.size, size) };
  });
}
