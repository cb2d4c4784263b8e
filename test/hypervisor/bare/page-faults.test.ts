// Every cause of a page fault and its error code, with CR2; pages that must not fault.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute, at } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectFault, type RunOptions } from './machine.ts';
import * as M from './map.ts';

const PRESENT = 1;
const WRITE = 2;
const USER = 4;
const RESERVED = 8;
const FETCH = 16;

const LONG_CR4 = M.CR4_PAE | M.CR4_OSFXSR | M.CR4_OSXMMEXCPT;
const PF = 14;

/** Reads, writes or runs what is at `address`. */
const read = (address: number) => (a: Assembler) => {
  a.mov('rbx', address);
  a.label('here');
  a.mov('al', at('rbx'));
  done(a);
};
const write = (address: number) => (a: Assembler) => {
  a.mov('rbx', address);
  a.label('here');
  a.mov(at('rbx'), 'cl');
  done(a);
};
const modify = (address: number) => (a: Assembler) => {
  a.mov('rbx', address);
  a.label('here');
  a.add(at('rbx', 0, 4), 1);
  done(a);
};
const execute = (address: number) => (a: Assembler) => {
  a.mov('rbx', address);
  a.jmpRegister('rbx');
};

/** Flags of the data page, more changes. */
const page =
  (flags: number | bigint, more?: RunOptions['before']): NonNullable<RunOptions['before']> =>
  (sregs, machine) => {
    machine.page(M.DATA, flags);
    more?.(sregs, machine);
  };

interface Case {
  readonly name: string;
  readonly program: (a: Assembler) => void;
  readonly options?: RunOptions;
  /** Absent: nothing faults. */
  readonly error?: number;
  readonly address?: number;
}

const user = { cpl: 3, rflags: 0x3002n } as const;
const SMEP = LONG_CR4 | M.CR4_SMEP;
const SMAP = LONG_CR4 | M.CR4_SMAP;
const noWriteProtect = M.CR0_PE | M.CR0_ET | M.CR0_NE | M.CR0_MP | M.CR0_PG;
const noExecuteDisable = M.EFER_LME | M.EFER_LMA | M.EFER_SCE;
/** What SYSTEM code runs on must be the supervisor's, where SMEP and SMAP are on. */
const codeIsSystem: NonNullable<RunOptions['before']> = (_, machine) => {
  for (const start of [M.CODE, M.STACK - 0x1000, M.STACK, M.HANDLERS, M.HANDLERS + 0x1000, M.GDT, M.IDT, M.TSS])
    machine.page(start, M.P | M.W);
  for (const start of [M.TSS + 0x1000, M.TSS + 0x2000, M.STACK0 - 0x1000]) machine.page(start, M.P | M.W);
};

const CASES: readonly Case[] = [
  { name: 'read, not present', program: read(M.DATA), options: { before: page(0) }, error: 0 },
  { name: 'write, not present', program: write(M.DATA), options: { before: page(0) }, error: WRITE },
  { name: 'read and write, not present', program: modify(M.DATA), options: { before: page(0) }, error: WRITE },
  {
    name: 'read at level 3, not present',
    program: read(M.DATA),
    options: { ...user, before: page(M.U | M.W) },
    error: USER,
  },
  {
    name: 'write at level 3, not present',
    program: write(M.DATA),
    options: { ...user, before: page(0) },
    error: USER | WRITE,
  },
  { name: 'fetch, not present', program: execute(M.DATA), options: { before: page(0) }, error: FETCH },
  {
    name: 'fetch, not present, neither NXE nor SMEP',
    program: execute(M.DATA),
    options: { before: page(0), efer: noExecuteDisable },
    error: 0,
  },
  {
    name: 'fetch, not present, SMEP without NXE',
    program: execute(M.DATA),
    options: {
      before: (s, m) =>
        [page(0), codeIsSystem].forEach((f) => {
          f(s, m);
        }),
      efer: noExecuteDisable,
      cr4: SMEP,
    },
    error: FETCH,
  },
  {
    name: 'write to a read-only page with CR0.WP',
    program: write(M.DATA),
    options: { before: page(M.P | M.U) },
    error: PRESENT | WRITE,
  },
  {
    name: 'read and write of a read-only page',
    program: modify(M.DATA),
    options: { before: page(M.P) },
    error: PRESENT | WRITE,
  },
  {
    name: 'write to a read-only page without CR0.WP',
    program: write(M.DATA),
    options: { before: page(M.P | M.U), cr0: noWriteProtect },
  },
  {
    name: 'write to a read-only page at level 3, without CR0.WP',
    program: write(M.DATA),
    options: { ...user, before: page(M.P | M.U), cr0: noWriteProtect },
    error: PRESENT | WRITE | USER,
  },
  {
    name: "read of the supervisor's page at level 3",
    program: read(M.DATA),
    options: { ...user, before: page(M.P | M.W) },
    error: PRESENT | USER,
  },
  {
    name: "write to the supervisor's page at level 3",
    program: write(M.DATA),
    options: { ...user, before: page(M.P | M.W) },
    error: PRESENT | USER | WRITE,
  },
  {
    name: "fetch from the supervisor's page at level 3",
    program: execute(M.DATA),
    options: { ...user, before: page(M.P | M.W) },
    error: PRESENT | USER | FETCH,
  },
  {
    name: 'fetch from a page with NX',
    program: execute(M.DATA),
    options: { before: page(BigInt(M.P | M.W) | M.NX) },
    error: PRESENT | FETCH,
  },
  {
    name: 'fetch from a page with NX at level 3',
    program: execute(M.DATA),
    options: { ...user, before: page(BigInt(M.P | M.W | M.U) | M.NX) },
    error: PRESENT | FETCH | USER,
  },
  { name: 'read of a page with NX', program: read(M.DATA), options: { before: page(BigInt(M.P) | M.NX) } },
  {
    name: 'NX without EFER.NXE is reserved',
    program: read(M.DATA),
    options: { before: page(BigInt(M.P | M.W) | M.NX), efer: noExecuteDisable },
    error: PRESENT | RESERVED,
  },
  {
    name: 'write, a physical address beyond the processor',
    program: write(M.DATA),
    options: { before: page(BigInt(M.P | M.W) | (1n << 51n)) },
    error: PRESENT | RESERVED | WRITE,
  },
  {
    name: 'ignored bits of an entry',
    program: write(M.DATA),
    options: { before: page(BigInt(M.P | M.W | 0xe00) | (0x7ffn << 52n)) },
  },
  {
    name: 'a large page that is not aligned',
    program: read(0x400000),
    options: { before: (_, m) => m.memory.writeU64(M.PD + 16, 0x402083n) },
    error: PRESENT | RESERVED,
    address: 0x400000,
  },
  {
    name: 'the PS bit in the fourth level',
    program: read(0x80_0000_0000),
    options: { before: (_, m) => m.memory.writeU64(M.PML4 + 8, BigInt(M.PDPT | M.P | M.W | M.PS)) },
    error: PRESENT | RESERVED,
    address: 0x80_0000_0000,
  },
  {
    name: 'the read-only bit of a table above, NX of another',
    program: write(0x400000),
    options: { before: (_, m) => m.memory.writeU64(M.PD + 16, BigInt(0x400000 | M.P | M.PS)) },
    error: PRESENT | WRITE,
    address: 0x400000,
  },
  {
    name: 'NX in a directory entry',
    program: execute(0x400000),
    options: { before: (_, m) => m.memory.writeU64(M.PD + 16, BigInt(0x400000 | M.P | M.PS) | M.NX) },
    error: PRESENT | FETCH,
    address: 0x400000,
  },
  {
    name: 'SMEP: fetch from the user',
    program: execute(M.DATA),
    options: { before: codeIsSystem, cr4: SMEP },
    error: PRESENT | FETCH,
  },
  { name: 'SMEP: read from the user', program: read(M.DATA), options: { before: codeIsSystem, cr4: SMEP } },
  {
    name: 'SMAP: read from the user',
    program: read(M.DATA),
    options: { before: codeIsSystem, cr4: SMAP },
    error: PRESENT,
  },
  {
    name: 'SMAP: write to the user',
    program: write(M.DATA),
    options: { before: codeIsSystem, cr4: SMAP },
    error: PRESENT | WRITE,
  },
  {
    name: 'SMAP: RFLAGS.AC opens the user',
    program: write(M.DATA),
    options: { before: codeIsSystem, cr4: SMAP, rflags: 0x40002n },
  },
  {
    name: 'SMAP: STAC opens, CLAC closes',
    program: (a) => {
      a.mov('rbx', M.DATA);
      a.stac();
      a.mov('al', at('rbx'));
      a.mov(at('rbx'), 'al');
      a.clac();
      a.label('here');
      a.mov(at('rbx'), 'al');
    },
    options: { before: codeIsSystem, cr4: SMAP },
    error: PRESENT | WRITE,
  },
  {
    name: 'SMAP: nothing for level 3',
    program: write(M.DATA),
    options: { ...user, before: page(M.P | M.W | M.U), cr4: SMAP },
  },
];

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());

  for (const { name, program, options, error, address = M.DATA } of CASES) {
    test(`${hypervisor.name}: ${name}`, () => {
      const outcome = machine.run(program, options);
      if (error === undefined) {
        expectDone(outcome);
        return;
      }
      const fault = expectFault(outcome, PF, error);
      assert.equal(fault.cr2, BigInt(address));
      assert.equal(fault.rip, error & FETCH || !machine.labels.has('here') ? address : machine.address('here'));
    });
  }

  test(`${hypervisor.name}: levels above are read-only for all below`, () => {
    // PML4, PDPT, PD and PT take the right to write away, in turn.
    const entries = [M.PML4, M.PDPT, M.PD, M.PT + (M.DATA >>> 12) * 8];
    for (const entry of entries) {
      const outcome = machine.run(write(M.DATA), {
        ...user,
        before: (_, m) => m.memory.writeU64(entry, m.memory.readU64(entry) & ~BigInt(M.W)),
        // Level 0 must still push its frame.
        cr0: noWriteProtect,
      });
      assert.equal(expectFault(outcome, PF, PRESENT | WRITE | USER).cr2, BigInt(M.DATA));
    }
  });

  test(`${hypervisor.name}: a store across two pages faults on the one that is not there, and writes nothing`, () => {
    const next = M.DATA + 0x1000;
    for (const [size, register] of [
      [2, 'cx'],
      [4, 'ecx'],
      [8, 'rcx'],
    ] as const) {
      for (const [absent, offset] of [
        [M.DATA, 1],
        [next, 1],
        [next, size - 1],
      ] as const) {
        const start = next - offset;
        const outcome = machine.run(
          (a) => {
            a.mov('rcx', 0x1122334455667788n);
            a.mov('rbx', start);
            a.label('here');
            a.mov(at('rbx'), register);
          },
          {
            before: (_, m) => {
              m.page(absent, 0);
              m.memory.fill(M.DATA, 0x2000, 0xee);
            },
          },
        );
        const fault = expectFault(outcome, PF, WRITE);
        assert.equal(fault.cr2, BigInt(absent === M.DATA ? start : next), `${size} bytes at ${offset}`);
        assert.equal(fault.rip, machine.address('here'));
        for (let i = -8; i < 8; i++) assert.equal(machine.memory.readU8(next + i), 0xee);
      }
    }
  });

  test(`${hypervisor.name}: a read-modify-write across two pages, the second read-only`, () => {
    const start = M.DATA + 0xffe;
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', start);
        a.add(at('rbx', 0, 4), 1);
      },
      { before: (_, m) => m.page(M.DATA + 0x1000, M.P | M.U) },
    );
    assert.equal(expectFault(outcome, PF, PRESENT | WRITE).cr2, BigInt(M.DATA + 0x1000));
    assert.equal(machine.memory.readU32(start), 0);
  });

  test(`${hypervisor.name}: a mended fault starts the instruction again`, () => {
    let faults = 0;
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', M.DATA + 0xffc);
        a.mov('rcx', 0x1122334455667788n);
        a.mov(at('rbx'), 'rcx');
        a.push('rcx');
        a.pop('rax');
        done(a);
      },
      {
        before: (_, m) => {
          m.page(M.DATA, 0);
          m.page(M.DATA + 0x1000, M.P);
        },
        onFault: ({ vector, cr2 }) => {
          assert.equal(vector, PF);
          faults++;
          machine.page(Number(cr2) & ~0xfff, M.P | M.W);
          return true;
        },
      },
    );
    expectDone(outcome, 0x88);
    assert.equal(faults, 2);
    assert.equal(machine.memory.readU64(M.DATA + 0xffc), 0x1122334455667788n);
  });

  test(`${hypervisor.name}: REP MOVSB stops at the fault, with registers of the bytes done, and goes on`, () => {
    let seen: (bigint | number)[] = [];
    const outcome = machine.run(
      (a) => {
        a.mov('rsi', M.DATA + 0x4000);
        a.mov('rdi', M.DATA + 0xf00);
        a.mov('rcx', 0x300);
        a.cld();
        a.label('here');
        a.repMovsb();
        done(a);
      },
      {
        before: (_, m) => {
          m.page(M.DATA + 0x1000, 0);
          for (let i = 0; i < 0x300; i++) m.memory.writeU8(M.DATA + 0x4000 + i, i);
        },
        onFault: (fault) => {
          const { rsi, rdi, rcx } = machine.vcpu.getRegs();
          seen = [fault.vector, fault.error as number, fault.cr2, fault.rip, rsi, rdi, rcx];
          machine.page(M.DATA + 0x1000, M.P | M.W);
          return true;
        },
      },
    );
    expectDone(outcome);
    const next = BigInt(M.DATA + 0x1000);
    assert.deepEqual(seen, [PF, WRITE, next, machine.address('here'), BigInt(M.DATA + 0x4100), next, 0x200n]);
    for (let i = 0; i < 0x300; i++) assert.equal(machine.memory.readU8(M.DATA + 0xf00 + i), i & 0xff);
    assert.equal(outcome.regs.rcx, 0n);
  });

  test(`${hypervisor.name}: REP STOSQ downwards, and REPE CMPSB across a hole, are precise too`, () => {
    const down = machine.run(
      (a) => {
        a.std();
        a.mov('rdi', M.DATA + 0x1010);
        a.mov('rcx', 8);
        a.mov('rax', -1);
        a.db(0xf3, 0x48, 0xab);
      },
      { before: (_, m) => m.page(M.DATA, 0) },
    );
    assert.equal(expectFault(down, PF, WRITE).cr2, BigInt(M.DATA + 0xff8));
    assert.deepEqual([down.regs.rcx, down.regs.rdi], [5n, BigInt(M.DATA + 0xff8)]);
    // The flags at a fault are those from before the instruction.
    const compare = machine.run(
      (a) => {
        a.mov('rsi', M.DATA + 0xff8);
        a.mov('rdi', M.DATA + 0x4000);
        a.mov('rcx', 100);
        a.mov('al', 0x7f);
        a.add('al', 1);
        a.db(0xf3, 0xa6);
      },
      { before: (_, m) => m.page(M.DATA + 0x1000, 0) },
    );
    const fault = expectFault(compare, PF, 0);
    assert.equal(fault.cr2, BigInt(M.DATA + 0x1000));
    assert.deepEqual([compare.regs.rcx, compare.regs.rsi], [92n, BigInt(M.DATA + 0x1000)]);
    assert.equal(fault.rflags & 0x8d5, 0x890, 'OF, SF, AF of the addition');
  });

  test(`${hypervisor.name}: an instruction that crosses into a page that is not there`, () => {
    // MOV EBX, imm32 whose last two bytes are in the second page.
    const outcome = machine.run(
      (a) => {
        a.mov('rcx', M.DATA + 0xffd);
        a.jmpRegister('rcx');
      },
      {
        before: (_, m) => {
          m.memory.write(M.DATA + 0xffd, Uint8Array.of(0xbb, 1, 2, 3, 4, 0xf4));
          m.page(M.DATA + 0x1000, 0);
        },
      },
    );
    const fault = expectFault(outcome, PF, FETCH);
    assert.equal(fault.cr2, BigInt(M.DATA + 0x1000));
    assert.equal(fault.rip, M.DATA + 0xffd);
  });

  test(`${hypervisor.name}: reads of descriptor tables and stacks of level 0 are the supervisor's`, () => {
    // At level 3 with system pages: the GDT, IDT, TSS and level 0's stack are read and written.
    const outcome = machine.run((a) => a.int(0x80), {
      ...user,
      before: (_, m) => {
        for (const start of [M.GDT, M.IDT, M.TSS, M.STACK0 - 0x1000, M.HANDLERS]) m.page(start, M.P | M.W);
      },
    });
    expectFault(outcome, 0x80);
    // A GDT that is not there: the error code says that the access was the supervisor's.
    const absent = machine.run(
      (a) => {
        a.mov('eax', M.DATA32_3);
        a.mov('ds', 'ax');
      },
      {
        ...user,
        before: (sregs, m) => {
          sregs.gdt.base = BigInt(M.DATA);
          m.page(M.DATA, 0);
          // The handlers' code segment is looked up as well: the fault is met again, as a double fault and a shutdown.
        },
      },
    );
    assert.equal(absent.kind === 'exit' && absent.exit.kind, 'shutdown');
  });

  test(`${hypervisor.name}: 32-bit code sees CR2 and codes alike`, () => {
    for (const mode of ['compat', 'protected32'] as const) {
      const options: RunOptions = {
        mode,
        before: (sregs, m) => {
          if (mode === 'protected32') legacyPaging(m);
          if (mode === 'protected32') sregs.cr0 |= M.CR0_PG | M.CR0_WP;
          m.memory.writeU32(M.PT + (M.DATA >>> 12) * (mode === 'compat' ? 8 : 4), M.DATA | M.P);
        },
      };
      const outcome = machine.run((a) => a.mov(absolute(M.DATA + 5), 'al'), options);
      assert.equal(expectFault(outcome, PF, PRESENT | WRITE).cr2, BigInt(M.DATA + 5), mode);
    }
  });
}

/** 32-bit paging of the first 4 MiB, by the same pages as the tables of long mode. */
function legacyPaging(machine: BareMachine): void {
  machine.memory.writeU32(M.PML4, M.PT | M.P | M.W | M.U);
  for (let i = 0; i < 1024; i++) machine.memory.writeU32(M.PT + i * 4, (i << 12) | M.P | M.W | M.U);
}
