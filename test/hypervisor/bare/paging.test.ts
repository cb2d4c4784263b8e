// Page sizes, paging modes, accessed and dirty bits, and what the TLB may and must not keep.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { type Assembler, absolute, at } from '../../asm/assembler.ts';
import { hypervisors, testOn } from './hypervisors.ts';
import { BareMachine, done, expectDone, expectFault, type RunOptions } from './machine.ts';
import * as M from './map.ts';

const A_BIT = BigInt(M.A);
const D_BIT = BigInt(M.D);
const ALL = M.P | M.W | M.U;
const LONG_CR4 = M.CR4_PAE | M.CR4_OSFXSR | M.CR4_OSXMMEXCPT;
/** Free pages for tables of the test. */
const TABLE = 0x30000;
/** Two pages with different first bytes. */
const ONE = 0x24000;
const TWO = 0x25000;
const twoPages: NonNullable<RunOptions['before']> = (_, m) => {
  m.memory.writeU8(ONE, 1);
  m.memory.writeU8(TWO, 2);
  m.page(M.DATA, M.P | M.W, ONE);
};
/** Address of DATA's page-table entry. */
const DATA_ENTRY = M.PT + (M.DATA >>> 12) * 8;

/** The byte at DATA into a register; DATA's page becomes TWO; the byte again, after `flush`. BL and CL. */
function remaps(a: Assembler, flush: () => void, flags = M.P | M.W): void {
  a.mov('bl', absolute(M.DATA));
  a.mov(absolute(DATA_ENTRY, 4), TWO | flags);
  flush();
  a.mov('cl', absolute(M.DATA));
  done(a);
}

for (const hypervisor of hypervisors) {
  const test = testOn(hypervisor);
  const machine = new BareMachine(hypervisor);
  after(() => machine.close());
  const { memory } = machine;

  /** Remaps DATA and tells what was read before and after. */
  function remap(flush: (a: Assembler) => void, options: RunOptions = {}, flags?: number): [number, number] {
    const outcome = machine.run((a) => remaps(a, () => flush(a), flags), {
      ...options,
      before: (sregs, m) => {
        twoPages(sregs, m);
        options.before?.(sregs, m);
      },
    });
    const regs = expectDone(outcome);
    return [Number(regs.rbx & 0xffn), Number(regs.rcx & 0xffn)];
  }

  test(`${hypervisor.name}: accessed and dirty bits at every level`, () => {
    for (const [access, expected] of [
      ['read', A_BIT],
      ['write', A_BIT | D_BIT],
      ['both', A_BIT | D_BIT],
    ] as const) {
      expectDone(
        machine.run(
          (a) => {
            a.mov('rbx', 0x600000);
            if (access === 'read') a.mov('al', at('rbx'));
            else if (access === 'write') a.mov(at('rbx'), 'al');
            else a.add(at('rbx', 0, 4), 1);
            a.mov('al', absolute(M.DATA));
            done(a);
          },
          {
            // 6 MiB through a table of its own.
            before: (_, m) => {
              m.memory.writeU64(M.PD + 24, BigInt(TABLE | ALL));
              m.memory.writeU64(TABLE, BigInt(0x600000 | ALL));
              m.memory.writeU64(TABLE + 8, BigInt(0x601000 | ALL));
            },
          },
        ),
      );
      const both = A_BIT | D_BIT;
      assert.equal(memory.readU64(TABLE) & both, expected, access);
      assert.equal(memory.readU64(TABLE + 8) & both, 0n, 'a page not touched');
      assert.equal(memory.readU64(M.PD + 24) & both, A_BIT);
      assert.equal(memory.readU64(M.PDPT) & both, A_BIT);
      assert.equal(memory.readU64(M.PML4) & both, A_BIT);
      assert.equal(machine.pageEntry(M.DATA) & both, A_BIT);
      assert.equal(machine.pageEntry(M.CODE) & both, A_BIT, 'code is accessed');
      assert.equal(machine.pageEntry(M.STACK) & both, 0n);
    }
  });

  test(`${hypervisor.name}: the dirty bit comes with the first write, also after reads`, () => {
    machine.run((a) => {
      a.mov('al', absolute(M.DATA));
      a.mov('rbx', absolute(DATA_ENTRY));
      a.mov(absolute(M.DATA), 'al');
      a.mov('rcx', absolute(DATA_ENTRY));
      // Taken away by software, it comes back after INVLPG.
      a.and(absolute(DATA_ENTRY, 8), ~0x60);
      a.invlpg(absolute(M.DATA));
      a.mov(absolute(M.DATA), 'al');
      a.mov('rdx', absolute(DATA_ENTRY));
      done(a);
    });
    const { rbx, rcx, rdx } = machine.vcpu.getRegs();
    const both = A_BIT | D_BIT;
    assert.deepEqual([rbx & both, rcx & both, rdx & both], [A_BIT, both, both]);
  });

  test(`${hypervisor.name}: a fault sets the accessed bits of the tables, not the dirty bit of the page`, () => {
    const outcome = machine.run((a) => a.mov(absolute(M.DATA), 'al'), { before: (_, m) => m.page(M.DATA, M.P) });
    expectFault(outcome, 14, 3);
    assert.equal(machine.pageEntry(M.DATA) & D_BIT, 0n);
  });

  test(`${hypervisor.name}: pages of 2 MiB and 1 GiB`, () => {
    // 0x40000000 as 1 GiB to 0; 0x80000000 + 4 MiB as 2 MiB to 8 MiB.
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', 0x40000000 + 0xa12345);
        a.mov('rcx', 0x80000000 + 0x400000 + 0x12345);
        a.mov('al', at('rbx'));
        a.mov(at('rcx'), 'al');
        a.mov('rdx', absolute(M.PDPT + 8));
        a.mov('rsi', absolute(TABLE + 16));
        done(a);
      },
      {
        before: (_, m) => {
          m.memory.writeU8(0xa12345, 0x5a);
          m.memory.writeU64(M.PDPT + 8, BigInt(M.P | M.W | M.PS));
          m.memory.writeU64(M.PDPT + 16, BigInt(TABLE | ALL));
          m.memory.writeU64(TABLE + 16, BigInt(0x800000 | M.P | M.W | M.PS));
        },
      },
    );
    const { rdx, rsi } = expectDone(outcome, 0x5a);
    assert.equal(memory.readU8(0x812345), 0x5a);
    assert.equal(rdx & (A_BIT | D_BIT), A_BIT);
    assert.equal(rsi & (A_BIT | D_BIT), A_BIT | D_BIT);
    assert.equal(machine.vcpu.translate(0x40000000n + 0x123n), 0x123);
    assert.equal(machine.vcpu.translate(0x80400123n), 0x800123);
    assert.equal(machine.vcpu.translate(0x80600123n), undefined);
  });

  test(`${hypervisor.name}: 32-bit paging: 4 KiB and 4 MiB, PSE off and on`, () => {
    const tables: NonNullable<RunOptions['before']> = (sregs, m) => {
      sregs.cr0 |= M.CR0_PG | M.CR0_WP;
      m.memory.writeU32(M.PML4, M.PT | ALL);
      for (let i = 0; i < 1024; i++) m.memory.writeU32(M.PT + i * 4, (i << 12) | ALL);
      // 4 MiB at 0x800000 to 0xc00000; without PSE the same entry is a table at 0xc00000.
      m.memory.writeU32(M.PML4 + 8, 0xc00000 | ALL | M.PS);
      m.memory.writeU32(0xc00000, (ONE | M.P) >>> 0);
      m.memory.writeU32(ONE, 0x11223344);
    };
    const program = (a: Assembler): void => {
      a.mov('eax', absolute(0x800000));
      a.mov('ebx', absolute(M.PML4 + 8));
      done(a);
    };
    const small = machine.run(program, { mode: 'protected32', before: tables });
    assert.equal(expectDone(small).rax, 0x11223344n);
    const large = machine.run(program, { mode: 'protected32', before: tables, cr4: M.CR4_PSE });
    assert.equal(expectDone(large).rax, BigInt(ONE | M.P));
    assert.equal(large.regs.rbx & (A_BIT | D_BIT), A_BIT);
    // Bit 21 of a 4 MiB entry is reserved.
    const reserved = machine.run(program, {
      mode: 'protected32',
      cr4: M.CR4_PSE,
      before: (sregs, m) => {
        tables(sregs, m);
        m.memory.writeU32(M.PML4 + 8, 0xe00000 | ALL | M.PS);
      },
    });
    assert.equal(expectFault(reserved, 14, 9).cr2, 0x800000n);
  });

  test(`${hypervisor.name}: PAE paging: PDPTEs are loaded with CR3 and checked, pages are 4 KiB and 2 MiB, NX holds`, () => {
    const tables: NonNullable<RunOptions['before']> = (_, m) => {
      // PDPTEs at TABLE; the directory and table of long mode serve.
      m.memory.writeU64(TABLE, BigInt(M.PD | M.P));
      m.memory.writeU64(TABLE + 24, BigInt(M.PD | M.P));
      m.memory.writeU8(M.DATA, 7);
    };
    const enable = (a: Assembler): void => {
      a.mov('eax', 0x20);
      a.mov('cr4', 'eax');
      a.mov('ecx', 0xc0000080);
      a.mov('eax', 0x800);
      a.xor('edx', 'edx');
      a.wrmsr();
      a.mov('eax', TABLE);
      a.mov('cr3', 'eax');
      a.mov('eax', 'cr0');
      a.or('eax', 0x80010000);
      a.mov('cr0', 'eax');
    };
    const outcome = machine.run(
      (a) => {
        enable(a);
        a.mov('bl', absolute(M.DATA));
        a.mov('ebx', 0xc0000000 + M.DATA);
        a.add('bl', at('ebx'));
        a.mov('ebx', 0xc0a00000);
        a.mov(at('ebx', 0, 4), 0x1234);
        // A PDPTE changed in memory is not met before CR3 is written.
        a.mov(absolute(TABLE + 24, 4), 0);
        a.mov('ebx', 0xc0000000 + M.DATA);
        a.mov('al', at('ebx'));
        a.mov('ecx', 'cr3');
        a.mov('cr3', 'ecx');
        a.label('here');
        a.mov('al', at('ebx'));
      },
      { mode: 'protected32', before: tables },
    );
    const fault = expectFault(outcome, 14, 0);
    assert.equal(fault.rip, machine.address('here'));
    assert.equal(fault.cr2, BigInt(0xc0000000 + M.DATA));
    assert.equal(memory.readU32(0xa00000), 0x1234);
    // Reserved bits of a PDPTE are #GP at the load.
    const reserved = machine.run(enable, {
      mode: 'protected32',
      before: (sregs, m) => {
        tables(sregs, m);
        m.memory.writeU64(TABLE + 8, BigInt(M.PD | M.P | M.W));
      },
    });
    expectFault(reserved, 13, 0);
    // NX.
    const nx = machine.run(
      (a) => {
        enable(a);
        a.mov('eax', M.DATA);
        a.jmpRegister('eax');
      },
      {
        mode: 'protected32',
        before: (sregs, m) => {
          tables(sregs, m);
          m.page(M.DATA, BigInt(M.P) | M.NX);
        },
      },
    );
    assert.equal(expectFault(nx, 14, 0x11).cr2, BigInt(M.DATA));
  });

  test(`${hypervisor.name}: INVLPG, MOV to CR3, CR4 and CR0.WP make changed entries seen`, () => {
    assert.deepEqual(
      remap((a) => a.invlpg(absolute(M.DATA + 0x123))),
      [1, 2],
    );
    const viaCr3 = (a: Assembler): void => {
      a.mov('rax', 'cr3');
      a.mov('cr3', 'rax');
    };
    assert.deepEqual(remap(viaCr3), [1, 2]);
    const viaCr4 = (a: Assembler): void => {
      a.mov('rax', 'cr4');
      a.xor('rax', 0x80);
      a.mov('cr4', 'rax');
    };
    assert.deepEqual(remap(viaCr4), [1, 2]);
    // CR0.WP: the write that was allowed faults at once.
    const outcome = machine.run(
      (a) => {
        a.mov(absolute(M.DATA), 'al');
        a.mov('rax', 'cr0');
        a.or('rax', 0x10000);
        a.mov('cr0', 'rax');
        a.label('here');
        a.mov(absolute(M.DATA), 'al');
      },
      { before: (_, m) => m.page(M.DATA, M.P), cr0: M.CR0_PE | M.CR0_ET | M.CR0_NE | M.CR0_PG },
    );
    assert.equal(expectFault(outcome, 14, 3).rip, machine.address('here'));
  });

  test(`${hypervisor.name}: INVLPG of one page of a large one drops all of it`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('bl', absolute(0x400000));
        a.mov('bl', absolute(0x5ff000));
        a.mov(absolute(M.PD + 16, 4), 0x800000 | M.P | M.PS);
        a.invlpg(absolute(0x4aa000));
        a.mov('al', absolute(0x400000));
        a.shl('al', 4);
        a.or('al', absolute(0x5ff000));
        done(a);
      },
      {
        before: (_, m) => {
          m.memory.writeU8(0x400000, 1);
          m.memory.writeU8(0x5ff000, 1);
          m.memory.writeU8(0x800000, 3);
          m.memory.writeU8(0x9ff000, 4);
        },
      },
    );
    expectDone(outcome, 0x34);
  });

  test(`${hypervisor.name}: more rights than the TLB knows are seen without a flush`, () => {
    // A fault walks the tables again: nothing to invalidate where rights grow (SDM volume 3, 4.10.4.3).
    const outcome = machine.run(
      (a) => {
        a.mov('al', absolute(M.DATA));
        a.mov(absolute(DATA_ENTRY, 4), M.DATA | M.P | M.W);
        a.mov(absolute(M.DATA), 'al');
        done(a);
      },
      { before: (_, m) => m.page(M.DATA, M.P) },
    );
    expectDone(outcome);
  });

  test(`${hypervisor.name}: global pages need CR4.PGE changed, or INVLPG, or INVPCID`, () => {
    const global = M.P | M.W | M.G;
    const pge: RunOptions = {
      cr4: LONG_CR4 | M.CR4_PGE,
      before: (_, m) => m.page(M.DATA, global, ONE),
    };
    assert.deepEqual(
      remap((a) => a.invlpg(absolute(M.DATA)), pge, global),
      [1, 2],
    );
    const toggle = (a: Assembler): void => {
      a.mov('rax', 'cr4');
      a.xor('rax', 0x80);
      a.mov('cr4', 'rax');
      a.xor('rax', 0x80);
      a.mov('cr4', 'rax');
    };
    assert.deepEqual(remap(toggle, pge, global), [1, 2]);
    // A write of CR3 may keep it or not, but the old value is the one that processors keep: it must be one of the two.
    const [before, behind] = remap(
      (a) => {
        a.mov('rax', 'cr3');
        a.mov('cr3', 'rax');
      },
      pge,
      global,
    );
    assert.equal(before, 1);
    assert.ok(behind === 1 || behind === 2);
  });

  test(`${hypervisor.name}: INVPCID: each type, and its faults`, { skip: !hasInvpcid(machine) }, () => {
    const invpcid = (a: Assembler, type: number, pcid = 0n, linear = BigInt(M.DATA)): void => {
      a.mov('rax', pcid);
      a.mov(absolute(M.DATA + 0x2000), 'rax');
      a.mov('rax', linear);
      a.mov(absolute(M.DATA + 0x2008), 'rax');
      a.mov('rdx', BigInt.asUintN(64, BigInt(type)));
      a.label('here');
      a.db(0x66, 0x0f, 0x38, 0x82, 0x14, 0x25);
      a.dd(M.DATA + 0x2000);
    };
    for (const type of [0, 1, 2, 3]) {
      assert.deepEqual(
        remap((a) => invpcid(a, type)),
        [1, 2],
        `type ${type}`,
      );
    }
    const global: RunOptions = { cr4: LONG_CR4 | M.CR4_PGE, before: (_, m) => m.page(M.DATA, M.P | M.W | M.G, ONE) };
    assert.deepEqual(
      remap((a) => invpcid(a, 2), global, M.P | M.W | M.G),
      [1, 2],
      'type 2 drops global pages',
    );
    for (const [type, pcid, linear] of [
      [4, 0n, 0n],
      [0, 1n << 12n, 0n],
      [0, 0n, 1n << 47n],
      // With PCIDs off there is only PCID 0.
      [1, 1n, 0n],
    ] as const) {
      const outcome = machine.run((a) => invpcid(a, type, pcid, linear));
      assert.equal(expectFault(outcome, 13, 0).rip, machine.address('here'), `type ${type}`);
    }
    expectFault(
      machine.run((a) => invpcid(a, 2), { cpl: 3 }),
      13,
      0,
    );
  });

  test(`${hypervisor.name}: PCIDs: CR3 keeps its PCID, and translations of another are not used`, () => {
    const outcome = machine.run(
      (a) => {
        // PCID 1 with tables of its own, in which DATA is TWO.
        a.mov('bl', absolute(M.DATA));
        a.mov('rax', M.PML4 | 1);
        a.mov('cr3', 'rax');
        a.mov('rdx', 'cr3');
        a.mov(absolute(DATA_ENTRY, 4), TWO | M.P | M.W);
        a.invlpg(absolute(M.DATA));
        a.mov('cl', absolute(M.DATA));
        a.mov('rax', M.PML4 | 2);
        a.mov('cr3', 'rax');
        a.mov('al', absolute(M.DATA));
        done(a);
      },
      {
        cr4: LONG_CR4 | M.CR4_PCIDE,
        before: twoPages,
      },
    );
    const { rbx, rcx, rdx } = expectDone(outcome, 2);
    assert.deepEqual([rbx & 0xffn, rcx & 0xffn, rdx], [1n, 2n, BigInt(M.PML4 | 1)]);
  });

  test(`${hypervisor.name}: CR4.PCIDE and CR3: what is #GP`, () => {
    const pcide = (a: Assembler): void => {
      a.mov('rax', 'cr4');
      a.or('rax', 0x20000);
      a.mov('cr4', 'rax');
      done(a);
    };
    expectDone(machine.run(pcide));
    // A PCID in CR3 already.
    expectFault(
      machine.run(pcide, {
        before: (sregs) => {
          sregs.cr3 |= 8n;
        },
      }),
      13,
      0,
    );
    expectFault(
      machine.run(
        (a) => {
          a.mov('eax', 0x20020);
          a.mov('cr4', 'eax');
        },
        { mode: 'protected32' },
      ),
      13,
      0,
    );
    // Bits of CR3 beyond the physical address; bit 63 where there are no PCIDs.
    for (const bit of [52n, 63n]) {
      expectFault(
        machine.run((a) => {
          a.mov('rax', (1n << bit) | BigInt(M.PML4));
          a.mov('cr3', 'rax');
        }),
        13,
        0,
      );
    }
    // With PCIDs bit 63 asks to keep translations, and does not stay.
    const kept = machine.run(
      (a) => {
        a.mov('rax', (1n << 63n) | BigInt(M.PML4 | 3));
        a.mov('cr3', 'rax');
        a.mov('rbx', 'cr3');
        done(a);
      },
      { cr4: LONG_CR4 | M.CR4_PCIDE },
    );
    assert.equal(expectDone(kept).rbx, BigInt(M.PML4 | 3));
    // CR0.PG cannot be cleared with PCIDE set, nor in 64-bit mode.
    expectFault(
      machine.run(
        (a) => {
          a.mov('eax', 'cr0');
          a.and('eax', 0x7fffffff);
          a.mov('cr0', 'eax');
        },
        { mode: 'compat', cr4: LONG_CR4 | M.CR4_PCIDE },
      ),
      13,
      0,
    );
  });

  test(`${hypervisor.name}: a page aliased at two addresses is one page`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', M.DATA);
        a.mov('rcx', M.DATA + 0x1000);
        a.mov('al', at('rcx'));
        a.mov(at('rbx', 0, 1), 0x42);
        a.mov('al', at('rcx'));
        done(a);
      },
      {
        before: (_, m) => {
          m.page(M.DATA, ALL, ONE);
          m.page(M.DATA + 0x1000, ALL, ONE);
        },
      },
    );
    expectDone(outcome, 0x42);
  });

  test(`${hypervisor.name}: an access across two pages reads and writes both, wherever they are`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', M.DATA + 0xffd);
        a.mov('rax', at('rbx'));
        a.mov('rcx', 0x1122334455667788n);
        a.mov(at('rbx'), 'rcx');
        a.add(at('rbx', 0, 4), 0x01010101);
        done(a);
      },
      {
        before: (_, m) => {
          m.page(M.DATA, ALL, TWO);
          m.page(M.DATA + 0x1000, ALL, ONE);
          m.memory.write(TWO + 0xffd, Uint8Array.of(1, 2, 3));
          m.memory.write(ONE, Uint8Array.of(4, 5, 6, 7, 8));
        },
      },
    );
    assert.equal(expectDone(outcome).rax, 0x0807060504030201n);
    assert.deepEqual([...memory.read(TWO + 0xffd, 3)], [0x89, 0x78, 0x67]);
    assert.deepEqual([...memory.read(ONE, 5)], [0x56, 0x44, 0x33, 0x22, 0x11]);
  });

  test(`${hypervisor.name}: level 4 is indexed by bits 39 to 47, in both halves`, () => {
    const outcome = machine.run(
      (a) => {
        a.mov('rbx', -0x8000_0000_0000n + BigInt(M.DATA));
        a.mov('al', at('rbx'));
        done(a);
      },
      {
        before: (_, m) => {
          m.memory.writeU64(M.PML4 + 256 * 8, BigInt(M.PDPT | ALL));
          m.memory.writeU8(M.DATA, 0x77);
        },
      },
    );
    expectDone(outcome, 0x77);
    assert.equal(machine.vcpu.translate(0xffff_8000_0002_0000n), M.DATA);
    assert.equal(machine.vcpu.translate(0x8000_0000_0000n), undefined, 'not canonical');
  });
}

function hasInvpcid(machine: BareMachine): boolean {
  let ebx = 0n;
  const outcome = machine.run((a) => {
    a.mov('eax', 7);
    a.xor('ecx', 'ecx');
    a.cpuid();
    done(a);
  });
  ebx = outcome.regs.rbx;
  return (ebx & (1n << 10n)) !== 0n;
}
