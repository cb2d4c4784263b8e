// Floats in regions: what translated code knows of values from one instruction to the next must not be seen. Random loops of SSE
// instructions, whose values grow and shrink through denormals, infinities and NaNs, translated and interpreted.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import type { Assembler } from '../../../asm/assembler.ts';
import { Random } from '../instructions/random.ts';
import { DATA, Guest } from './guest.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 0x7fffffff);
const PROGRAMS = 40;
const ROUNDS = 400;
const REGISTERS = 5;
/** Offsets in DATA: the registers' first values, MXCSR's, what is made of MXCSR, operands in memory. */
const [FIRST, CONTROLS, SUM, OPERANDS] = [0, 0x100, 0x110, 0x200];

/** Doubles and singles that a few operations take out of their range, or not. */
function quadword(random: Random): bigint {
  const view = new DataView(new ArrayBuffer(8));
  if (random.oneIn(2)) {
    const size = random.pick([1, 3, 0.5, 2.3e-308, 2.5e-308, 3e-308, 1e-154, 1e290, 2 ** -1060, 0]);
    view.setFloat64(0, size * (random.oneIn(2) ? 1 : 1.1) * random.pick([1, -1]));
  } else {
    for (const at of [0, 4])
      view.setFloat32(
        at,
        random.pick([1, -3, 0.75, 1.3e-38, 2e-38, 1e-19, 1e35, 2 ** -140, 0]) * random.pick([1, 1.1]),
      );
  }
  return view.getBigUint64(0);
}

/** One instruction with random registers, of which only the first ones are written, or memory at RBX. */
function instruction(a: Assembler, random: Random, written: number): void {
  const [d, s] = [random.below(written), random.below(REGISTERS)];
  const operand = random.oneIn(4)
    ? [0x83 | (d << 3), random.below(4) * 16, OPERANDS >> 8, 0, 0]
    : [0xc0 | (d << 3) | s];
  const prefix = random.pick([[0xf2], [0xf2], [0xf3], [0x66], []]);
  switch (random.below(12)) {
    case 0:
      // MOVAPS.
      return a.db(0x0f, 0x28, ...operand);
    case 1:
      // UNPCKLPD, SHUFPS.
      return random.oneIn(2) ? a.db(0x66, 0x0f, 0x14, ...operand) : a.db(0x0f, 0xc6, ...operand, random.below(256));
    case 2:
      // XORPS, mostly of a register with itself.
      return a.db(0x0f, 0x57, 0xc0 | (d << 3) | (random.oneIn(2) ? d : s));
    case 3:
      // UCOMISD or COMISD, and a flag.
      a.db(0x66, 0x0f, random.pick([0x2e, 0x2f]), ...operand);
      return a.db(0x0f, 0x90 | random.below(16), 0xc2);
    case 4:
      // CVTSS2SD, CVTSD2SS.
      return a.db(random.pick([0xf2, 0xf3]), 0x0f, 0x5a, ...operand);
    case 5:
      // MOVSD, MOVSS.
      return a.db(random.pick([0xf2, 0xf3]), 0x0f, 0x10, ...operand);
    case 6:
      // ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD.
      return a.db(0x66, 0x0f, 0x3a, 0x08 + random.below(4), ...operand, random.below(16));
    case 7:
      // HADDPD, ADDSUBPS, CMPSD.
      return random.oneIn(3)
        ? a.db(0x66, 0x0f, 0x7c, ...operand)
        : random.oneIn(2)
          ? a.db(0xf2, 0x0f, 0xd0, ...operand)
          : a.db(0xf2, 0x0f, 0xc2, ...operand, random.below(8));
    default:
      return a.db(
        ...prefix,
        0x0f,
        random.pick([0x51, 0x58, 0x58, 0x59, 0x59, 0x59, 0x5c, 0x5d, 0x5e, 0x5f]),
        ...operand,
      );
  }
}

function program(random: Random): (a: Assembler) => void {
  const bodySeed = random.u32();
  return (a) => {
    const choices = new Random(bodySeed);
    a.mov('ebx', DATA);
    a.mov('ecx', ROUNDS);
    a.mov('edx', 0);
    for (let i = 0; i < REGISTERS; i++) a.db(0x0f, 0x28, 0x83 | (i << 3), i * 16, 0, 0, 0);
    a.label('loop');
    // LDMXCSR.
    if (choices.oneIn(2)) a.db(0x0f, 0xae, 0x93, CONTROLS & 0xff, CONTROLS >> 8, 0, 0);
    const isNested = choices.oneIn(2);
    const written = choices.pick([1, 2, REGISTERS]);
    if (isNested) {
      a.mov('esi', 3);
      a.label('inner');
    }
    for (let i = 0; i < 14; i++) {
      if (choices.oneIn(5)) {
        // UCOMISD, and a branch around an instruction.
        const name = `over${i}`;
        a.db(0x66, 0x0f, 0x2e, 0xc0 | choices.below(REGISTERS));
        a.jcc(choices.pick(['a', 'b', 'e', 'p', 'be']), name);
        instruction(a, choices, written);
        a.label(name);
      }
      instruction(a, choices, written);
    }
    if (isNested) {
      a.dec('esi');
      a.jcc('ne', 'inner');
    }
    // STMXCSR; RAX = RAX * 31 + MXCSR + DL.
    a.db(0x0f, 0xae, 0x9b, SUM & 0xff, SUM >> 8, 0, 0);
    a.db(0x48, 0x6b, 0xc0, 31);
    a.db(0x48, 0x03, 0x83, SUM & 0xff, SUM >> 8, 0, 0);
    a.add('rax', 'rdx');
    a.dec('ecx');
    a.jcc('ne', 'loop');
    for (let i = 0; i < REGISTERS; i++) a.db(0x0f, 0x29, 0x83 | (i << 3), i * 16, 0, 0, 0);
    a.hlt();
  };
}

test(`floats of translated loops are the interpreter's (seed ${seed})`, () => {
  const random = new Random(seed);
  let translated = 0;
  for (let i = 0; i < PROGRAMS; i++) {
    const data = Array.from({ length: 2 * REGISTERS + 10 }, () => quadword(random));
    const controls = random.pick([0x1fa0, 0x1fa0, 0x1f80, 0x1fe0, 0x9fa0, 0x3fa0]);
    const code = program(random);
    const end = (translation: 'none' | 'at-once'): string => {
      const guest = new Guest(translation, code);
      const { view } = guest.cpu;
      const base = L.RAM_BASE + DATA;
      data.forEach((value, k) => {
        const at = k < 2 * REGISTERS ? FIRST + k * 8 : OPERANDS + (k - 2 * REGISTERS) * 8;
        view.setBigUint64(base + at, value, true);
      });
      view.setUint32(base + CONTROLS, controls, true);
      guest.run(200);
      translated += Number(guest.cpu.counts().translated);
      return guest.state;
    };
    assert.equal(end('at-once'), end('none'), `program ${i}, MXCSR ${controls.toString(16)}`);
  }
  assert.ok(translated > PROGRAMS * ROUNDS, 'translated code has run');
});

/**
 * Runs `body` in a loop that sums up MXCSR, translated and interpreted: XMM0 is ordinary, and XMM1 denormal in every other round. The
 * floats have `size` bytes.
 */
function sameFlags(size: 4 | 8, body: (a: Assembler) => void): void {
  const end = (translation: 'none' | 'at-once'): string => {
    const guest = new Guest(translation, (a) => {
      a.mov('ebx', DATA);
      a.mov('ecx', ROUNDS);
      a.mov('edx', 0);
      a.label('loop');
      // LDMXCSR; MOVAPS XMM0 and, from one of two places, XMM1.
      a.db(0x0f, 0xae, 0x93, CONTROLS & 0xff, CONTROLS >> 8, 0, 0);
      a.db(0x0f, 0x28, 0x83, FIRST, 0, 0, 0);
      a.db(0x48, 0x83, 0xf2, 0x10);
      a.db(0x0f, 0x28, 0x8c, 0x13, OPERANDS & 0xff, OPERANDS >> 8, 0, 0);
      body(a);
      // STMXCSR; RAX = RAX * 31 + MXCSR.
      a.db(0x0f, 0xae, 0x9b, SUM & 0xff, SUM >> 8, 0, 0);
      a.db(0x48, 0x6b, 0xc0, 31);
      a.db(0x48, 0x03, 0x83, SUM & 0xff, SUM >> 8, 0, 0);
      a.dec('ecx');
      a.jcc('ne', 'loop');
      a.hlt();
    });
    const { view } = guest.cpu;
    const base = L.RAM_BASE + DATA;
    for (let at = 0; at < 16; at += size) {
      const set = (offset: number, value: number): void =>
        size === 8
          ? view.setFloat64(base + offset + at, value, true)
          : view.setFloat32(base + offset + at, value, true);
      set(FIRST, 1.1);
      set(OPERANDS, 1.3);
      set(OPERANDS + 16, size === 8 ? 2 ** -1060 : 2 ** -140);
    }
    view.setUint32(base + CONTROLS, L.FLOAT_USUAL, true);
    guest.run(200);
    return guest.state;
  };
  assert.equal(end('at-once'), end('none'));
}

// The inner loop need not ask in each round what its operands are; that they are denormal in every other round of the outer one must show.
for (const [name, opcode] of [
  ['addsd', [0xf2, 0x0f, 0x58]],
  ['addss', [0xf3, 0x0f, 0x58]],
  ['addpd', [0x66, 0x0f, 0x58]],
  ['subps', [0x0f, 0x5c]],
] as const) {
  test(`${name} in an inner loop, with an operand that is denormal now and then`, () => {
    sameFlags(name.endsWith('d') ? 8 : 4, (a) => {
      a.mov('esi', 3);
      a.label('inner');
      a.db(...opcode, 0xc1);
      a.dec('esi');
      a.jcc('ne', 'inner');
    });
  });
}

test('that a copy is ordinary tells nothing of what it was copied from, once that is another value', () => {
  sameFlags(8, (a) => {
    // MOVAPS XMM2, XMM0; MOVAPS XMM0, XMM1; ADDSD XMM2, XMM2, which is a test of it; ADDSD XMM0, XMM2.
    a.db(0x0f, 0x28, 0xd0, 0x0f, 0x28, 0xc1, 0xf2, 0x0f, 0x58, 0xd2, 0xf2, 0x0f, 0x58, 0xc2);
  });
});
