import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Assembler, absolute, assemble, at } from './assembler.ts';
import type { Bits } from './encoder.ts';

// Expected bytes are those of another assembler, or follow from the SDM by hand.
const CASES: readonly [Bits, (a: Assembler) => void, string][] = [
  [64, (a) => a.mov('rax', at('rbx', 8)), '488b4308'],
  [64, (a) => a.mov(at('r12'), 'r9d'), '45890c24'],
  [64, (a) => a.mov('al', at('rsp', 4)), '8a442404'],
  [64, (a) => a.mov(at('rbp'), 'sil'), '40887500'],
  [64, (a) => a.mov(absolute(0x10000000, 8), 5), '48c704250000001005000000'],
  [64, (a) => a.mov('r10', 0x123456789abcdef0n), '49baf0debc9a78563412'],
  [64, (a) => a.mov('rax', -1), '48c7c0ffffffff'],
  [64, (a) => a.add('rsp', 8), '4883c408'],
  [64, (a) => a.and({ base: 'rax', index: 'rcx', scale: 4, disp: 0x1000, size: 4 }, 0xff), '81a48800100000ff000000'],
  [64, (a) => a.test('r8b', 7), '41f6c007'],
  [64, (a) => a.lea('r13', { base: 'r13', index: 'r14', scale: 8, disp: -4 }), '4f8d6cf5fc'],
  [64, (a) => a.push('r12'), '4154'],
  [64, (a) => a.pop('rbx'), '5b'],
  [64, (a) => a.mov('cr3', 'rax'), '0f22d8'],
  [64, (a) => a.mov('rax', 'cr8'), '440f20c0'],
  [64, (a) => a.mov('dr7', 'rcx'), '0f23f9'],
  [64, (a) => a.mov('ds', 'ax'), '8ed8'],
  [64, (a) => a.mov('rax', 'gs'), '488ce8'],
  [64, (a) => a.lgdt(absolute(0x1000)), '0f01142500100000'],
  [64, (a) => a.iret(), '48cf'],
  [64, (a) => a.retf(8), '48cb'],
  [64, (a) => a.jmpFarMemory(at('rbx'), 8), '48ff2b'],
  [64, (a) => a.fxsave64(at('rbx', 0x200)), '480fae8300020000'],
  [64, (a) => a.shl(at('rax', 0, 8), 3), '48c12003'],
  [64, (a) => a.sysret(), '480f07'],
  [16, (a) => a.mov('eax', 1), '66b801000000'],
  [16, (a) => a.mov('ax', absolute(0x7c00)), '8b06007c'],
  [16, (a) => a.lgdt(at('si', 4)), '0f01940400'],
  [16, (a) => a.out('dx', 'eax'), '66ef'],
  [16, (a) => a.jmpFar(8, 0x12345678, 4), '66ea785634120800'],
  [16, (a) => a.jmpFar(8, 0x1234), 'ea34120800'],
  [16, (a) => a.mov('cr0', 'eax'), '0f22c0'],
  [32, (a) => a.mov('ax', 1), '66b80100'],
  [32, (a) => a.mov('ebx', at('esp', 8)), '8b5c2408'],
  [32, (a) => a.retf(), 'cb'],
];

test('instructions have the bytes of another assembler', () => {
  for (const [bits, program, expected] of CASES) {
    const { bytes } = assemble(0x1000, bits, program);
    assert.equal(Buffer.from(bytes).toString('hex'), expected, program.toString());
  }
});

test('labels are known before they are met', () => {
  const { bytes, labels } = assemble(0x7c00, 64, (a) => {
    a.jmp('end');
    a.label('data');
    a.dq(a.address('end'));
    a.label('end');
    a.jmpShort('data');
    a.jcc('ne', 0x7c00);
  });
  assert.equal(labels.get('data'), 0x7c05);
  assert.equal(labels.get('end'), 0x7c0d);
  assert.equal(Buffer.from(bytes).toString('hex'), 'e908000000' + '0d7c000000000000' + 'ebf6' + '0f85ebffffff');
});

test('mistakes are errors', () => {
  assert.throws(() => assemble(0, 64, (a) => a.jmp('nowhere')), /no label/);
  assert.throws(() => assemble(0, 64, (a) => a.add('rax', 0x80000000)), /does not fit/);
  assert.throws(() => assemble(0, 32, (a) => a.mov('rax', 1n << 40n)), /REX/);
  assert.throws(() => assemble(0, 64, (a) => a.mov('rxx', 1)), /no register/);
  assert.throws(
    () =>
      assemble(0, 64, (a) => {
        a.label('a');
        a.label('a');
      }),
    /there already/,
  );
});
