// Every exception: its vector, its error code, whether it is a fault or a trap.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute, at } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectExit, expectFault, type Mode, type RunOptions } from './machine.ts';
import * as M from './map.ts';

interface Case {
  readonly name: string;
  readonly program: (a: Assembler) => void;
  readonly vector: number;
  readonly error?: number;
  /** The frame points to the label `next`, not to `here`. */
  readonly trap?: true;
  readonly options?: RunOptions;
  readonly modes?: readonly Mode[];
}

/** Marks the instruction under test. */
function tried(a: Assembler, instruction: () => void): void {
  a.label('here');
  instruction();
  a.label('next');
  done(a);
}

const ALL: readonly Mode[] = ['long', 'compat', 'protected32', 'protected16', 'real'];
const PROTECTED: readonly Mode[] = ['long', 'compat', 'protected32'];
const LONG: readonly Mode[] = ['long'];
const LEGACY: readonly Mode[] = ['compat', 'protected32', 'protected16', 'real'];
const user: RunOptions = { cpl: 3 };
/** FREE: a data segment that is not present. */
const absent: RunOptions = { before: (_, machine) => machine.descriptor(M.FREE, 0, 0xfffff, 0x13, 0xc) };
const taskSwitched: RunOptions = {
  before: (sregs) => {
    sregs.cr0 |= M.CR0_TS;
  },
};

/** Divides 1.0 by 0.0 in SSE with that exception unmasked. */
function sseDivision(a: Assembler): void {
  a.mov(absolute(M.DATA, 4), 0x1d80);
  a.ldmxcsr(absolute(M.DATA));
  a.mov('eax', 0x3f800000);
  a.db(0x66, 0x0f, 0x6e, 0xc0); // MOVD XMM0, EAX
  a.db(0x0f, 0x57, 0xc9); // XORPS XMM1, XMM1
  tried(a, () => a.db(0xf3, 0x0f, 0x5e, 0xc1)); // DIVSS XMM0, XMM1
}

const CASES: readonly Case[] = [
  {
    name: '#DE: division by zero',
    vector: 0,
    modes: ALL,
    program: (a) => {
      a.xor('cx', 'cx');
      tried(a, () => a.div('cx'));
    },
  },
  {
    name: '#DE: quotient too large',
    vector: 0,
    modes: ALL,
    program: (a) => {
      a.mov('ax', 0x400);
      a.mov('cl', 2);
      tried(a, () => a.div('cl'));
    },
  },
  { name: '#DB: INT1', vector: 1, trap: true, modes: ALL, program: (a) => tried(a, () => a.int1()) },
  { name: '#BP: INT3', vector: 3, trap: true, modes: ALL, program: (a) => tried(a, () => a.int3()) },
  {
    name: '#OF: INTO',
    vector: 4,
    trap: true,
    modes: LEGACY,
    program: (a) => {
      a.mov('al', 0x7f);
      a.add('al', 1);
      tried(a, () => a.into());
    },
  },
  {
    name: '#BR: BOUND',
    vector: 5,
    modes: ['compat', 'protected32'],
    program: (a) => {
      a.mov('eax', 9);
      tried(a, () => a.emit({ size: 4, opcode: [0x62], reg: 0, rm: absolute(M.DATA) }));
    },
  },
  { name: '#UD: UD2', vector: 6, modes: ALL, program: (a) => tried(a, () => a.ud2()) },
  { name: '#UD: INTO in 64-bit mode', vector: 6, program: (a) => tried(a, () => a.into()) },
  { name: '#UD: LOCK before a load', vector: 6, modes: ALL, program: (a) => tried(a, () => a.db(0xf0, 0x8b, 0x00)) },
  {
    name: '#UD: LOCK ADD to a register',
    vector: 6,
    modes: ALL,
    program: (a) => tried(a, () => a.db(0xf0, 0x01, 0xc0)),
  },
  { name: '#UD: MOV to CS', vector: 6, modes: ALL, program: (a) => tried(a, () => a.mov('cs', 'ax')) },
  { name: '#UD: MOV from CR1', vector: 6, modes: ALL, program: (a) => tried(a, () => a.db(0x0f, 0x20, 0xc8)) },
  { name: '#UD: VMXOFF is not there', vector: 6, program: (a) => tried(a, () => a.db(0x0f, 0x01, 0xc4)) },
  {
    name: '#UD: SYSENTER family needs protected mode: LLDT',
    vector: 6,
    modes: ['real'],
    program: (a) => tried(a, () => a.lldt('ax')),
  },
  {
    name: '#UD: DR4 with CR4.DE',
    vector: 6,
    options: { cr4: M.CR4_PAE | M.CR4_DE },
    program: (a) => tried(a, () => a.mov('rax', 'dr4')),
  },
  {
    name: '#NM: x87 with CR0.TS',
    vector: 7,
    modes: PROTECTED,
    options: taskSwitched,
    program: (a) => tried(a, () => a.db(0xd9, 0xe8)),
  },
  {
    name: '#NM: WAIT with CR0.TS and MP',
    vector: 7,
    modes: PROTECTED,
    options: taskSwitched,
    program: (a) => tried(a, () => a.db(0x9b)),
  },
  {
    name: '#NM: SSE with CR0.TS',
    vector: 7,
    modes: PROTECTED,
    options: taskSwitched,
    program: (a) => tried(a, () => a.db(0x0f, 0x28, 0xc1)),
  },
  {
    name: '#UD: SSE without CR4.OSFXSR',
    vector: 6,
    options: { cr4: M.CR4_PAE },
    program: (a) => tried(a, () => a.db(0x0f, 0x28, 0xc1)),
  },
  {
    name: '#GP: null selector to SS at level 3',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    options: user,
    program: (a) => {
      a.xor('ax', 'ax');
      tried(a, () => a.mov('ss', 'ax'));
    },
  },
  {
    name: '#GP: selector beyond the GDT',
    vector: 13,
    error: 0x1f8,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ax', 0x1f8);
      tried(a, () => a.mov('ds', 'ax'));
    },
  },
  {
    name: '#GP: selector beyond the LDT',
    vector: 13,
    error: 0x104,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ax', 0x104);
      tried(a, () => a.mov('es', 'ax'));
    },
  },
  {
    name: '#GP: code segment to SS',
    vector: 13,
    error: M.CODE32,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ax', M.CODE32);
      tried(a, () => a.mov('ss', 'ax'));
    },
  },
  {
    name: '#GP: level-0 data at level 3',
    vector: 13,
    error: M.DATA32,
    modes: PROTECTED,
    options: user,
    program: (a) => {
      a.mov('ax', M.DATA32);
      tried(a, () => a.mov('ds', 'ax'));
    },
  },
  {
    name: '#GP: HLT at level 3',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    options: user,
    program: (a) => tried(a, () => a.hlt()),
  },
  {
    name: '#GP: CLI at level 3, IOPL 0',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    options: user,
    program: (a) => tried(a, () => a.cli()),
  },
  {
    name: '#GP: MOV from CR0 at level 3',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    options: user,
    program: (a) => tried(a, () => a.db(0x0f, 0x20, 0xc0)),
  },
  {
    name: '#GP: LGDT at level 3',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    options: user,
    program: (a) => tried(a, () => a.lgdt(absolute(M.DATA))),
  },
  {
    name: '#GP: SGDT at level 3 with CR4.UMIP',
    vector: 13,
    error: 0,
    options: { cpl: 3, cr4: M.CR4_PAE | M.CR4_UMIP },
    program: (a) => tried(a, () => a.sgdt(absolute(M.DATA))),
  },
  {
    name: '#GP: RDTSC at level 3 with CR4.TSD',
    vector: 13,
    error: 0,
    options: { cpl: 3, cr4: M.CR4_PAE | M.CR4_TSD },
    program: (a) => tried(a, () => a.rdtsc()),
  },
  {
    name: '#GP: MSR that is not there',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ecx', 0x12345);
      tried(a, () => a.rdmsr());
    },
  },
  {
    name: '#GP: MSR value not canonical',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('ecx', 0xc0000100);
      a.mov('edx', 0x8000);
      tried(a, () => a.wrmsr());
    },
  },
  {
    name: '#GP: reserved bit of CR4',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('rax', 'cr4');
      a.or('rax', 0x8000000);
      tried(a, () => a.mov('cr4', 'rax'));
    },
  },
  {
    name: '#GP: CR4.PAE cleared in long mode',
    vector: 13,
    error: 0,
    program: (a) => {
      a.xor('eax', 'eax');
      tried(a, () => a.mov('cr4', 'rax'));
    },
  },
  {
    name: '#GP: CR0.PG without PE',
    vector: 13,
    error: 0,
    modes: ['protected32'],
    program: (a) => {
      a.mov('eax', 0x80000000);
      tried(a, () => a.mov('cr0', 'eax'));
    },
  },
  {
    name: '#GP: CR0.NW without CD',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('rax', 'cr0');
      a.or('rax', 0x20000000);
      tried(a, () => a.mov('cr0', 'rax'));
    },
  },
  {
    name: '#GP: reserved bit of DR7',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('rax', 1n << 32n);
      tried(a, () => a.mov('dr7', 'rax'));
    },
  },
  {
    name: '#GP: address not canonical',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('rbx', 1n << 47n);
      tried(a, () => a.mov('rax', at('rbx')));
    },
  },
  {
    name: '#SS: address not canonical, relative to RBP',
    vector: 12,
    error: 0,
    program: (a) => {
      a.mov('rbp', 1n << 47n);
      tried(a, () => a.mov('rax', at('rbp')));
    },
  },
  {
    name: '#SS: PUSH to an address not canonical',
    vector: 12,
    error: 0,
    options: { before: (_, machine) => machine.vector(12, 0x8e, 1) },
    program: (a) => {
      a.mov('rsp', 1n << 63n);
      tried(a, () => a.push('rax'));
    },
  },
  {
    name: '#GP: jump to an address not canonical',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('rbx', 1n << 47n);
      tried(a, () => a.jmpRegister('rbx'));
    },
  },
  {
    name: '#GP: offset beyond the limit',
    vector: 13,
    error: 0,
    modes: ['protected16'],
    program: (a) => {
      a.mov('ebx', 0x10000);
      tried(a, () => a.mov('al', at('ebx')));
    },
  },
  {
    name: '#SS: offset beyond the limit of SS',
    vector: 12,
    error: 0,
    modes: ['protected16'],
    program: (a) => {
      a.mov('ebp', 0x10000);
      tried(a, () => a.mov('al', at('ebp')));
    },
  },
  {
    name: '#GP: word across the end of a segment in real mode',
    vector: 13,
    modes: ['real'],
    program: (a) => {
      a.mov('bx', 0xffff);
      tried(a, () => a.mov('ax', at('bx')));
    },
  },
  {
    name: '#GP: write to a segment that is only read',
    vector: 13,
    error: 0,
    modes: ['compat', 'protected32'],
    options: { before: (_, machine) => machine.descriptor(M.FREE, 0, 0xfffff, 0x91, 0xc) },
    program: (a) => {
      a.mov('ax', M.FREE);
      a.mov('ds', 'ax');
      a.mov('eax', absolute(M.DATA));
      tried(a, () => a.mov(absolute(M.DATA), 'eax'));
    },
  },
  {
    name: '#GP: write to code',
    vector: 13,
    error: 0,
    modes: ['compat', 'protected32'],
    program: (a) => tried(a, () => a.mov({ disp: M.DATA, segment: 'cs' }, 'eax')),
  },
  {
    name: '#GP: access by a null selector',
    vector: 13,
    error: 0,
    modes: ['compat', 'protected32'],
    program: (a) => {
      a.xor('eax', 'eax');
      a.mov('es', 'ax');
      tried(a, () => a.mov('eax', { disp: M.DATA, segment: 'es' }));
    },
  },
  {
    name: '#GP: below an expand-down segment',
    vector: 13,
    error: 0,
    modes: ['compat', 'protected32'],
    options: { before: (_, machine) => machine.descriptor(M.FREE, 0, 0x20, 0x97, 0xc) },
    program: (a) => {
      a.mov('ax', M.FREE);
      a.mov('ds', 'ax');
      a.mov('al', absolute(0x21000));
      tried(a, () => a.mov('al', absolute(0x20fff)));
    },
  },
  {
    name: '#GP: INT through a gate of level 0',
    vector: 13,
    error: 0x40 * 8 + 2,
    modes: PROTECTED,
    options: { cpl: 3, before: (_, machine) => machine.vector(0x40, 0x8e) },
    program: (a) => tried(a, () => a.int(0x40)),
  },
  {
    name: '#GP: INT beyond the IDT',
    vector: 13,
    error: 0xff * 8 + 2,
    modes: PROTECTED,
    options: {
      before: (sregs) => {
        sregs.idt.limit = 0x1ff;
      },
    },
    program: (a) => tried(a, () => a.int(0xff)),
  },
  {
    name: '#NP: data segment',
    vector: 11,
    error: M.FREE,
    modes: PROTECTED,
    options: absent,
    program: (a) => {
      a.mov('ax', M.FREE);
      tried(a, () => a.mov('ds', 'ax'));
    },
  },
  {
    name: '#SS: stack segment not present',
    vector: 12,
    error: M.FREE,
    modes: PROTECTED,
    options: absent,
    program: (a) => {
      a.mov('ax', M.FREE);
      tried(a, () => a.mov('ss', 'ax'));
    },
  },
  {
    name: '#NP: gate not present',
    vector: 11,
    error: 0x41 * 8 + 2,
    modes: PROTECTED,
    options: { before: (_, machine) => machine.vector(0x41, 0x0e) },
    program: (a) => tried(a, () => a.int(0x41)),
  },
  {
    name: '#GP: LTR of a busy TSS',
    vector: 13,
    error: M.TSS_SELECTOR,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ax', M.TSS_SELECTOR);
      tried(a, () => a.ltr('ax'));
    },
  },
  {
    name: '#GP: LLDT of something else',
    vector: 13,
    error: M.DATA32,
    modes: PROTECTED,
    program: (a) => {
      a.mov('ax', M.DATA32);
      tried(a, () => a.lldt('ax'));
    },
  },
  {
    name: '#TS: stack of level 0 is no stack',
    vector: 10,
    error: M.CODE32,
    modes: ['protected32'],
    // The exception itself enters by a task of its own stack: #TS's handler is conforming at level 3 here.
    options: {
      cpl: 3,
      before: (_, machine) => {
        machine.memory.writeU32(M.TSS + 8, M.CODE32);
        machine.vector(10, 0xee, 0, M.CODE32_3);
      },
      rflags: 0x3002n,
    },
    program: (a) => tried(a, () => a.int(0x42)),
  },
  {
    name: '#MF: an x87 exception is met by the next instruction',
    vector: 16,
    modes: PROTECTED,
    program: (a) => {
      a.db(0xdb, 0xe3); // FNINIT
      a.mov(absolute(M.DATA, 2), 0x37b);
      a.emit({ size: 0, opcode: [0xd9], reg: 5, rm: absolute(M.DATA) }); // FLDCW
      a.db(0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9); // FLD1, FLDZ, FDIVP
      tried(a, () => a.db(0x9b));
    },
  },
  {
    name: '#AC: unaligned at level 3',
    vector: 17,
    error: 0,
    modes: PROTECTED,
    options: {
      cpl: 3,
      rflags: 0x40002n,
      before: (sregs) => {
        sregs.cr0 |= M.CR0_AM;
      },
    },
    program: (a) => tried(a, () => a.mov('eax', absolute(M.DATA + 1))),
  },
  { name: '#XM: SSE exception', vector: 19, modes: PROTECTED, options: {}, program: sseDivision },
  {
    name: '#UD: SSE exception without CR4.OSXMMEXCPT',
    vector: 6,
    options: { cr4: M.CR4_PAE | M.CR4_OSFXSR },
    program: sseDivision,
  },
  {
    name: '#GP: MXCSR bit that is reserved',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov(absolute(M.DATA, 4), 0x10000);
      tried(a, () => a.ldmxcsr(absolute(M.DATA)));
    },
  },
  {
    name: '#GP: MOVAPS unaligned',
    vector: 13,
    error: 0,
    program: (a) => {
      a.mov('ebx', M.DATA + 8);
      tried(a, () => a.db(0x0f, 0x28, 0x03));
    },
  },
  {
    name: '#GP: more than 15 bytes',
    vector: 13,
    error: 0,
    modes: PROTECTED,
    program: (a) => tried(a, () => a.db(...Array(15).fill(0x66), 0x90)),
  },
];

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());

  for (const { name, program, vector, error, trap, options, modes = LONG } of CASES) {
    for (const mode of modes) {
      test(`${hypervisor.name}, ${mode}: ${name}`, () => {
        const all: RunOptions = { ...options, mode };
        // #XM needs its enabling bit where the mode's own defaults lack it.
        const cr4 = name.startsWith('#XM') && mode === 'protected32' ? { cr4: M.CR4_OSFXSR | M.CR4_OSXMMEXCPT } : {};
        const fault = expectFault(machine.run(program, { ...all, ...cr4 }), vector, error);
        assert.equal(fault.rip, machine.address(trap ? 'next' : 'here'), 'instruction pointer in the frame');
        const level = options?.cpl ?? 0;
        assert.equal(fault.cs & 3, mode === 'real' ? 0 : level);
        if (level === 3 && fault.vector !== 10)
          assert.equal(
            fault.frame < M.STACK0 && fault.frame > M.STACK0 - 0x40,
            true,
            'the stack is level 0 of the TSS',
          );
      });
    }
  }

  test(`${hypervisor.name}: faults set RF in the frame, traps do not`, () => {
    const fault = expectFault(
      machine.run((a) => a.ud2()),
      6,
    );
    assert.equal(fault.rflags & 0x10000, 0x10000);
    const trap = expectFault(
      machine.run((a) => a.int3()),
      3,
    );
    assert.equal(trap.rflags & 0x10000, 0);
  });

  test(`${hypervisor.name}: interrupt gates clear IF, trap gates leave it; both clear TF, NT, RF, VM`, () => {
    for (const [access, expected] of [
      [0x8e, 0],
      [0x8f, 0x200],
    ] as const) {
      const options: RunOptions = { rflags: 0x4202n, before: (_, m) => m.vector(0x42, access) };
      const outcome = machine.run((a) => a.int(0x42), options);
      const fault = expectFault(outcome, 0x42);
      assert.equal(fault.rflags, 0x4202);
      assert.equal(Number(outcome.regs.rflags) & 0x34300, expected);
    }
  });

  test(`${hypervisor.name}: the 64-bit frame is aligned to 16 and has SS and RSP always`, () => {
    for (const rsp of [0x6fff8n, 0x6fff1n, 0x70000n]) {
      const fault = expectFault(
        machine.run((a) => a.ud2(), { regs: { rsp } }),
        6,
      );
      assert.equal(fault.rsp, Number(rsp));
      assert.equal(fault.ss, M.DATA32);
      assert.equal(fault.frame, Number((rsp & ~15n) - 40n));
    }
  });

  test(`${hypervisor.name}: IST chooses the stack, also without a change of level`, () => {
    const fault = expectFault(
      machine.run((a) => a.ud2(), { before: (_, m) => m.vector(6, 0x8e, 1) }),
      6,
    );
    assert.equal(fault.frame, M.STACK_IST - 40);
    assert.equal(fault.rsp, M.STACK);
  });

  test(`${hypervisor.name}: from level 3 the stack is the TSS's, SS is null`, () => {
    const fault = expectFault(
      machine.run((a) => a.ud2(), { cpl: 3 }),
      6,
    );
    assert.equal(fault.frame, M.STACK0 - 40);
    assert.equal(fault.ss, M.DATA32_3);
    assert.equal(fault.cs, M.CODE64_3);
    assert.equal(machine.vcpu.getSregs().ss.selector, 0);
    assert.equal(machine.vcpu.getSregs().cs.selector, M.CODE64);
  });

  test(`${hypervisor.name}: handlers return where the frame says`, () => {
    for (const mode of ALL) {
      const outcome = machine.run(
        (a) => {
          a.mov('bl', 1);
          a.int3();
          a.add('bl', 1);
          a.int(0x80);
          a.add('bl', 1);
          a.mov('al', 'bl');
          done(a);
        },
        { mode, onFault: () => true },
      );
      assert.equal(outcome.kind === 'done' && outcome.value, 3, mode);
    }
  });

  test(`${hypervisor.name}: from level 3 and back`, () => {
    for (const mode of PROTECTED) {
      // Ports are open to level 3 by IOPL.
      const outcome = machine.run(
        (a) => {
          a.int(0x80);
          a.mov('al', 7);
          done(a);
        },
        { mode, cpl: 3, rflags: 0x3202n, onFault: () => true },
      );
      expectDone(outcome, 7);
      assert.equal(machine.vcpu.getSregs().cs.selector & 3, 3);
      assert.equal(outcome.regs.rsp, BigInt(M.STACK3));
      assert.equal(outcome.regs.rflags & 0x3200n, 0x3200n);
    }
  });

  test(`${hypervisor.name}: a contributory exception while one is delivered is a double fault`, () => {
    const options: RunOptions = {
      before: (_, m) => {
        m.vector(6, 0x0e);
        m.vector(11, 0x0e);
      },
    };
    // #UD's gate gives #NP, which is contributory, but #UD is benign: #NP is delivered, and its own gate gives #DF.
    const fault = expectFault(
      machine.run((a) => a.ud2(), options),
      8,
      0,
    );
    assert.equal(fault.rip, M.CODE);
    const single = { before: (_: unknown, m: BareMachine) => m.vector(6, 0x0e) };
    expectFault(
      machine.run((a) => a.ud2(), single),
      11,
      6 * 8 + 3,
    );
    // INT's exceptions say that they are not external, exceptions' say that they are.
    const external = { before: (_: unknown, m: BareMachine) => m.vector(0, 0x0e) };
    expectFault(
      machine.run((a) => {
        a.xor('ecx', 'ecx');
        a.div('ecx');
      }, external),
      8,
      0,
    );
  });

  test(`${hypervisor.name}: a fault in the double fault's delivery is a shutdown`, () => {
    for (const mode of ALL) {
      const options: RunOptions = {
        mode,
        before: (sregs) => {
          sregs.idt.limit = 0;
        },
      };
      expectExit(
        machine.run((a) => a.ud2(), options),
        'shutdown',
      );
    }
  });
}
