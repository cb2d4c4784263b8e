// Every switch between modes, by the guest itself, and virtual-8086 mode.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute, at } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectExit, expectFault, LOW_CODE, type RunOptions } from './machine.ts';
import * as M from './map.ts';

/** Where a guest that starts in real mode keeps what it needs below 64 KiB. */
const SAVED = 0x7000;
/** CR3 for PAE paging without long mode. */
const PDPT = 0x30000;
const IA32_EFER = 0xc0000080;

const setControl = (a: Assembler, name: 'cr0' | 'cr4', set: number, clear = 0): void => {
  a.mov('eax', name);
  if (clear !== 0) a.and('eax', ~clear >>> 0);
  if (set !== 0) a.or('eax', set);
  a.mov(name, 'eax');
};
const setEfer = (a: Assembler, set: number, clear = 0): void => {
  a.mov('ecx', IA32_EFER);
  a.rdmsr();
  if (clear !== 0) a.and('eax', ~clear >>> 0);
  if (set !== 0) a.or('eax', set);
  a.wrmsr();
};
const loadData = (a: Assembler, selector: number): void => {
  a.mov('eax', selector);
  for (const segment of ['ds', 'es', 'ss', 'fs', 'gs']) a.mov(segment, 'ax');
};
/** The next value of the trail that a guest leaves. */
const leave = (a: Assembler, value: number): void => {
  a.inc('ebp');
  a.mov(at('ebp', SAVED, 1), value);
};

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { memory } = machine;
  const trail = (): number[] => {
    const values: number[] = [];
    for (let at = SAVED + 1; memory.readU8(at) !== 0; at++) values.push(memory.readU8(at));
    return values;
  };

  test(`${hypervisor.name}: real, 16-bit, 32-bit, PAE, long, compatibility, and all the way back`, () => {
    const outcome = machine.run(
      (a) => {
        // Real mode.
        a.xor('ebp', 'ebp');
        a.lgdt(absolute(SAVED + 0x100));
        leave(a, 1);
        setControl(a, 'cr0', 1);
        a.jmpFar(M.CODE16, 'protected16');

        a.label('protected16');
        a.mov('ax', M.DATA16);
        for (const segment of ['ds', 'es', 'ss']) a.mov(segment, 'ax');
        leave(a, 2);
        a.jmpFar(M.CODE32, 'protected32', 4);

        a.bits(32);
        a.label('protected32');
        loadData(a, M.DATA32);
        a.mov('esp', M.STACK);
        leave(a, 3);
        // PAE paging.
        setControl(a, 'cr4', 0x20);
        a.mov('eax', PDPT);
        a.mov('cr3', 'eax');
        setControl(a, 'cr0', 0x80000000);
        leave(a, 4);
        a.mov('ebx', 0xc0000000 + M.DATA);
        a.mov('al', at('ebx'));
        a.cmp('al', 0x99);
        a.jcc('ne', 'wrong');
        setControl(a, 'cr0', 0, 0x80000000);
        leave(a, 5);
        // Long mode: compatibility first.
        a.mov('eax', M.PML4);
        a.mov('cr3', 'eax');
        setEfer(a, 0x100);
        setControl(a, 'cr0', 0x80000000);
        leave(a, 6);
        a.mov('ecx', IA32_EFER);
        a.rdmsr();
        a.and('eax', 0x500);
        a.cmp('eax', 0x500);
        a.jcc('ne', 'wrong');
        a.jmpFar(M.CODE64, 'long');

        a.bits(64);
        a.label('long');
        leave(a, 7);
        // Upper halves are there; a REX prefix is one.
        a.mov('rax', 0x1122334455667788n);
        a.shr('rax', 32);
        a.cmp('eax', 0x11223344);
        a.jcc('ne', 'wrong');
        a.push('rax');
        a.lea('rbx', absolute(SAVED + 0x110));
        a.jmpFarMemory(at('rbx'), 4);

        a.bits(32);
        a.label('compat');
        leave(a, 8);
        // 0x48 is DEC EAX again.
        a.mov('eax', 5);
        a.db(0x48);
        a.cmp('eax', 4);
        a.jcc('ne', 'wrong');
        setControl(a, 'cr0', 0, 0x80000000);
        leave(a, 9);
        setEfer(a, 0, 0x100);
        setControl(a, 'cr4', 0, 0x20);
        a.jmpFar(M.CODE16, 'back16');

        a.bits(16);
        a.label('back16');
        a.mov('ax', M.DATA16);
        for (const segment of ['ds', 'es', 'ss', 'fs', 'gs']) a.mov(segment, 'ax');
        leave(a, 10);
        setControl(a, 'cr0', 0, 1);
        a.jmpFar(0, 'real');
        a.label('real');
        a.xor('ax', 'ax');
        for (const segment of ['ds', 'es', 'ss']) a.mov(segment, 'ax');
        leave(a, 11);
        a.mov('sp', 0x7000);
        a.int(0x21);
        a.label('wrong');
        a.out(M.PORT_DONE, 'al');
      },
      {
        mode: 'real',
        before: (_, m) => {
          m.memory.writeU16(SAVED + 0x100, M.GDT_LIMIT);
          m.memory.writeU32(SAVED + 0x102, M.GDT);
          m.memory.writeU64(PDPT, BigInt(M.PD | M.P));
          m.memory.writeU64(PDPT + 24, BigInt(M.PD | M.P));
          m.memory.writeU8(M.DATA, 0x99);
          m.memory.writeU32(SAVED + 0x110, m.address('compat'));
          m.memory.writeU16(SAVED + 0x114, M.CODE32);
        },
      },
    );
    assert.deepEqual(trail(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert.equal(expectFault(outcome, 0x21).cs, 0);
  });

  test(`${hypervisor.name}: what long mode refuses`, () => {
    const refused = (name: string, program: (a: Assembler) => void, options: RunOptions = {}): void => {
      const fault = expectFault(machine.run(program, options), 13, 0);
      assert.equal(fault.rip, machine.address('here'), name);
    };
    const writesEfer = (a: Assembler, value: number, high = 0): void => {
      a.mov('ecx', IA32_EFER);
      a.mov('eax', value);
      a.mov('edx', high);
      a.label('here');
      a.wrmsr();
    };
    refused('LME off with paging on', (a) => writesEfer(a, 0));
    refused('a reserved bit of EFER', (a) => writesEfer(a, 0x502));
    refused('a high bit of EFER', (a) => writesEfer(a, 0x501, 1));
    refused(
      'paging with LME and without PAE',
      (a) => {
        setEfer(a, 0x100);
        a.mov('eax', 'cr0');
        a.or('eax', 0x80000000);
        a.label('here');
        a.mov('cr0', 'eax');
      },
      { mode: 'protected32' },
    );
    refused('paging off in 64-bit mode', (a) => {
      a.mov('rax', 'cr0');
      a.mov('ecx', 0x7fffffff);
      a.db(0x48, 0x21, 0xc8); // AND RAX, RCX
      a.label('here');
      a.mov('cr0', 'rax');
    });
    refused('bits above 31 of CR0', (a) => {
      a.mov('rax', 1n << 32n);
      a.label('here');
      a.mov('cr0', 'rax');
    });
  });

  test(`${hypervisor.name}: a segment's hidden part outlives the switch to real mode`, () => {
    // "Unreal" mode: a 4 GiB limit stays until the segment is loaded in protected mode again.
    const outcome = machine.run(
      (a) => {
        a.lgdt(absolute(SAVED + 0x100));
        setControl(a, 'cr0', 1);
        a.mov('bx', M.DATA32);
        a.mov('ds', 'bx');
        setControl(a, 'cr0', 0, 1);
        a.mov('ebx', M.DATA);
        a.mov('al', at('ebx'));
        a.xor('bx', 'bx');
        a.mov('ds', 'bx');
        a.mov('ebx', M.DATA);
        a.add('al', at('ebx'));
        done(a);
      },
      {
        mode: 'real',
        before: (_, m) => {
          m.memory.writeU16(SAVED + 0x100, M.GDT_LIMIT);
          m.memory.writeU32(SAVED + 0x102, M.GDT);
          m.memory.writeU8(M.DATA, 0x21);
        },
      },
    );
    expectDone(outcome, 0x42);
  });

  test(`${hypervisor.name}: real mode: segments are paragraphs, IP wraps with its segment, INT and IRET keep flags`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('ax', 0x1234);
        a.mov('es', 'ax');
        a.mov('bx', 0x10);
        a.mov('cl', { base: 'bx', segment: 'es', disp: 5 });
        a.mov('al', 'cl');
        done(a);
      },
      { mode: 'real', before: (_, m) => m.memory.writeU8(0x12355, 0x5c) },
    );
    expectDone(outcome, 0x5c);
    // Far call and return to a segment.
    const far = machine.run(
      (a) => {
        a.callFar(0x2000, 0x10);
        done(a);
      },
      { mode: 'real', before: (_, m) => m.memory.write(0x20010, Uint8Array.of(0xb0, 0x33, 0xcb)) },
    );
    expectDone(far, 0x33);
    // A jump beyond 64 KiB by a 32-bit operand.
    const beyond = machine.run(
      (a) => {
        a.mov('eax', 0x12345);
        a.label('here');
        a.jmpRegister('eax');
      },
      { mode: 'real' },
    );
    assert.equal(expectFault(beyond, 13).rip, machine.address('here'));
  });

  test(`${hypervisor.name}: 64-bit mode ignores bases and limits, but for FS and GS`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('ebx', 8);
        a.mov('al', { base: 'rbx', disp: M.DATA, segment: 'ds' });
        a.add('al', { base: 'rbx', disp: 0, segment: 'gs' });
        a.add('al', { base: 'rbx', disp: 0, segment: 'fs' });
        done(a);
      },
      {
        before: (sregs, m) => {
          sregs.ds.base = 0x1000000n;
          sregs.ds.limit = 1;
          sregs.gs.base = BigInt(M.DATA + 0x100);
          sregs.gs.limit = 0;
          sregs.fs.base = BigInt.asUintN(64, BigInt(M.DATA) - 0x10n);
          m.memory.writeU8(M.DATA + 8, 1);
          m.memory.writeU8(M.DATA + 0x108, 2);
          m.memory.writeU8(M.DATA - 8, 4);
        },
      },
    );
    expectDone(outcome, 7);
  });

  test(`${hypervisor.name}: 32-bit addresses in 64-bit mode wrap, 32-bit results clear the upper half`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', 0x7_ffff_ffffn);
        a.mov('eax', at('ebx', M.DATA + 1));
        a.mov('rcx', -1);
        a.mov('ecx', 'ecx');
        done(a);
      },
      { before: (_, m) => m.memory.writeU32(M.DATA, 0x11223344) },
    );
    const { rax, rcx } = expectDone(outcome, 0x44);
    assert.deepEqual([rax, rcx], [0x11223344n, 0xffffffffn]);
  });

  // ---- Virtual-8086 mode -----------------------------------------------------------------------------------------------
  /** Enters virtual-8086 mode at 0x2000:0 by IRETD; RFLAGS of `flags` besides VM. */
  function v86(code: readonly number[], flags = 0, options: RunOptions = {}) {
    return machine.run(
      (a) => {
        a.mov('esp', M.STACK);
        // GS FS DS ES SS ESP EFLAGS CS EIP.
        for (const value of [0x2400, 0x2300, 0x2200, 0x2100, 0x2800, 0x1000, 0x20002 | flags, 0x2000, 0]) a.push(value);
        a.iret();
      },
      {
        ...options,
        mode: 'protected32',
        before: (sregs, m) => {
          m.memory.write(0x20000, Uint8Array.from(code));
          options.before?.(sregs, m);
        },
      },
    );
  }

  test(`${hypervisor.name}: virtual-8086 mode: entered by IRET, left by an interrupt, and entered again`, () => {
    let entries = 0;
    const outcome = v86(
      // MOV AX, ES; MOV BX, GS; MOV [0], AX; INT 0x30; MOV AL, 0x77; OUT 0xf4, AL.
      [0x8c, 0xc0, 0x8c, 0xeb, 0xa3, 0, 0, 0xcd, 0x30, 0xb0, 0x77, 0xe6, 0xf4],
      0x3000,
      {
        before: (_, m) => m.memory.fill(M.TSS + M.IO_BITMAP, 0x2000, 0),
        onFault: (fault) => {
          entries++;
          assert.equal(fault.vector, 0x30);
          assert.equal(fault.cs, 0x2000);
          assert.equal(fault.rip, 9);
          assert.equal(fault.rflags & 0x23000, 0x23000);
          const sregs = machine.vcpu.getSregs();
          assert.deepEqual([sregs.ds.selector, sregs.gs.selector, sregs.cs.selector], [0, 0, M.CODE32]);
          // ES DS FS GS above SS.
          const above = [28, 32, 36, 40].map((offset) => memory.readU32(fault.frame - 4 + offset - 4) & 0xffff);
          assert.deepEqual(above, [0x2100, 0x2200, 0x2300, 0x2400]);
          return true;
        },
      },
    );
    const { rax, rbx } = expectDone(outcome, 0x77);
    assert.equal(entries, 1);
    assert.equal(rbx & 0xffffn, 0x2400n);
    assert.equal(rax & 0xff00n, 0x2100n);
    assert.equal(memory.readU16(0x22000), 0x2100);
    const { cs, ss } = machine.vcpu.getSregs();
    assert.deepEqual([cs.base, cs.limit, cs.dpl, ss.base], [0x20000n, 0xffff, 3, 0x28000n]);
  });

  test(`${hypervisor.name}: virtual-8086 mode: IOPL below 3 makes CLI, STI, PUSHF, POPF, INT and IRET fault`, () => {
    for (const code of [[0xfa], [0xfb], [0x9c], [0x9d], [0xcd, 0x30], [0xcf]]) {
      const fault = expectFault(v86(code), 13, 0);
      assert.equal(fault.rip, 0);
      assert.equal(fault.rflags & 0x20000, 0x20000);
    }
    // Others do not look at IOPL.
    expectFault(v86([0xcc]), 3);
    expectFault(v86([0x0f, 0x0b]), 6);
    // Privileged ones fault at any.
    for (const code of [[0xf4], [0x0f, 0x20, 0xc0], [0x0f, 0x01, 0xf8 & 0x17], [0x0f, 0x06]]) {
      expectFault(v86(code, 0x3000), 13, 0);
    }
    // Protected mode's own instructions are not there.
    for (const code of [
      [0x0f, 0x00, 0xd8],
      [0x0f, 0x02, 0xc0],
      [0x63, 0xc0],
    ])
      expectFault(v86(code, 0x3000), 6);
  });

  test(`${hypervisor.name}: virtual-8086 mode: ports go by the bitmap whatever IOPL, limits are 64 KiB`, () => {
    expectFault(v86([0xb0, 1, 0xe6, 0xf4], 0x3000), 13, 0);
    const open: RunOptions = { before: (_, m) => m.memory.fill(M.TSS + M.IO_BITMAP + (M.PORT_DONE >> 3), 1, 0) };
    expectDone(v86([0xb0, 9, 0xe6, 0xf4], 0, open), 9);
    // MOV AX, [0xffff]; MOV SP, 1 and PUSHW.
    expectFault(v86([0xa1, 0xff, 0xff]), 13, 0);
    expectFault(v86([0xbc, 1, 0, 0x50]), 12, 0);
  });

  test(`${hypervisor.name}: virtual-8086 mode with paging: pages are the user's`, () => {
    const paged: RunOptions = {
      before: (sregs, m) => {
        sregs.cr0 |= M.CR0_PG;
        m.memory.writeU32(M.PML4, M.PT | M.P | M.W | M.U);
        for (let i = 0; i < 1024; i++) m.memory.writeU32(M.PT + i * 4, (i << 12) | M.P | M.W | M.U);
        m.memory.writeU32(M.PT + 0x22 * 4, 0x22000 | M.P | M.W);
      },
    };
    const fault = expectFault(v86([0xa3, 4, 0], 0, paged), 14, 7);
    assert.equal(fault.cr2, 0x22004n);
    assert.equal(fault.cs, 0x2000);
  });

  test(`${hypervisor.name}: virtual-8086 mode extensions: INT by the redirection map, VIF for IF, VIP`, () => {
    // CR4.VME; the redirection map's 32 bytes end where the I/O bitmap begins.
    const bitmap = 0x88;
    const vme: RunOptions = {
      cr4: M.CR4_VME,
      before: (_, m) => {
        m.memory.writeU16(M.TSS + 0x66, bitmap);
        m.memory.fill(M.TSS + bitmap - 32, 32, 0);
        m.memory.fill(M.TSS + bitmap, 0x1f00, 0);
        m.memory.writeU16(0x30 * 4, 0x40);
        m.memory.writeU16(0x30 * 4 + 2, 0x2000);
        // The program's own handler: MOV AL, 0x55; OUT 0xf4, AL.
        m.memory.write(0x20040, Uint8Array.of(0xb0, 0x55, 0xe6, 0xf4));
      },
    };
    const own = v86([0xfb, 0xcd, 0x30], 0, vme);
    expectDone(own, 0x55);
    // STI set VIF, the handler's entry cleared it; the image has IF for VIF and IOPL 3.
    assert.equal(own.regs.rflags & 0x80200n, 0n);
    const stack = 0x28000 + Number(own.regs.rsp & 0xffffn);
    assert.equal(memory.readU16(stack + 4) & 0x3200, 0x3200);
    // A set bit of the map: the monitor's, which at IOPL 0 is #GP.
    const monitor: RunOptions = {
      ...vme,
      before: (sregs, m) => {
        vme.before?.(sregs, m);
        m.memory.writeU8(M.TSS + bitmap - 32 + (0x30 >> 3), 1);
      },
    };
    expectFault(v86([0xcd, 0x30], 0, monitor), 13, 0);
    // STI with VIP pending is #GP.
    expectFault(v86([0xfb], 0x100000, vme), 13, 0);
  });

  test(`${hypervisor.name}: IRET to virtual-8086 mode needs level 0; POPF never sets VM`, () => {
    // At level 3 VM in the image is ignored.
    const outcome = machine.run(
      (a) => {
        a.push(0x20002 | 0x3000);
        a.popf();
        a.pushf();
        a.pop('eax');
        a.mov('ebx', 'eax');
        done(a);
      },
      { mode: 'protected32', rflags: 0x3002n },
    );
    assert.equal(expectDone(outcome).rbx & 0x20000n, 0n);
  });

  test(`${hypervisor.name}: INIT state: what a processor starts with is what setSregs restores`, () => {
    // A jump through the reset vector's segment: base 0xffff0000 with 16-bit code, where no memory is.
    const outcome = machine.run((a) => a.nop(), {
      mode: 'real',
      regs: { rip: 0xfff0n },
      before: (sregs) => {
        sregs.cs.base = 0xffff0000n;
        sregs.cs.selector = 0xf000;
      },
    });
    expectExit(outcome, 'internal-error');
    assert.equal(LOW_CODE, 0x7c00);
  });
}
