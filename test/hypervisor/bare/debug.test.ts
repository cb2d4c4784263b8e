// Debug registers and single step, as the guest uses them (SDM volume 3, chapter 18).

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, at } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectFault, type Fault, type Mode, type RunOptions } from './machine.ts';
import * as M from './map.ts';

const DB = 1;
const DR6_FIXED = 0xffff0ff0;
const BS = 0x4000;
const BD = 0x2000;
const TF = 0x100n;
const RF = 0x10000;

const EXECUTE = 0;
const WRITE = 1;
const IO = 2;
const ACCESS = 3;

interface Point {
  readonly address: number | string;
  readonly kind: number;
  readonly length?: 1 | 2 | 4 | 8;
}

/** What a handler of #DB saw. */
interface Seen {
  readonly rip: number;
  /** Bits of DR6 that are not fixed. */
  readonly dr6: number;
  readonly rflags: number;
}

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { vcpu } = machine;

  /** Runs a program with breakpoints and collects every #DB until it is done. */
  function trace(program: (a: Assembler) => void, points: readonly Point[], options: RunOptions = {}) {
    const seen: Seen[] = [];
    let dr7 = 0x400;
    const db: [bigint, bigint, bigint, bigint] = [0n, 0n, 0n, 0n];
    const outcome = machine.run(program, {
      ...options,
      start: () => {
        points.forEach(({ address, kind, length = 1 }, i) => {
          db[i] = BigInt(typeof address === 'string' ? machine.address(address) : address);
          const code = length === 8 ? 2 : length - 1;
          dr7 |= (2 << (2 * i)) | (kind << (16 + 4 * i)) | (code << (18 + 4 * i));
        });
        vcpu.setDebugRegs({ db, dr6: 0xffff0ff0n, dr7: BigInt(dr7) });
        options.start?.();
      },
      onFault: (fault: Fault) => {
        if (fault.vector !== DB) return options.onFault?.(fault) ?? false;
        const regs = vcpu.getDebugRegs();
        assert.equal(Number(regs.dr6) & DR6_FIXED, DR6_FIXED | 0);
        seen.push({ rip: fault.rip, dr6: Number(regs.dr6) & 0xe00f, rflags: fault.rflags });
        vcpu.setDebugRegs({ ...regs, dr6: 0xffff0ff0n });
        return options.onFault?.(fault) ?? true;
      },
    });
    return { outcome, seen };
  }
  const places = (seen: readonly Seen[]): [string, number][] =>
    seen.map(({ rip, dr6 }) => [
      [...machine.labels].find(([, address]) => address === rip)?.[0] ?? `0x${rip.toString(16)}`,
      dr6,
    ]);

  // ---- Single step -------------------------------------------------------------------------------------------------------
  test(`${hypervisor.name}: TF traps after each instruction, in every mode`, () => {
    for (const mode of ['long', 'compat', 'protected32', 'protected16', 'real'] as Mode[]) {
      const { outcome, seen } = trace(
        (a) => {
          a.mov('bl', 1);
          a.label('one');
          a.add('bl', 'bl');
          a.label('two');
          a.jmpShort('three');
          a.nop();
          a.label('three');
          a.mov('al', 'bl');
          a.label('four');
          done(a);
          a.label('five');
        },
        [],
        { mode, rflags: 2n | TF },
      );
      expectDone(outcome, 2);
      const expected = ['one', 'two', 'three', 'four'].map((label) => [label, BS]);
      assert.deepEqual(places(seen).slice(0, 4), expected, mode);
    }
  });

  test(`${hypervisor.name}: POPF and IRET set TF from the next instruction on; the handler runs without it`, () => {
    const { outcome, seen } = trace((a) => {
      a.pushf();
      a.or(at('rsp', 0, 4), 0x100);
      a.popf();
      a.label('first');
      a.nop();
      a.label('second');
      a.pushf();
      a.label('third');
      a.and(at('rsp', 0, 4), ~0x100);
      a.label('fourth');
      a.popf();
      a.label('fifth');
      a.nop();
      done(a);
    }, []);
    expectDone(outcome);
    // POPF that clears TF is itself still stepped: the trap is decided when it begins.
    assert.deepEqual(
      places(seen),
      ['second', 'third', 'fourth', 'fifth'].map((label) => [label, BS]),
    );
    for (const { rflags } of seen.slice(0, 3)) assert.equal(rflags & 0x100, 0x100);
  });

  test(`${hypervisor.name}: TF: INT n and exceptions clear it, MOV SS holds the trap back`, () => {
    const { seen } = trace(
      (a) => {
        a.mov('ecx', 'ss');
        a.label('one');
        a.mov('ss', 'cx');
        a.label('two');
        a.nop();
        a.label('three');
        a.int(0x40);
        a.label('four');
        a.nop();
        a.label('five');
        done(a);
      },
      [],
      { rflags: 2n | TF, onFault: ({ vector }) => vector === DB || vector === 0x40 },
    );
    // After INT the handler returns to `four` with TF in the frame: the next trap is after the instruction there.
    assert.deepEqual(
      places(seen).slice(0, 4),
      [
        ['one', BS],
        ['three', BS],
        ['five', BS],
      ].slice(0, places(seen).length),
    );
    assert.ok(seen.length >= 3);
  });

  test(`${hypervisor.name}: TF: a repeated string instruction traps after each iteration`, () => {
    const { outcome, seen } = trace((a) => {
      a.mov('ecx', 3);
      a.mov('edi', M.DATA);
      a.mov('ebx', 0x102);
      a.push('rbx');
      a.popf();
      a.label('rep');
      a.repStosb();
      a.label('behind');
      done(a);
    }, []);
    expectDone(outcome);
    assert.deepEqual(places(seen).slice(0, 3), [
      ['rep', BS],
      ['rep', BS],
      ['behind', BS],
    ]);
  });

  test(`${hypervisor.name}: TF: a fault comes instead of the trap; SYSCALL masks TF by SFMASK`, () => {
    const { outcome, seen } = trace((a) => a.ud2(), [], { rflags: 2n | TF });
    expectFault(outcome, 6);
    assert.deepEqual(seen, []);
    const call = trace(
      (a) => {
        a.syscall();
        a.label('next');
        a.nop();
        a.label('last');
        done(a);
        a.label('kernel');
        a.nop();
        a.sysret();
      },
      [],
      {
        cpl: 3,
        rflags: 0x3002n | TF,
        before: (_, m) => {
          vcpu.setMsr(0xc0000081, (BigInt(M.SYSRET_CODE32) << 48n) | (BigInt(M.CODE64) << 32n));
          vcpu.setMsr(0xc0000082, BigInt(m.address('kernel')));
          vcpu.setMsr(0xc0000084, 0x100n);
        },
      },
    );
    expectDone(call.outcome);
    // SYSRET loads TF; the instruction behind it is the first to be stepped.
    assert.deepEqual(places(call.seen)[0], ['last', BS]);
  });

  // ---- Breakpoints -------------------------------------------------------------------------------------------------------
  test(`${hypervisor.name}: execution breakpoints are faults before the instruction, and RF in the frame passes them`, () => {
    const { outcome, seen } = trace(
      (a) => {
        a.xor('ebx', 'ebx');
        a.label('one');
        a.inc('ebx');
        a.label('two');
        a.inc('ebx');
        a.mov('al', 'bl');
        done(a);
      },
      [
        { address: 'two', kind: EXECUTE },
        { address: 'one', kind: EXECUTE },
      ],
      {
        onFault: ({ frame }) => {
          // What a debugger does: RF in the frame's flags, or the fault comes again.
          const flags = frame + 16;
          machine.memory.writeU64(flags, machine.memory.readU64(flags) | BigInt(RF));
          return true;
        },
      },
    );
    expectDone(outcome, 2);
    assert.deepEqual(places(seen), [
      ['one', 2],
      ['two', 1],
    ]);
  });

  test(`${hypervisor.name}: data breakpoints trap after the access: kinds, lengths, overlap`, () => {
    const program = (a: Assembler): void => {
      a.mov('ebx', M.DATA);
      a.mov('al', at('rbx', 4));
      a.label('read');
      a.mov(at('rbx', 4), 'al');
      a.label('written');
      a.add(at('rbx', 0, 4), 0);
      a.label('modified');
      a.mov(at('rbx', 8, 8), 1);
      a.label('behind');
      a.mov('rax', at('rbx', 1, 8));
      a.label('wide');
      done(a);
    };
    const four = { address: M.DATA + 4, length: 4 } as const;
    const cases: readonly [Point, [string, number][]][] = [
      [{ ...four, kind: WRITE }, [['written', 1]]],
      [
        { ...four, kind: ACCESS },
        [
          ['read', 1],
          ['written', 1],
          ['wide', 1],
        ],
      ],
      [
        { address: M.DATA + 3, kind: ACCESS },
        [
          ['modified', 1],
          ['wide', 1],
        ],
      ],
      [{ address: M.DATA + 3, kind: WRITE }, [['modified', 1]]],
      [{ address: M.DATA + 8, length: 8, kind: WRITE }, [['behind', 1]]],
      [
        { address: M.DATA + 8, length: 8, kind: ACCESS },
        [
          ['behind', 1],
          ['wide', 1],
        ],
      ],
      [{ address: M.DATA + 15, kind: WRITE }, [['behind', 1]]],
      [{ address: M.DATA + 16, kind: ACCESS }, []],
    ];
    for (const [point, expected] of cases) {
      const { outcome, seen } = trace(program, [point]);
      expectDone(outcome);
      assert.deepEqual(places(seen), expected, JSON.stringify(point));
    }
    const { seen } = trace(program, [
      { ...four, kind: WRITE },
      { ...four, kind: ACCESS },
      { address: M.DATA, kind: ACCESS },
      { address: M.DATA + 0x800, kind: ACCESS },
    ]);
    assert.deepEqual(places(seen), [
      ['read', 2],
      ['written', 3],
      ['modified', 4],
      ['wide', 2],
    ]);
  });

  test(`${hypervisor.name}: data breakpoints see PUSH, strings, and accesses across pages`, () => {
    const { outcome, seen } = trace(
      (a) => {
        a.push('rax');
        a.label('pushed');
        a.mov('edi', M.DATA + 0xff0);
        a.mov('ecx', 0x20);
        a.label('rep');
        a.repStosb();
        a.label('stored');
        a.mov('ebx', M.DATA + 0xffd);
        a.mov(at('rbx', 0, 8), 0);
        a.label('crossed');
        done(a);
      },
      [
        { address: M.STACK - 8, kind: WRITE, length: 8 },
        { address: M.DATA + 0x1004, kind: WRITE },
      ],
    );
    expectDone(outcome);
    // The trap of a repeated instruction comes after the iteration that hit: before the next one.
    assert.deepEqual(places(seen), [
      ['pushed', 1],
      ['rep', 2],
      ['crossed', 2],
    ]);
  });

  test(`${hypervisor.name}: a fault that wins over a data breakpoint leaves no trap behind`, () => {
    const { outcome, seen } = trace(
      (a) => {
        a.mov('ebx', M.DATA + 0xffe);
        a.mov(at('rbx', 0, 4), 0);
      },
      [{ address: M.DATA + 0xffe, kind: WRITE }],
      { before: (_, m) => m.page(M.DATA + 0x1000, 0) },
    );
    expectFault(outcome, 14, 2);
    assert.deepEqual(seen, []);
  });

  test(`${hypervisor.name}: I/O breakpoints with CR4.DE`, () => {
    const { seen } = trace(
      (a) => {
        a.mov('edx', 0x1200);
        a.in('al', 'dx');
        a.label('in');
        a.mov('edx', 0x1204);
        a.out('dx', 'al');
        a.label('out');
        done(a);
      },
      [
        { address: 0x1200, kind: IO, length: 4 },
        { address: 0x1204, kind: IO },
      ],
      { cr4: M.CR4_PAE | M.CR4_DE, on: ({ kind }) => kind === 'io-in' || kind === 'io-out' },
    );
    assert.deepEqual(places(seen), [
      ['in', 1],
      ['out', 2],
    ]);
  });

  test(`${hypervisor.name}: DR7.GD guards the debug registers; #DB clears it`, () => {
    const { outcome, seen } = trace((a) => {
      a.mov('rax', 0x2400);
      a.mov('dr7', 'rax');
      a.label('guarded');
      a.mov('rbx', 'dr0');
      a.mov('rcx', 'dr7');
      done(a);
    }, []);
    assert.equal(expectDone(outcome).rcx, 0x400n);
    assert.deepEqual(places(seen), [['guarded', BD]]);
    assert.equal((seen[0] as Seen).rflags & RF, RF, 'a fault');
  });

  test(`${hypervisor.name}: MOV to and from debug registers: fixed bits, aliases, privileges`, () => {
    const outcome = machine.run((a) => {
      a.mov('rax', 0xffffffff);
      a.mov('dr6', 'rax');
      a.mov('rbx', 'dr6');
      a.xor('eax', 'eax');
      a.mov('dr6', 'rax');
      a.mov('rcx', 'dr4');
      a.mov('dr5', 'rax');
      a.mov('rdx', 'dr7');
      a.mov('rax', 0x1122334455667788n);
      a.mov('dr3', 'rax');
      a.mov('rsi', 'dr3');
      done(a);
    });
    const { rbx, rcx, rdx, rsi } = expectDone(outcome);
    // Bits that stand for features that are not announced stay as they are fixed.
    assert.equal(rbx & 0xe00fn, 0xe00fn);
    assert.equal(rbx & 0xffff1ff0n, 0xffff0ff0n);
    assert.deepEqual([rcx, rdx, rsi], [0xffff0ff0n, 0x400n, 0x1122334455667788n]);
    for (const register of ['dr0', 'dr6', 'dr7']) {
      expectFault(
        machine.run((a) => a.mov('rax', register), { cpl: 3 }),
        13,
        0,
      );
    }
    for (const register of ['dr6', 'dr7']) {
      const high = machine.run((a) => {
        a.mov('rax', 1n << 32n);
        a.mov(register, 'rax');
      });
      expectFault(high, 13, 0);
    }
  });
}
