// Where a code segment ends.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import type { Assembler } from '../../asm/assembler.ts';
import { hypervisors, isLab, testOn } from './hypervisors.ts';
import { BareMachine, done, expectFault, type RunOptions } from './machine.ts';
import * as M from './map.ts';

/** QEMU 7.2 goes on where no memory is, and ends. */
const limits = { skip: isLab };

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());

  const small = (limit: number): RunOptions => ({
    mode: 'protected32',
    before: (sregs) => {
      sregs.cs.limit = limit;
      sregs.cs.g = false;
    },
  });

  test(`${hypervisor.name}: branches beyond the limit fault at themselves, with nothing changed`, limits, () => {
    const branches: readonly [string, (a: Assembler) => void][] = [
      ['jmp', (a) => a.jmp(M.CODE + 0x2000)],
      ['jcc', (a) => a.jcc('ne', M.CODE + 0x2000)],
      ['call', (a) => a.call(M.CODE + 0x2000)],
      ['loop', (a) => a.db(0xe2, 0x80)],
      ['jmp indirect', (a) => a.jmpRegister('ebx')],
      ['call indirect', (a) => a.callRegister('ebx')],
      ['ret', (a) => a.ret()],
    ];
    for (const [name, branch] of branches) {
      const outcome = machine.run(
        (a) => {
          a.mov('ebx', M.CODE + 0x2000);
          a.push('ebx');
          a.mov('ecx', 9);
          a.cmp('ecx', 1);
          a.label('here');
          branch(a);
        },
        {
          ...small(M.CODE + 0xfff),
          // LOOP goes back by 128 bytes: below the start of the segment, where offsets wrap.
          ...(name === 'loop' ? { before: lowSegment, regs: { rip: 0n } } : {}),
        },
      );
      const fault = expectFault(outcome, 13, 0);
      assert.equal(fault.rip, machine.address('here') - (name === 'loop' ? M.CODE : 0), name);
      assert.equal(outcome.regs.rcx, 9n, name);
      assert.equal(outcome.regs.rsp, BigInt(M.STACK - 4 - 16 - 4), name);
    }
  });
  /** CS begins at the program, and ends 4 KiB later. */
  const lowSegment: NonNullable<RunOptions['before']> = (sregs) => {
    sregs.cs.base = BigInt(M.CODE);
    sregs.cs.limit = 0xfff;
    sregs.cs.g = false;
  };

  test(
    `${hypervisor.name}: code that runs over the limit faults at the first instruction that is not inside whole`,
    limits,
    () => {
      for (const cut of [0, 1, 4]) {
        const outcome = machine.run(
          (a) => {
            a.mov('ebx', 1);
            a.mov('ebx', 2);
            a.label('last');
            a.mov('ebx', 3);
            a.label('end');
            done(a);
          },
          {
            mode: 'protected32',
            before: (sregs, m) => {
              sregs.cs.limit = m.address('end') - 1 - cut;
              sregs.cs.g = false;
            },
          },
        );
        assert.equal(expectFault(outcome, 13, 0).rip, machine.address(cut === 0 ? 'end' : 'last'));
        assert.equal(outcome.regs.rbx, cut === 0 ? 3n : 2n);
      }
    },
  );
}
