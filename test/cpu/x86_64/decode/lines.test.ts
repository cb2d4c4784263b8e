// The table that the build writes for the decoder is the instruction table.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { handlerCount, lineOf, linesOf, opcodeKey } from '../../../../src/cpu/x86_64/decode/lines.ts';
import * as table from '../../../../src/cpu/x86_64/semantics/index.ts';

test('each handler belongs to the line of the instruction table that has it', () => {
  assert.equal(handlerCount(), table.handlerCount());
  for (let handler = 0; handler < table.FIRST_HANDLER; handler++) assert.equal(lineOf(handler), undefined);
  assert.equal(lineOf(handlerCount()), undefined);
  for (const line of table.allLines()) {
    for (const [i] of table.shapesOf(line).entries()) {
      const { name, base, encoding } = lineOf(line.base + i) ?? assert.fail(`handler ${line.base + i} has no line`);
      assert.deepEqual({ name, base, encoding }, { name: line.name, base: line.base, encoding: line.encoding });
    }
  }
});

test('each opcode has its lines in the order of the table, those with a register in the opcode eight times', () => {
  for (const vex of [false, true]) {
    for (let map = 0; map < 4; map++) {
      for (let opcode = 0; opcode < 256; opcode++) {
        const expected = table.allLines().filter(({ encoding }) => {
          const first = encoding.plusRegister ? opcode & ~7 : opcode;
          return encoding.vex === vex && encoding.map === map && encoding.opcode === first;
        });
        const found = linesOf(opcodeKey(vex, map, opcode));
        assert.deepEqual(
          found.map(({ base }) => base),
          expected.map(({ base }) => base),
          `opcode ${opcode.toString(16)} of map ${map}`,
        );
      }
    }
  }
});
