// Task switches, and their faults.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { absolute } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectFault, type Outcome, type RunOptions } from './machine.ts';
import * as M from './map.ts';

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { memory } = machine;
  const gateAt = (selector: number): number => M.GDT + (selector & ~7);

  /** A 32-bit TSS at TSS2, described by FREE2. */
  const otherTask: NonNullable<RunOptions['before']> = (_, m) => {
    m.descriptor(M.FREE2, M.TSS2, 0x67, 0x89, 0);
    const task = (offset: number, value: number): void => m.memory.writeU32(M.TSS2 + offset, value);
    task(28, 0);
    task(32, m.address('task'));
    task(36, 0x3002);
    task(40, 0xaaaa);
    task(44, 0xcccc);
    task(56, M.STACK1);
    for (const offset of [72, 80, 84, 88, 92]) task(offset, M.DATA32);
    task(76, M.CODE32);
    task(96, 0);
    m.memory.writeU16(M.TSS2 + 102, 0x68);
  };
  const TASK: RunOptions = { mode: 'protected32', before: otherTask };

  test(`${hypervisor.name}: task switch by CALL, and back by IRET`, () => {
    const outcome = machine.run((a) => {
      a.mov('ebx', 0x1234);
      a.callFar(M.FREE2, 0);
      a.label('next');
      a.mov('al', 'dl');
      done(a);
      a.label('task');
      a.pushf();
      a.pop('ecx');
      a.mov(absolute(M.DATA), 'ecx');
      a.str('cx');
      a.mov(absolute(M.DATA + 4), 'ecx');
      a.mov(absolute(M.DATA + 8), 'eax');
      a.mov(absolute(M.DATA + 12), 'esp');
      a.iret();
      a.label('again');
      a.hlt();
    }, TASK);
    const { rbx } = expectDone(outcome);
    assert.equal(rbx, 0x1234n, 'registers came back from the TSS');
    assert.equal(memory.readU32(M.DATA) & 0x7002, 0x7002, 'NT and the flags of the task');
    assert.equal(memory.readU32(M.DATA + 4) & 0xffff, M.FREE2);
    assert.equal(memory.readU32(M.DATA + 8), 0xaaaa);
    assert.equal(memory.readU32(M.DATA + 12), M.STACK1);
    assert.equal(memory.readU16(M.TSS2), M.TSS_SELECTOR, 'back link');
    assert.equal(memory.readU8(gateAt(M.FREE2) + 5), 0x89, 'not busy any more');
    assert.equal(memory.readU8(gateAt(M.TSS_SELECTOR) + 5), 0x8b);
    assert.equal(memory.readU32(M.TSS2 + 32), machine.address('again'), 'the task goes on behind its IRET');
    assert.equal(machine.vcpu.getSregs().cr0 & M.CR0_TS, M.CR0_TS);
    assert.equal(memory.readU32(M.TSS + 32), machine.address('next'));
  });

  test(`${hypervisor.name}: task switch by JMP, by a task gate, by an interrupt with an error code`, () => {
    const jump = machine.run((a) => {
      a.jmpFar(M.FREE2, 0);
      a.label('task');
      a.mov('al', 'cl');
      done(a);
    }, TASK);
    expectDone(jump, 0xcc);
    assert.equal(memory.readU8(gateAt(M.TSS_SELECTOR) + 5), 0x89, 'JMP leaves the old task not busy');
    assert.equal(memory.readU8(gateAt(M.FREE2) + 5), 0x8b);
    const gate = machine.run(
      (a) => {
        a.callFar(M.FREE, 0);
        a.label('task');
        done(a);
      },
      {
        ...TASK,
        before: (s, m) => {
          otherTask(s, m);
          m.gate(gateAt(M.FREE), M.FREE2, 0, 0x85);
        },
      },
    );
    expectDone(gate, 0xaa);
    const fault = machine.run(
      (a) => {
        a.mov('eax', 0x1f8);
        a.label('here');
        a.mov('ds', 'ax');
        a.label('task');
        a.pop('eax');
        done(a);
      },
      {
        ...TASK,
        before: (s, m) => {
          otherTask(s, m);
          m.gate(M.IDT + 13 * 8, M.FREE2, 0, 0x85);
        },
      },
    );
    expectDone(fault, 0xf8);
    assert.equal(memory.readU32(M.TSS + 32), machine.address('here'));
    assert.equal(fault.regs.rsp, BigInt(M.STACK1));
  });

  test(`${hypervisor.name}: task switches: every fault and its selector`, () => {
    const task = (selector: number, change: (m: BareMachine) => void) => ({ selector, change });
    const set = (offset: number, value: number) => (m: BareMachine) => m.memory.writeU32(M.TSS2 + offset, value);
    const faults: readonly [
      string,
      { selector: number; change: (m: BareMachine) => void },
      number,
      number,
      'old' | 'new',
    ][] = [
      ['busy', task(M.FREE2, (m) => m.descriptor(M.FREE2, M.TSS2, 0x67, 0x8b, 0)), 13, M.FREE2, 'old'],
      ['not present', task(M.FREE2, (m) => m.descriptor(M.FREE2, M.TSS2, 0x67, 0x09, 0)), 11, M.FREE2, 'old'],
      ['limit', task(M.FREE2, (m) => m.descriptor(M.FREE2, M.TSS2, 0x66, 0x89, 0)), 10, M.FREE2, 'old'],
      ['LDT', task(M.FREE2, set(96, M.DATA32)), 10, M.DATA32, 'new'],
      ['CS null', task(M.FREE2, set(76, 0)), 10, 0, 'new'],
      ['CS data', task(M.FREE2, set(76, M.DATA32)), 10, M.DATA32, 'new'],
      ['CS level', task(M.FREE2, set(76, M.CODE32 | 3)), 10, M.CODE32, 'new'],
      ['SS null', task(M.FREE2, set(80, 0)), 10, 0, 'new'],
      ['SS level', task(M.FREE2, set(80, M.DATA32_3)), 10, M.DATA32_3 & ~3, 'new'],
      [
        'DS execute-only',
        task(M.FREE2, (m) => {
          m.descriptor(M.FREE, 0, 0xfffff, 0x99, 0xc);
          set(84, M.FREE)(m);
        }),
        10,
        M.FREE,
        'new',
      ],
      [
        'DS not present',
        task(M.FREE2, (m) => {
          m.descriptor(M.FREE, 0, 0xfffff, 0x13, 0xc);
          set(84, M.FREE)(m);
        }),
        11,
        M.FREE,
        'new',
      ],
      [
        'SS not present',
        task(M.FREE2, (m) => {
          m.descriptor(M.FREE, 0, 0xfffff, 0x13, 0xc);
          set(80, M.FREE)(m);
        }),
        12,
        M.FREE,
        'new',
      ],
    ];
    for (const [name, { selector, change }, vector, error, where] of faults) {
      const outcome = machine.run(
        (a) => {
          a.label('here');
          a.jmpFar(selector, 0);
          a.label('task');
          done(a);
        },
        {
          ...TASK,
          before: (s, m) => {
            otherTask(s, m);
            change(m);
            // A broken task has no stack: the handler is a task of its own, whose TSS is the LDT's neighbour.
            if (where === 'new') handlerTask(m, vector);
          },
        },
      );
      if (where === 'old') {
        const fault = expectFault(outcome, vector, error);
        assert.equal(fault.rip, machine.address('here'), name);
      } else {
        const regs = expectDone(outcome as Outcome);
        assert.equal(regs.rbx, BigInt(error), `${name}: error code`);
        assert.equal(memory.readU32(M.TSS2 + 32), machine.address('task'), `${name}: met in the new task`);
      }
    }
  });
  /** The vector's handler is a task that pops the error code into EBX and ends. */
  function handlerTask(m: BareMachine, vector: number): void {
    const tss = 0x6c00;
    const code = 0x50000;
    m.descriptor(M.FREE3, tss, 0x67, 0x89, 0);
    m.gate(M.IDT + vector * 8, M.FREE3, 0, 0x85);
    const set = (offset: number, value: number): void => m.memory.writeU32(tss + offset, value);
    set(32, code);
    set(36, 2);
    set(56, M.STACK2);
    for (const offset of [72, 80, 84, 88, 92]) set(offset, M.DATA32);
    set(76, M.CODE32);
    // POP EBX; OUT 0xf4, AL.
    m.memory.write(code, Uint8Array.of(0x5b, 0xe6, M.PORT_DONE));
  }

  test(`${hypervisor.name}: there are no tasks in long mode`, () => {
    for (const mode of ['long', 'compat'] as const) {
      const outcome = machine.run(
        (a) => {
          a.callFarMemory(absolute(M.DATA), 4);
        },
        {
          mode,
          before: (_, m) => {
            m.descriptor(M.FREE2, M.TSS2, 0x67, 0x89, 0);
            m.memory.writeU16(M.DATA + 4, M.FREE2);
          },
        },
      );
      expectFault(outcome, 13, M.FREE2);
    }
  });
}
