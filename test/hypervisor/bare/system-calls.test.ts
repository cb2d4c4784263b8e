// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, FSGSBASE; the I/O permission bitmap; CR4.UMIP.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectExit, expectFault, type RunOptions } from './machine.ts';
import * as M from './map.ts';

const STAR = 0xc0000081;
const LSTAR = 0xc0000082;
const SFMASK = 0xc0000084;
const FS_BASE = 0xc0000100;
const GS_BASE = 0xc0000101;
const KERNEL_GS_BASE = 0xc0000102;
const SYSENTER_CS = 0x174;
const SYSENTER_ESP = 0x175;
const SYSENTER_EIP = 0x176;
const NOT_CANONICAL = 1n << 47n;
const IOPL3 = 0x3002n;
const LONG_CR4 = M.CR4_PAE | M.CR4_OSFXSR;

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { memory, vcpu } = machine;
  const star = (): void => {
    vcpu.setMsr(STAR, (BigInt(M.SYSRET_CODE32) << 48n) | (BigInt(M.CODE64) << 32n));
    vcpu.setMsr(SFMASK, 0x300n);
    vcpu.setMsr(LSTAR, BigInt(machine.address('kernel')));
  };

  test(`${hypervisor.name}: SYSCALL and SYSRET: registers, selectors, flags`, () => {
    const outcome = machine.run(
      (a) => {
        a.syscall();
        a.label('next');
        a.mov('edi', 'cs');
        a.mov('esi', 'ss');
        a.pushf();
        a.pop('rdx');
        done(a);
        a.label('kernel');
        a.mov('rbx', 'rcx');
        a.mov('rax', 'r11');
        a.mov(absolute(M.DATA), 'rax');
        a.mov('eax', 'cs');
        a.mov(absolute(M.DATA + 8), 'rax');
        a.mov('eax', 'ss');
        a.mov(absolute(M.DATA + 16), 'rax');
        a.mov(absolute(M.DATA + 24), 'rsp');
        a.pushf();
        a.pop('rax');
        a.mov(absolute(M.DATA + 32), 'rax');
        a.sysret();
      },
      { cpl: 3, rflags: 0x3ac7n | 0x3000n, before: star, onFault: () => true },
    );
    const { rbx, rdi, rsi, rdx } = expectDone(outcome);
    const seen = Array.from({ length: 5 }, (_, i) => Number(memory.readU64(M.DATA + i * 8)));
    const next = BigInt(machine.address('next'));
    assert.equal(rbx, next);
    // TF makes no trap in the kernel (SFMASK), and R11 brings it back: see the debug tests.
    assert.deepEqual(seen, [0x3ac7, M.CODE64, M.CODE64 + 8, M.STACK3, 0x38c7]);
    assert.deepEqual([rdi, rsi], [BigInt(M.CODE64_3), BigInt(M.SYSRET_DATA)]);
    assert.equal(rdx & 0xfd5n, 0xac5n);
    const { cs, ss } = vcpu.getSregs();
    assert.deepEqual([cs.l, cs.db, cs.dpl, cs.limit, ss.dpl, ss.limit], [true, false, 3, 0xffffffff, 3, 0xffffffff]);
  });

  test(`${hypervisor.name}: SYSRET to compatibility mode cuts RCX; its faults are the kernel's`, () => {
    const back = (rcx: bigint, size: number, options: RunOptions = {}) =>
      machine.run(
        (a) => {
          a.mov('rcx', rcx === 0n ? BigInt(a.address('compat')) | (1n << 40n) : rcx);
          a.mov('r11', 0x3002);
          a.label('here');
          a.sysret(size);
          a.bits(32);
          a.label('compat');
          a.mov('eax', 'cs');
          done(a);
          a.label('kernel');
        },
        { ...options, before: star },
      );
    expectDone(back(0n, 4), M.SYSRET_CODE32);
    const fault = expectFault(back(NOT_CANONICAL, 8), 13, 0);
    assert.equal(fault.rip, machine.address('here'));
    assert.equal(fault.cs, M.CODE64, 'checked before the level changes');
    expectFault(back(0n, 8, { cpl: 3 }), 13, 0);
    const off: RunOptions = { efer: M.EFER_LME | M.EFER_LMA };
    expectFault(back(0n, 8, off), 6);
    expectFault(
      machine.run((a) => a.syscall(), off),
      6,
    );
    for (const mode of ['compat', 'protected32'] as const) {
      if (vendorIsAmd()) continue;
      expectFault(
        machine.run((a) => a.syscall(), { mode }),
        6,
      );
    }
  });
  const vendorIsAmd = (): boolean => hypervisor.supportedCpuid().find(({ leaf }) => leaf === 0)?.ecx === 0x444d4163;

  test(`${hypervisor.name}: SYSENTER and SYSEXIT in 32- and 64-bit code`, () => {
    for (const mode of ['protected32', 'long', 'compat'] as const) {
      // SYSEXIT takes its selectors from SYSENTER_CS: +16 and +24 for 32-bit code, +32 and +40 for 64-bit code.
      const base = M.FREE;
      const long = mode === 'long';
      const outcome = machine.run(
        (a) => {
          a.mov('ebx', 'esp');
          a.sysenter();
          a.label('outer');
          a.mov('eax', 'cs');
          a.mov('edx', 'ss');
          done(a);
          a.bits(mode === 'protected32' ? 32 : 64);
          a.label('kernel');
          a.mov('edi', 'cs');
          a.mov('esi', 'esp');
          a.pushf();
          a.pop(mode === 'protected32' ? 'ebp' : 'rbp');
          a.mov('edx', a.address('outer'));
          a.mov('ecx', M.STACK3 - 0x80);
          a.sysexit(long ? 8 : 4);
        },
        {
          mode,
          cpl: 3,
          rflags: IOPL3 | 0x200n,
          before: (_, m) => {
            const kernel = mode === 'protected32' ? 0xc : 0xa;
            m.descriptor(base, 0, 0xfffff, 0x9b, kernel);
            m.descriptor(base + 8, 0, 0xfffff, 0x93, 0xc);
            m.descriptor(base + 16, 0, 0xfffff, 0xfb, 0xc);
            m.descriptor(base + 24, 0, 0xfffff, 0xf3, 0xc);
            m.descriptor(base + 32, 0, 0xfffff, 0xfb, 0xa);
            m.descriptor(base + 40, 0, 0xfffff, 0xf3, 0xc);
            vcpu.setMsr(SYSENTER_CS, BigInt(base));
            vcpu.setMsr(SYSENTER_ESP, BigInt(M.STACK0 - 16));
            vcpu.setMsr(SYSENTER_EIP, BigInt(m.address('kernel')));
          },
        },
      );
      const { rdi, rsi, rdx, rbp, rsp } = expectDone(outcome, (base + (long ? 32 : 16)) | 3);
      assert.deepEqual([rdi, rsi], [BigInt(base), BigInt(M.STACK0 - 16)], mode);
      assert.equal(rdx & 0xffffn, BigInt((base + (long ? 40 : 24)) | 3));
      assert.equal(rsp, BigInt(M.STACK3 - 0x80));
      assert.equal(rbp & 0x200n, 0n, 'IF is cleared');
    }
  });

  test(`${hypervisor.name}: SYSENTER and SYSEXIT: faults`, () => {
    const none = { before: () => vcpu.setMsr(SYSENTER_CS, 0n) };
    for (const mode of ['long', 'protected32'] as const) {
      expectFault(
        machine.run((a) => a.sysenter(), { mode, ...none }),
        13,
        0,
      );
      expectFault(
        machine.run((a) => a.sysexit(4), { mode, ...none }),
        13,
        0,
      );
      const some = { before: () => vcpu.setMsr(SYSENTER_CS, BigInt(M.CODE32)) };
      expectFault(
        machine.run((a) => a.sysexit(4), { mode, cpl: 3, ...some }),
        13,
        0,
      );
    }
    expectFault(
      machine.run((a) => a.sysenter(), { mode: 'real' }),
      13,
    );
    const canonical = { before: () => vcpu.setMsr(SYSENTER_CS, BigInt(M.CODE32)) };
    for (const register of ['rcx', 'rdx']) {
      const outcome = machine.run((a) => {
        a.xor('ecx', 'ecx');
        a.xor('edx', 'edx');
        a.mov(register, NOT_CANONICAL);
        a.sysexit(8);
      }, canonical);
      expectFault(outcome, 13, 0);
    }
  });

  test(`${hypervisor.name}: SWAPGS, and the bases by MSR, by segment loads, by FSGSBASE`, () => {
    const before: RunOptions['before'] = () => {
      vcpu.setMsr(KERNEL_GS_BASE, 0xffff_8880_0000_0000n);
    };
    const swapped = machine.run(
      (a) => {
        a.mov('ecx', GS_BASE);
        a.mov('eax', 0x1000);
        a.xor('edx', 'edx');
        a.wrmsr();
        a.swapgs();
        a.rdmsr();
        a.mov('rbx', 'rax');
        a.shl('rdx', 32);
        a.or('rbx', 'rdx');
        a.mov('ecx', KERNEL_GS_BASE);
        a.rdmsr();
        done(a);
      },
      { before },
    );
    const { rax, rbx } = expectDone(swapped);
    assert.deepEqual([rax, rbx], [0x1000n, 0xffff_8880_0000_0000n]);
    assert.equal(vcpu.getSregs().gs.base, 0xffff_8880_0000_0000n);
    expectFault(
      machine.run((a) => a.swapgs(), { cpl: 3 }),
      13,
      0,
    );
    expectFault(
      machine.run((a) => a.swapgs(), { mode: 'compat' }),
      6,
    );
    // A segment load takes the descriptor's 32-bit base; a null selector, on Intel's processors, clears it.
    const loaded = machine.run(
      (a) => {
        a.mov('eax', M.FREE);
        a.mov('fs', 'ax');
        a.mov('rax', { base: 'rbx', disp: 0, segment: 'fs' });
        done(a);
      },
      {
        regs: { rbx: 0x10n },
        before: (_, m) => {
          vcpu.setMsr(FS_BASE, 0x7000_0000_0000n);
          m.descriptor(M.FREE, M.DATA, 0xfffff, 0x93, 0xc);
          m.memory.writeU64(M.DATA + 0x10, 0x5an);
        },
      },
    );
    expectDone(loaded, 0x5a);
    const bases = machine.run(
      (a) => {
        a.mov('rbx', 0x1234_5678_9abcn);
        a.db(0xf3, 0x48, 0x0f, 0xae, 0xd3); // WRFSBASE RBX
        a.db(0xf3, 0x0f, 0xae, 0xdb); // WRGSBASE EBX
        a.db(0xf3, 0x48, 0x0f, 0xae, 0xc1); // RDFSBASE RCX
        a.db(0xf3, 0x48, 0x0f, 0xae, 0xca); // RDGSBASE RDX
        done(a);
      },
      { cpl: 3, rflags: IOPL3, cr4: LONG_CR4 | M.CR4_FSGSBASE },
    );
    const values = expectDone(bases);
    assert.deepEqual([values.rcx, values.rdx], [0x1234_5678_9abcn, 0x5678_9abcn]);
    expectFault(
      machine.run((a) => a.db(0xf3, 0x48, 0x0f, 0xae, 0xc1)),
      6,
    );
    const wrong = machine.run(
      (a) => {
        a.mov('rbx', NOT_CANONICAL);
        a.db(0xf3, 0x48, 0x0f, 0xae, 0xd3);
      },
      { cr4: LONG_CR4 | M.CR4_FSGSBASE },
    );
    expectFault(wrong, 13, 0);
  });

  // ---- Ports -------------------------------------------------------------------------------------------------------------
  const PORT = 0x1237;
  /** Opens ports in the bitmap. */
  const open =
    (...ports: number[]): NonNullable<RunOptions['before']> =>
    (_, m) => {
      for (const port of [...ports, M.PORT_DONE]) {
        const at = M.TSS + M.IO_BITMAP + (port >> 3);
        m.memory.writeU8(at, m.memory.readU8(at) & ~(1 << (port & 7)));
      }
    };

  test(`${hypervisor.name}: the I/O bitmap lets level 3 through port by port, for every byte of the access`, () => {
    const access =
      (register: 'al' | 'ax' | 'eax') =>
      (a: Assembler): void => {
        a.mov('edx', PORT);
        a.label('here');
        a.in(register, 'dx');
        done(a);
      };
    for (const mode of ['long', 'compat', 'protected32'] as const) {
      for (const [register, size] of [
        ['al', 1],
        ['ax', 2],
        ['eax', 4],
      ] as const) {
        const ports = Array.from({ length: size }, (_, i) => PORT + i);
        const options = (...opened: number[]): RunOptions => ({ mode, cpl: 3, before: open(...opened) });
        const answer: RunOptions = {
          on: (exit) => {
            if (exit.kind !== 'io-in') return false;
            assert.deepEqual([exit.port, exit.data.length], [PORT, size]);
            exit.data.fill(0x42);
            return true;
          },
        };
        const { rax } = expectDone(machine.run(access(register), { ...options(...ports), ...answer }), 0x42);
        assert.equal(rax & ((1n << BigInt(8 * size)) - 1n), BigInt(`0x${'42'.repeat(size)}`));
        for (const closed of ports) {
          const outcome = machine.run(access(register), options(...ports.filter((port) => port !== closed)));
          assert.equal(expectFault(outcome, 13, 0).rip, machine.address('here'));
        }
      }
    }
  });

  test(`${hypervisor.name}: IOPL opens all ports; the TSS's limit closes; real mode and level 0 do not ask`, () => {
    const reads = (a: Assembler): void => {
      a.mov('edx', PORT);
      a.in('al', 'dx');
      done(a);
    };
    const on: RunOptions['on'] = ({ kind }) => kind === 'io-in';
    expectDone(machine.run(reads, { cpl: 3, rflags: IOPL3, on }), 0xff);
    expectDone(machine.run(reads, { on }), 0xff);
    expectDone(machine.run(reads, { mode: 'real', on }), 0xff);
    const short = (limit: number): RunOptions => ({
      cpl: 3,
      before: (sregs, m) => {
        open(PORT)(sregs, m);
        sregs.tr.limit = limit;
      },
    });
    // The byte after the port's must be within the limit as well.
    const last = M.IO_BITMAP + (PORT >> 3) + 1;
    expectFault(machine.run(reads, short(last - 1)), 13, 0);
    expectDone(machine.run(reads, { ...short(last), on }), 0xff);
    // The bitmap's offset beyond the limit: no port at all.
    expectFault(
      machine.run((a) => done(a), {
        cpl: 3,
        before: (sregs, m) => {
          open()(sregs, m);
          m.memory.writeU16(M.TSS + 0x66, 0xffff);
        },
      }),
      13,
      0,
    );
  });

  test(`${hypervisor.name}: OUTS and INS check the port before memory, REP INS keeps its registers at a fault`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('edx', PORT);
        a.mov('edi', M.DATA + 0xffe);
        a.mov('ecx', 4);
        a.cld();
        a.label('here');
        a.db(0xf3, 0x6c);
      },
      { before: (_, m) => m.page(M.DATA + 0x1000, 0), on: ({ kind }) => kind === 'io-in' },
    );
    const fault = expectFault(outcome, 14, 2);
    assert.equal(fault.cr2, BigInt(M.DATA + 0x1000));
    assert.equal(fault.rip, machine.address('here'));
    assert.deepEqual([outcome.regs.rcx, outcome.regs.rdi], [2n, BigInt(M.DATA + 0x1000)]);
    const closed = machine.run(
      (a) => {
        a.mov('edx', PORT);
        a.mov('esi', M.UNMAPPED);
        a.db(0x6e);
      },
      { cpl: 3 },
    );
    expectFault(closed, 13, 0);
    // OUTS hands its bytes out one by one.
    const bytes: number[] = [];
    expectDone(
      machine.run(
        (a) => {
          a.mov('edx', PORT);
          a.mov('esi', M.DATA);
          a.mov('ecx', 5);
          a.db(0xf3, 0x6e);
          done(a);
        },
        {
          before: (_, m) => m.memory.write(M.DATA, Uint8Array.of(1, 2, 3, 4, 5)),
          on: (exit) => {
            if (exit.kind === 'io-out') bytes.push(...exit.data);
            return exit.kind === 'io-out';
          },
        },
      ),
    );
    assert.deepEqual(bytes, [1, 2, 3, 4, 5]);
  });

  test(`${hypervisor.name}: CR4.UMIP bars SGDT, SIDT, SLDT, SMSW and STR at level 3 alone`, () => {
    const programs: readonly [string, (a: Assembler) => void][] = [
      ['sgdt', (a) => a.sgdt(absolute(M.DATA))],
      ['sidt', (a) => a.sidt(absolute(M.DATA))],
      ['sldt', (a) => a.db(0x0f, 0x00, 0xc0)],
      ['smsw', (a) => a.db(0x0f, 0x01, 0xe0)],
      ['str', (a) => a.db(0x0f, 0x00, 0xc8)],
    ];
    for (const [name, program] of programs) {
      const all = (a: Assembler): void => {
        program(a);
        done(a);
      };
      expectFault(machine.run(all, { cpl: 3, cr4: LONG_CR4 | M.CR4_UMIP }), 13, 0);
      expectDone(machine.run(all, { cpl: 3, rflags: IOPL3 }), undefined);
      expectDone(machine.run(all, { cr4: LONG_CR4 | M.CR4_UMIP }));
      assert.ok(name);
    }
    expectDone(
      machine.run((a) => {
        a.sgdt(absolute(M.DATA));
        a.sidt(absolute(M.DATA + 16));
        done(a);
      }),
    );
    assert.deepEqual(
      [memory.readU16(M.DATA), memory.readU64(M.DATA + 2), memory.readU16(M.DATA + 16), memory.readU64(M.DATA + 18)],
      [M.GDT_LIMIT, BigInt(M.GDT), 0xfff, BigInt(M.IDT)],
    );
  });

  test(`${hypervisor.name}: a device's registers: reads leave with the size asked for, writes with their bytes`, () => {
    const seen: string[] = [];
    const outcome = machine.run(
      (a) => {
        a.mov('ebx', M.DEVICE);
        a.mov('eax', { base: 'rbx', disp: 4 });
        a.mov({ base: 'rbx', disp: 8 }, 'ax');
        a.add({ base: 'rbx', disp: 12, size: 1 }, 1);
        a.mov('rcx', { base: 'rbx', disp: 16 });
        a.push({ base: 'rbx', disp: 24, size: 8 });
        a.pop('rdx');
        done(a);
      },
      {
        on: (exit) => {
          if (exit.kind !== 'mmio-read' && exit.kind !== 'mmio-write') return false;
          seen.push(`${exit.kind.slice(5)} ${(exit.address - M.DEVICE).toString()} ${exit.data.length}`);
          if (exit.kind === 'mmio-read') exit.data.fill(exit.address & 0xff);
          else seen.push(Buffer.from(exit.data).toString('hex'));
          return true;
        },
      },
    );
    const { rcx, rdx } = expectDone(outcome, 4);
    assert.deepEqual([rcx, rdx], [0x1010101010101010n, 0x1818181818181818n]);
    assert.deepEqual(seen, [
      'read 4 4',
      'write 8 2',
      '0404',
      'read 12 1',
      'write 12 1',
      '0d',
      'read 16 8',
      'read 24 8',
    ]);
  });

  test(`${hypervisor.name}: an exit that is not answered reads as an empty bus, and kick() comes back`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('ebx', M.DEVICE);
        a.mov('eax', { base: 'rbx', disp: 0 });
        a.label('loop');
        a.jmp('loop');
      },
      {
        on: ({ kind }) => {
          if (kind === 'mmio-read') machine.vm.kick(0);
          return kind === 'mmio-read';
        },
      },
    );
    expectExit(outcome, 'interrupted');
    assert.equal(outcome.regs.rax & 0xffffffffn, 0xffffffffn);
  });
}
