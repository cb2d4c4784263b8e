// Far transfers between privilege levels: gates and returns.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectFault, type RunOptions } from './machine.ts';
import * as M from './map.ts';

const IOPL3 = 0x3002n;
/** Descriptors of level 1 in the GDT's free places. */
const CODE_1 = M.FREE3 | 1;
const DATA_1 = M.FREE4 | 1;
const levels: NonNullable<RunOptions['before']> = (_, m) => {
  m.descriptor(CODE_1, 0, 0xfffff, 0xbb, 0xc);
  m.descriptor(DATA_1, 0, 0xfffff, 0xb3, 0xc);
};

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { memory } = machine;
  const gateAt = (selector: number): number => M.GDT + (selector & ~7);

  /** A 32-bit call gate at FREE to the label `inner` in `selector`. */
  const gate32 =
    (selector: number, access = 0xec, parameters = 0): NonNullable<RunOptions['before']> =>
    (sregs, m) => {
      levels(sregs, m);
      m.gate(gateAt(M.FREE), selector, m.address('inner'), access, parameters);
    };
  const callsGate =
    (body: (a: Assembler) => void) =>
    (a: Assembler): void => {
      a.label('here');
      a.callFar(M.FREE | 3, 0x12345678);
      a.label('next');
      done(a);
      a.label('inner');
      body(a);
    };

  // ---- Call gates --------------------------------------------------------------------------------------------------------
  test(`${hypervisor.name}: call gate from level 3 to 0: new stack, parameters copied, and RETF back`, () => {
    const outcome = machine.run(
      (a) => {
        a.push(0x11111111);
        a.push(0x22222222);
        a.callFar(M.FREE | 3, 0);
        a.label('next');
        a.mov('edx', 'esp');
        done(a);
        a.label('inner');
        a.mov('ecx', 'cs');
        a.mov('ebx', 'esp');
        a.mov('al', 5);
        a.db(0xca, 8, 0);
      },
      { mode: 'protected32', cpl: 3, rflags: IOPL3, before: gate32(M.CODE32, 0xec, 2) },
    );
    const { rbx, rcx, rdx } = expectDone(outcome, 5);
    assert.equal(rbx, BigInt(M.STACK0 - 24));
    const frame = Array.from({ length: 6 }, (_, i) => memory.readU32(M.STACK0 - 24 + i * 4));
    const next = machine.address('next');
    assert.deepEqual(frame, [next, M.CODE32_3, 0x22222222, 0x11111111, M.STACK3 - 8, M.DATA32_3]);
    assert.equal(rcx & 3n, 0n);
    assert.equal(rdx, BigInt(M.STACK3), 'the parameters are released on both stacks');
    assert.equal(machine.vcpu.getSregs().cs.selector, M.CODE32_3);
  });

  test(`${hypervisor.name}: call gate to level 1 and conforming code; JMP through gates`, () => {
    const one = machine.run(
      callsGate((a) => {
        a.mov('eax', 'cs');
        done(a);
      }),
      {
        mode: 'protected32',
        cpl: 3,
        rflags: IOPL3,
        before: (s, m) => {
          gate32(CODE_1)(s, m);
          m.memory.writeU32(M.TSS + 16, DATA_1);
        },
      },
    );
    expectDone(one, CODE_1);
    assert.equal(one.regs.rsp, BigInt(M.STACK1 - 16));
    // Conforming: the level stays, the stack too.
    const conforming = machine.run(
      callsGate((a) => {
        a.mov('eax', 'cs');
        done(a);
      }),
      {
        mode: 'protected32',
        cpl: 3,
        rflags: IOPL3,
        before: (s, m) => {
          gate32(M.FREE2)(s, m);
          m.descriptor(M.FREE2, 0, 0xfffff, 0x9f, 0xc);
        },
      },
    );
    expectDone(conforming, M.FREE2 | 3);
    assert.equal(conforming.regs.rsp, BigInt(M.STACK3 - 8));
    // JMP cannot go inwards.
    const jump = machine.run(
      (a) => {
        a.label('inner');
        a.jmpFar(M.FREE | 3, 0);
      },
      { mode: 'protected32', cpl: 3, before: gate32(M.CODE32) },
    );
    expectFault(jump, 13, M.CODE32);
  });

  test(`${hypervisor.name}: call gates: every fault and its selector`, () => {
    const faults: readonly [name: string, RunOptions['before'], vector: number, error: number][] = [
      ['DPL of the gate', gate32(M.CODE32, 0x8c), 13, M.FREE],
      ['not present', gate32(M.CODE32, 0x6c), 11, M.FREE],
      ['null code selector', gate32(0), 13, 0],
      ['code beyond the GDT', gate32(0x1f8), 13, 0x1f8],
      ['data for code', gate32(M.DATA32), 13, M.DATA32],
      [
        'code not present',
        (s, m) => {
          gate32(M.FREE2)(s, m);
          m.descriptor(M.FREE2, 0, 0xfffff, 0x1b, 0xc);
        },
        11,
        M.FREE2,
      ],
      [
        'stack selector null',
        (s, m) => {
          gate32(M.CODE32)(s, m);
          m.memory.writeU32(M.TSS + 8, 0);
        },
        10,
        0,
      ],
      [
        'stack of another level',
        (s, m) => {
          gate32(M.CODE32)(s, m);
          m.memory.writeU32(M.TSS + 8, DATA_1);
        },
        10,
        M.FREE4,
      ],
      [
        'stack not present',
        (s, m) => {
          gate32(M.CODE32)(s, m);
          m.descriptor(M.FREE2, 0, 0xfffff, 0x13, 0xc);
          m.memory.writeU32(M.TSS + 8, M.FREE2);
        },
        12,
        M.FREE2,
      ],
      [
        'stack too small',
        (s, m) => {
          gate32(M.CODE32)(s, m);
          m.memory.writeU32(M.TSS + 4, 8);
          m.descriptor(M.FREE2, 0, 0xfff, 0x93, 4);
          m.memory.writeU32(M.TSS + 8, M.FREE2);
        },
        12,
        M.FREE2,
      ],
      [
        'TSS too small',
        (s, m) => {
          gate32(M.CODE32)(s, m);
          s.tr.limit = 8;
        },
        10,
        M.TSS_SELECTOR,
      ],
    ];
    for (const [name, before, vector, error] of faults) {
      const outcome = machine.run(callsGate(done), {
        mode: 'protected32',
        cpl: 3,
        before: (s, m) => {
          before?.(s, m);
          // What is wrong with level 0's stack must not stop the handler: it is conforming code.
          m.descriptor(M.SYSRET_CODE32, 0, 0xfffff, 0x9f, 0xc);
          m.vector(vector, 0xee, 0, M.SYSRET_CODE32);
        },
        rflags: IOPL3,
      });
      const fault = expectFault(outcome, vector, error);
      assert.equal(fault.rip, machine.address('here'), name);
    }
  });

  test(`${hypervisor.name}: 64-bit call gates: from level 3 to 0 and back, from compatibility mode too, and their faults`, () => {
    for (const mode of ['long', 'compat'] as const) {
      const gate: NonNullable<RunOptions['before']> = (_, m) => {
        m.gate(gateAt(M.FREE), M.CODE64, m.address('inner'), 0xec);
        m.memory.writeU64(gateAt(M.FREE) + 8, 0n);
        m.memory.writeU32(M.DATA, 0);
        m.memory.writeU16(M.DATA + 4, M.FREE | 3);
      };
      const program = (a: Assembler): void => {
        a.label('here');
        a.callFarMemory(absolute(M.DATA), 4);
        a.label('next');
        done(a);
        a.bits(64);
        a.label('inner');
        a.mov('rbx', 'rsp');
        a.mov('ecx', 'ss');
        a.mov('al', 6);
        a.retf(8);
      };
      const options: RunOptions = { mode, cpl: 3, rflags: IOPL3, before: gate };
      const { rbx, rcx } = expectDone(machine.run(program, options), 6);
      assert.equal(rbx, BigInt(M.STACK0 - 32));
      assert.equal(rcx, 0n, 'SS is null');
      const code = mode === 'long' ? M.CODE64_3 : M.CODE32_3;
      const frame = Array.from({ length: 4 }, (_, i) => Number(memory.readU64(M.STACK0 - 32 + i * 8)));
      assert.deepEqual(frame, [machine.address('next'), code, M.STACK3, M.DATA32_3]);
      const faults: readonly [RunOptions['before'], number, number][] = [
        // 32-bit code in the gate; type bits in the upper half; 16-bit gates are not there.
        [
          (s, m) => {
            gate(s, m);
            m.memory.writeU16(gateAt(M.FREE) + 2, M.CODE32);
          },
          13,
          M.CODE32,
        ],
        [
          (s, m) => {
            gate(s, m);
            m.memory.writeU32(gateAt(M.FREE) + 12, 0x0c00);
          },
          13,
          M.FREE,
        ],
        [
          (s, m) => {
            gate(s, m);
            m.memory.writeU8(gateAt(M.FREE) + 5, 0xe4);
          },
          13,
          M.FREE,
        ],
        [
          (s, m) => {
            gate(s, m);
            m.memory.writeU32(gateAt(M.FREE) + 8, 0x8000);
          },
          13,
          0,
        ],
        [
          (s, m) => {
            gate(s, m);
            m.memory.writeU64(M.TSS + 4, 1n << 47n);
            m.vector(12, 0x8e, 1);
          },
          12,
          0,
        ],
      ];
      for (const [before, vector, error] of faults) {
        const fault = expectFault(machine.run(program, { ...options, before: before as never }), vector, error);
        assert.equal(fault.rip, machine.address('here'));
      }
    }
  });

  // ---- Returns -----------------------------------------------------------------------------------------------------------
  test(`${hypervisor.name}: RETF and IRET outwards: data segments of inner levels become null`, () => {
    for (const name of ['retf', 'iret'] as const) {
      const outcome = machine.run(
        (a) => {
          // DS is level 0's, ES level 3's.
          a.mov('eax', M.DATA32_3);
          a.mov('es', 'ax');
          a.push(M.DATA32_3);
          a.push(M.STACK3);
          if (name === 'iret') a.push(0x3002);
          a.push(M.CODE32_3);
          a.push(0x12345678);
          a.mov({ base: 'esp', disp: 0, size: 4 }, a.address('outer'));
          a[name]();
          a.label('outer');
          a.mov('ebx', 'ds');
          a.mov('ecx', 'es');
          a.mov('eax', 'cs');
          done(a);
        },
        { mode: 'protected32', rflags: IOPL3 },
      );
      const { rbx, rcx, rsp } = expectDone(outcome, M.CODE32_3);
      assert.deepEqual([rbx, rcx, rsp], [0n, BigInt(M.DATA32_3), BigInt(M.STACK3)], name);
    }
  });

  test(`${hypervisor.name}: returns: every fault and its selector`, () => {
    // [CS, SS] popped, from level 0 by IRET or RETF.
    const faults: readonly [cs: number, ss: number, vector: number, error: number][] = [
      [0, M.DATA32_3, 13, 0],
      [0x1f8, M.DATA32_3, 13, 0x1f8],
      [M.DATA32, M.DATA32_3, 13, M.DATA32],
      // RPL 3, DPL 0, not conforming.
      [M.CODE32 | 3, M.DATA32_3, 13, M.CODE32],
      [M.FREE | 3, M.DATA32_3, 11, M.FREE],
      [M.CODE32_3, 0, 13, 0],
      [M.CODE32_3, M.DATA32, 13, M.DATA32],
      [M.CODE32_3, M.CODE32_3, 13, M.CODE32_3 & ~3],
      [M.CODE32_3, M.FREE2 | 3, 12, M.FREE2],
    ];
    for (const [cs, ss, vector, error] of faults) {
      for (const name of ['retf', 'iret'] as const) {
        const outcome = machine.run(
          (a) => {
            a.push(ss);
            a.push(M.STACK3);
            if (name === 'iret') a.push(2);
            a.push(cs);
            a.push(M.CODE);
            a.label('here');
            a[name]();
          },
          {
            mode: 'protected32',
            before: (_, m) => {
              m.descriptor(M.FREE, 0, 0xfffff, 0x7b, 0xc);
              m.descriptor(M.FREE2, 0, 0xfffff, 0x73, 0xc);
            },
          },
        );
        const fault = expectFault(outcome, vector, error);
        assert.equal(fault.rip, machine.address('here'), `${name} ${cs} ${ss}`);
      }
    }
  });

  test(`${hypervisor.name}: IRETQ: null SS at level 0, frames of compatibility mode, addresses not canonical`, () => {
    const back =
      (cs: number, ss: number, rip: number | bigint | string, rflags = 2) =>
      (a: Assembler): void => {
        for (const value of [ss, M.STACK3 - 0x100, rflags, cs]) a.push(value);
        a.mov('rax', typeof rip === 'string' ? a.address(rip) : rip);
        a.push('rax');
        a.label('here');
        a.iret();
        a.label('same');
        a.mov('eax', 'ss');
        done(a);
        a.bits(32);
        a.label('compat');
        a.mov('eax', 'cs');
        done(a);
      };
    const same = machine.run(back(M.CODE64, 0, 'same'));
    expectDone(same, 0);
    assert.equal(same.regs.rsp, BigInt(M.STACK3 - 0x100));
    expectDone(machine.run(back(M.CODE32_3, M.DATA32_3, 'compat', 0x3002)), M.CODE32_3);
    for (const [cs, ss, rip, vector, error] of [
      [M.CODE64_3, 0, M.CODE, 13, 0],
      [M.CODE64, 0, 1n << 47n, 13, 0],
      [M.CODE64_3, M.DATA32_3, 1n << 47n, 13, 0],
      [M.CODE32_3, 3, M.CODE, 13, 0],
    ] as const) {
      const fault = expectFault(machine.run(back(cs, ss, rip)), vector, error);
      assert.equal(fault.rip, machine.address('here'));
    }
    // NT in 64-bit mode is #GP.
    expectFault(
      machine.run((a) => a.iret(), { rflags: 0x4002n }),
      13,
      0,
    );
  });

  test(`${hypervisor.name}: IRET at level 3 changes neither IOPL nor IF`, () => {
    const outcome = machine.run(
      (a) => {
        for (const value of [M.DATA32_3, M.STACK3, 0x3246 & ~0x200, M.CODE64_3]) a.push(value);
        a.mov('rax', a.address('outer'));
        a.push('rax');
        a.iret();
        a.label('outer');
        a.int(0x40);
      },
      { cpl: 3, rflags: 0x202n },
    );
    assert.equal(expectFault(outcome, 0x40).rflags & 0x3246, 0x246);
  });
}
