// Writes build/instructions.json and build/interpreter.wasm: the decoder's table, and the interpreter. Both are made of the instruction table.

import { mkdirSync, writeFileSync } from 'node:fs';
import { opcodeKey, type WrittenLine, type WrittenTable } from '../src/cpu/x86_64/decode/lines.ts';
import { generateInterpreter } from '../src/cpu/x86_64/interpreter/engine.ts';
import { allLines, handlerCount, type Line } from '../src/cpu/x86_64/semantics/index.ts';

const written = ({ name, text, base, encoding: { vex, map, opcode, plusRegister } }: Line): WrittenLine => {
  return [name, text, base, opcodeKey(vex, map, opcode), plusRegister ? 8 : 1];
};

const folder = new URL('../build/', import.meta.url);
mkdirSync(folder, { recursive: true });
const table: WrittenTable = { lines: allLines().map(written), handlerCount: handlerCount() };
writeFileSync(new URL('instructions.json', folder), JSON.stringify(table));
// The interpreter last: where it is, both are.
writeFileSync(new URL('interpreter.wasm', folder), generateInterpreter());
