// The instruction table as the decoder wants it: by opcode, and without the meanings, which are most of what there is to load: those
// are in the interpreter. Both are written by scripts/build-cpu.ts.

import { readFileSync } from 'node:fs';
import { type Encoding, parseEncoding } from './encoding.ts';

/** What the file has of a line. */
export type WrittenLine = readonly [
  name: string,
  /** As it is written in the table. */
  encoding: string,
  /** Table index of its first handler. */
  base: number,
  /** Its first opcode, by opcodeKey(), and how many there are. */
  opcode: number,
  opcodes: number,
];

export interface WrittenTable {
  /** Ordered by `base`. */
  readonly lines: readonly WrittenLine[];
  readonly handlerCount: number;
}

/** A number for an opcode of a map. */
export function opcodeKey(vex: boolean, map: number, opcode: number): number {
  return ((vex ? 4 : 0) + map) * 256 + opcode;
}

/** A line of the table, parsed when it is first met. */
export class DecoderLine {
  readonly name: string;
  readonly base: number;
  readonly #text: string;
  #encoding: Encoding | undefined;

  constructor([name, text, base]: WrittenLine) {
    this.name = name;
    this.base = base;
    this.#text = text;
  }

  get encoding(): Encoding {
    return (this.#encoding ??= parseEncoding(this.#text));
  }
}

interface Table {
  readonly lines: readonly DecoderLine[];
  readonly byOpcode: readonly (readonly DecoderLine[] | undefined)[];
  readonly handlerCount: number;
}

let table: Table | undefined;

function load(): Table {
  const url = new URL('../../../../build/instructions.json', import.meta.url);
  const written = JSON.parse(readFileSync(url, 'latin1')) as WrittenTable;
  const byOpcode: DecoderLine[][] = [];
  const lines = written.lines.map((each) => {
    const line = new DecoderLine(each);
    const [, , , opcode, opcodes] = each;
    for (let i = 0; i < opcodes; i++) (byOpcode[opcode + i] ??= []).push(line);
    return line;
  });
  return { lines, byOpcode, handlerCount: written.handlerCount };
}

/** The lines of an opcode, by opcodeKey(). */
export function linesOf(opcode: number): readonly DecoderLine[] {
  table ??= load();
  return table.byOpcode[opcode] ?? [];
}

/** The line that a handler belongs to; undefined for the engine's own. */
export function lineOf(handler: number): DecoderLine | undefined {
  table ??= load();
  return handler < table.handlerCount ? table.lines.findLast(({ base }) => base <= handler) : undefined;
}

/** Handlers of instructions are below this. */
export function handlerCount(): number {
  table ??= load();
  return table.handlerCount;
}
