import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { CODE0, CODE3, DATA0, DATA3, FREE, FREE2, GDT, IDT, LONG0, LONG3, Machine, PML4, TSS } from './machine.ts';

/** Raises an exception and delivers it. */
function deliver(m: Machine, vector: number, error?: number): string {
  if (error === undefined) m.call('raise', vector);
  else m.call('raise_error', vector, error);
  return m.outcome('deliver_exception');
}

describe('real mode', () => {
  test('pushes FLAGS, CS, IP and goes through the vector table', () => {
    const m = new Machine();
    m.write(6 * 4, 2, 0x1234);
    m.write(6 * 4 + 2, 2, 0x8000);
    m.segment(L.SEG_SS, 0x100, 0x1000n, 0xffff, 0x93);
    m.set64(L.RSP, 0x80n);
    m.set64(L.RIP, 0x77n);
    m.rflags = 0x347;
    assert.equal(deliver(m, 6), 'jump');
    assert.deepEqual(m.words(0x107a, 2, 3), ['77', 'f000', '347']);
    assert.equal(m.get64(L.RIP), 0x1234n);
    assert.equal(m.selector(L.SEG_CS), 0x8000);
    assert.equal(m.get64(L.SEG_CS + L.SEG_O_BASE), 0x80000n);
    assert.equal(m.rflags, 0x47, 'IF and TF are clear, arithmetic flags as before');
  });

  test('a vector beyond the limit ends in shutdown when the double fault has none either', () => {
    const m = new Machine();
    m.set32(L.IDTR_LIMIT, 3);
    assert.equal(deliver(m, 6), 'exit');
    assert.equal(m.get32(L.EXIT_REASON), L.EXIT_SHUTDOWN);
    assert.equal(m.get32(L.ACTIVITY), 3);
  });
});

describe('protected mode', () => {
  test('same level: an interrupt gate clears IF, a trap gate does not; RF is set in the image of a fault', () => {
    for (const [access, flags] of [
      [0x8e, 0x2],
      [0x8f, 0x202],
    ] as const) {
      const m = new Machine().protected();
      m.gate(IDT + 13 * 8, CODE0, 0x12345678n, access);
      m.rflags = 0x4302;
      assert.equal(deliver(m, 13, 0x50), 'jump');
      assert.deepEqual(m.words(0x9000 - 16, 4, 4), ['50', '5000', '8', '14302']);
      assert.equal(m.get64(L.RSP), 0x8ff0n);
      assert.equal(m.get64(L.RIP), 0x12345678n);
      assert.equal(m.rflags, flags);
    }
  });

  test('a 16-bit gate pushes words and enters at a 16-bit offset', () => {
    const m = new Machine().protected();
    m.gate(IDT + 13 * 8, CODE0, 0x12345678n, 0x86);
    assert.equal(deliver(m, 13, 0x50), 'jump');
    assert.deepEqual(m.words(0x9000 - 8, 2, 4), ['50', '5000', '8', '2']);
    assert.equal(m.get64(L.RIP), 0x5678n);
  });

  test('inner level: stack from the TSS, old one pushed', () => {
    const m = new Machine().protected(3);
    m.gate(IDT + 14 * 8, CODE0, 0x6000n, 0x8e);
    m.set64(L.EXC_ADDRESS, 0xdeadn);
    m.call('raise_error', 14, 4);
    m.set64(L.EXC_ADDRESS, 0xdeadn);
    assert.equal(m.outcome('deliver_exception'), 'jump');
    assert.deepEqual(m.words(0x8000 - 24, 4, 6), ['4', '5000', '1b', '10002', '7000', '23']);
    assert.equal(m.get64(L.CR2), 0xdeadn);
    assert.equal(m.cpl, 0);
    assert.equal(m.selector(L.SEG_SS), DATA0);
    assert.equal(m.selector(L.SEG_CS), CODE0);
    assert.equal(m.get32(L.MMU_MODE), L.MMU_KERNEL);
  });

  test('a conforming handler stays at the level of the interrupted code', () => {
    const m = new Machine().protected(3);
    m.descriptor(GDT + FREE, 0, 0xfffff, 0x9e, 0xc);
    m.gate(IDT + 6 * 8, FREE, 0x6000n, 0x8e);
    assert.equal(deliver(m, 6), 'jump');
    assert.equal(m.cpl, 3);
    assert.equal(m.selector(L.SEG_CS), FREE | 3);
    assert.equal(m.get64(L.RSP), 0x7000n - 12n);
    assert.equal(m.read(GDT + FREE + 5, 1), 0x9fn, 'accessed');
  });

  test('INT n: DPL of the gate, error code with the vector, return pointer after the instruction', () => {
    const m = new Machine().protected(3);
    m.gate(IDT + 0x80 * 8, CODE0, 0x6000n, 0x8e);
    assert.equal(m.outcome('int_n', 0x80), 'fault #13(0x402)');
    m.gate(IDT + 0x80 * 8, CODE0, 0x6000n, 0xee);
    assert.equal(m.outcome('int_n', 0x80), 'jump');
    assert.deepEqual(m.words(0x8000 - 20, 4, 5), ['5002', '1b', '2', '7000', '23']);
  });

  test('faults of INT n have EXT clear, those of an external interrupt have it set', () => {
    const cases: [string, (m: Machine) => void, string][] = [
      ['gate absent', (m) => m.gate(IDT + 0x80 * 8, CODE0, 0x6000n, 0x6e), '#11(0x402)'],
      ['not a gate', (m) => m.gate(IDT + 0x80 * 8, CODE0, 0x6000n, 0xe9), '#13(0x402)'],
      ['null code', (m) => m.gate(IDT + 0x80 * 8, 0, 0x6000n, 0xee), '#13(0x0)'],
      ['code outside of the GDT', (m) => m.gate(IDT + 0x80 * 8, 0x1000, 0x6000n, 0xee), '#13(0x1000)'],
      ['data for code', (m) => m.gate(IDT + 0x80 * 8, DATA0, 0x6000n, 0xee), '#13(0x10)'],
      [
        'code absent',
        (m) => {
          m.descriptor(GDT + FREE, 0, 0xfffff, 0x1b, 0xc);
          m.gate(IDT + 0x80 * 8, FREE, 0x6000n, 0xee);
        },
        '#11(0x60)',
      ],
      ['null stack', (m) => m.write(TSS + 8, 2, 0), '#10(0x0)'],
      ['stack of another level', (m) => m.write(TSS + 8, 2, DATA3 | 3), '#10(0x20)'],
      [
        'read-only stack',
        (m) => {
          m.descriptor(GDT + FREE2, 0, 0xfffff, 0x91, 0xc);
          m.write(TSS + 8, 2, FREE2);
        },
        '#10(0x70)',
      ],
      [
        'stack absent',
        (m) => {
          m.descriptor(GDT + FREE2, 0, 0xfffff, 0x13, 0xc);
          m.write(TSS + 8, 2, FREE2);
        },
        '#12(0x70)',
      ],
      [
        'stack too small',
        (m) => {
          m.descriptor(GDT + FREE2, 0, 0x7ff0, 0x93, 4);
          m.write(TSS + 8, 2, FREE2);
        },
        '#12(0x70)',
      ],
      ['TSS too small', (m) => m.set32(L.SEG_TR + L.SEG_O_LIMIT, 8), '#10(0x40)'],
      [
        'entry beyond the code segment',
        (m) => {
          m.descriptor(GDT + FREE, 0, 0x10, 0x9b, 4);
          m.gate(IDT + 0x80 * 8, FREE, 0x6000n, 0xee);
        },
        '#13(0x0)',
      ],
    ];
    for (const [name, prepare, expected] of cases) {
      const m = new Machine().protected(3);
      m.gate(IDT + 0x80 * 8, CODE0, 0x6000n, 0xee);
      prepare(m);
      assert.equal(m.outcome('int_n', 0x80), `fault ${expected}`, name);
      assert.equal(m.cpl, 3, name);
      assert.equal(m.get64(L.RSP), 0x7000n, name);
      // The same, met by an external interrupt, is delivered as an exception with EXT: to a handler for it.
      const vector = Number(/^#(\d+)/.exec(expected)?.[1]);
      const error = Number(/\((.*)\)/.exec(expected)?.[1]);
      m.descriptor(GDT + 0x90, 0, 0xfffff, 0x9e, 0xc);
      m.gate(IDT + vector * 8, 0x90, 0x6666n, 0x8e);
      assert.equal(m.outcome('deliver_interrupt', 0x80, 0), 'jump', name);
      assert.equal(m.get64(L.RIP), 0x6666n, name);
      assert.equal(m.read(0x7000 - 16, 4), BigInt(error | 1), name);
    }
  });

  test('INT3 and INTO check the DPL of the gate; INT1 does not', () => {
    const m = new Machine().protected(3);
    for (const vector of [1, 3, 4]) m.gate(IDT + vector * 8, CODE0, 0x6000n, 0x8e);
    assert.equal(m.outcome('int3'), 'fault #13(0x1a)');
    m.rflags = 0x802;
    assert.equal(m.outcome('into'), 'fault #13(0x22)');
    m.rflags = 2;
    assert.equal(m.outcome('into'), 'ok');
    assert.equal(m.outcome('int1'), 'jump');
  });

  test('#DB sets DR6, clears GD, and pushes RF as it is', () => {
    const m = new Machine().protected();
    m.gate(IDT + 8, CODE0, 0x6000n, 0x8e);
    m.set64(L.DR7, 0x2400n);
    m.set64(L.DR6, 0xffff0ff3n);
    m.call('raise', 1);
    m.set64(L.EXC_ADDRESS, 0x4004n);
    assert.equal(m.outcome('deliver_exception'), 'jump');
    assert.equal(m.get64(L.DR6), 0xffff4ff4n);
    assert.equal(m.get64(L.DR7), 0x400n);
    assert.equal(m.read(0x9000 - 4, 4), 2n);
  });
});

describe('double and triple faults', () => {
  /** A fault whose gate is absent, so that its delivery raises #NP; and handlers for the vectors given. */
  function machine(...handlers: number[]): Machine {
    const m = new Machine().protected();
    for (const vector of handlers) m.gate(IDT + vector * 8, CODE0, BigInt(0x6000 + vector), 0x8e);
    return m;
  }

  test('benign, then contributory: handled in turn', () => {
    const m = machine(11);
    m.gate(IDT + 6 * 8, CODE0, 0n, 0x0e);
    assert.equal(deliver(m, 6), 'jump');
    assert.equal(m.get64(L.RIP), 0x600bn);
    assert.equal(m.read(0x9000 - 16, 4), 0x33n);
  });

  test('contributory, then contributory: #DF with error code 0', () => {
    const m = machine(8, 11);
    m.gate(IDT + 13 * 8, CODE0, 0n, 0x0e);
    assert.equal(deliver(m, 13, 0), 'jump');
    assert.equal(m.get64(L.RIP), 0x6008n);
    assert.equal(m.read(0x9000 - 16, 4), 0n);
  });

  test('page fault, then contributory: #DF', () => {
    const m = machine(8, 11);
    m.gate(IDT + 14 * 8, CODE0, 0n, 0x0e);
    assert.equal(deliver(m, 14, 2), 'jump');
    assert.equal(m.get64(L.RIP), 0x6008n);
  });

  test('contributory, then page fault: the page fault', () => {
    const m = new Machine().long();
    m.gate64(IDT + 14 * 16, LONG0, 0x600en, 0x8e, 1);
    m.gate64(IDT + 13 * 16, LONG0, 0x600dn, 0x8e, 2);
    m.write(TSS + 36, 8, 0x8000);
    // The handler's stack is not mapped.
    m.write(TSS + 44, 8, 0x7f0000000000n);
    assert.equal(deliver(m, 13, 0), 'jump');
    assert.equal(m.get64(L.RIP), 0x600en);
    assert.equal(m.get64(L.CR2), 0x7efffffffff8n);
  });

  test('page fault, then page fault: #DF, with CR2 of the second', () => {
    const m = new Machine().long();
    m.gate64(IDT + 14 * 16, LONG0, 0x600en, 0x8e, 2);
    m.gate64(IDT + 8 * 16, LONG0, 0x6008n, 0x8e, 1);
    m.write(TSS + 36, 8, 0x8000);
    m.write(TSS + 44, 8, 0x7f0000000000n);
    assert.equal(deliver(m, 14, 2), 'jump');
    assert.equal(m.get64(L.RIP), 0x6008n);
    assert.equal(m.get64(L.CR2), 0x7efffffffff8n);
    assert.equal(m.get64(L.RSP), 0x8000n - 48n);
  });

  test('a fault of #DF: shutdown', () => {
    const m = machine();
    m.gate(IDT + 13 * 8, CODE0, 0n, 0x0e);
    assert.equal(deliver(m, 13, 0), 'exit');
    assert.equal(m.get32(L.EXIT_REASON), L.EXIT_SHUTDOWN);
    assert.equal(m.get64(L.RSP), 0x9000n);
  });
});

describe('64-bit mode', () => {
  test('same level: the stack is aligned and SS:RSP pushed always', () => {
    const m = new Machine().long();
    m.gate64(IDT + 13 * 16, LONG0, 0xffffffff81000000n, 0x8e);
    m.set64(L.RSP, 0x9008n);
    assert.equal(deliver(m, 13, 0x18), 'jump');
    assert.deepEqual(m.words(0x9000 - 48, 8, 6), ['18', '5000', '28', '10002', '9008', '10']);
    assert.equal(m.get64(L.RSP), 0x9000n - 48n);
    assert.equal(m.get64(L.RIP), 0xffffffff81000000n);
    assert.equal(m.selector(L.SEG_SS), DATA0);
  });

  test('from level 3: RSP0, null SS', () => {
    const m = new Machine().long(3);
    m.gate64(IDT + 0x80 * 16, LONG0, 0x6000n, 0xee);
    assert.equal(m.outcome('int_n', 0x80), 'jump');
    assert.deepEqual(m.words(0x8000 - 40, 8, 5), ['5002', '33', '2', '7000', '23']);
    assert.equal(m.selector(L.SEG_SS), 0);
    assert.equal(m.attr(L.SEG_SS) & L.ATTR_UNUSABLE, L.ATTR_UNUSABLE);
    assert.equal(m.cpl, 0);
    assert.equal(m.get32(L.MODE) & L.MODE_CODE_MASK, L.MODE_CODE64);
    assert.equal(m.get32(L.TLB_BASE), L.TLB);
  });

  test('an interrupt stack is used whatever the level', () => {
    const m = new Machine().long();
    m.gate64(IDT + 2 * 16, LONG0, 0x6000n, 0x8e, 3);
    m.write(TSS + 36 + 16, 8, 0xa00f);
    assert.equal(m.outcome('deliver_interrupt', 2, 1), 'jump');
    assert.equal(m.get64(L.RSP), 0xa000n - 40n);
    assert.equal(m.get32(L.NMI_BLOCKED), 1);
  });

  test('wrong gates, code segments and stacks', () => {
    const cases: [string, (m: Machine) => void, string][] = [
      ['16-bit gate', (m) => m.gate64(IDT + 0x800, LONG0, 0n, 0xe6), '#13(0x402)'],
      ['task gate', (m) => m.gate64(IDT + 0x800, LONG0, 0n, 0xe5), '#13(0x402)'],
      ['32-bit code', (m) => m.gate64(IDT + 0x800, CODE0, 0n, 0xee), '#13(0x8)'],
      [
        'less privileged code',
        (m) => {
          m.level(0);
          m.gate64(IDT + 0x800, LONG3, 0n, 0xee);
        },
        '#13(0x30)',
      ],
      ['entry not canonical', (m) => m.gate64(IDT + 0x800, LONG0, 0x800000000000n, 0xee), '#13(0x0)'],
      ['stack not canonical', (m) => m.write(TSS + 4, 8, 0x800000000000n), '#12(0x0)'],
      [
        'TSS without the IST',
        (m) => {
          m.gate64(IDT + 0x800, LONG0, 0n, 0xee, 7);
          m.set32(L.SEG_TR + L.SEG_O_LIMIT, 90);
        },
        '#10(0x40)',
      ],
      ['beyond the IDT', (m) => m.set32(L.IDTR_LIMIT, 0x80e), '#13(0x402)'],
    ];
    for (const [name, prepare, expected] of cases) {
      const m = new Machine().long(3);
      m.gate64(IDT + 0x800, LONG0, 0x6000n, 0xee);
      prepare(m);
      assert.equal(m.outcome('int_n', 0x80), `fault ${expected}`, name);
    }
  });

  test('from compatibility mode: 64-bit frame', () => {
    const m = new Machine().long(3);
    m.level(3);
    m.gate64(IDT + 0x800, LONG0, 0x6000n, 0xee);
    assert.equal(m.outcome('int_n', 0x80), 'jump');
    assert.deepEqual(m.words(0x8000 - 40, 8, 5), ['5002', '1b', '2', '7000', '23']);
    assert.equal(m.get32(L.MODE) & L.MODE_CODE_MASK, L.MODE_CODE64);
  });

  test('delivery ends a halt and a shadow', () => {
    const m = new Machine().long();
    m.gate64(IDT + 0x20 * 16, LONG0, 0x6000n, 0x8e);
    m.set32(L.ACTIVITY, 1);
    m.set32(L.SHADOW, 1);
    assert.equal(m.outcome('deliver_interrupt', 0x20, 0), 'jump');
    assert.equal(m.get32(L.ACTIVITY), 0);
    assert.equal(m.get32(L.SHADOW), 0);
    assert.equal(m.get64(L.COUNT_INTERRUPTS), 1n);
  });

  test('a write-protected GDT page is written only where the accessed bit is clear', () => {
    const m = new Machine().long();
    // 4 KiB pages for the first 2 MiB, the GDT's read-only; CR0.WP.
    const table = PML4 + 0x3000;
    for (let i = 0; i < 512; i++) m.write(table + i * 8, 8, i * 0x1000 + (i === GDT >> 12 ? 5 : 7));
    m.write(PML4 + 0x2000, 8, table + 7);
    m.set64(L.CR0, 0x80010011n);
    m.call('tlb_flush', 1);
    assert.equal(m.outcome('load_segment', 3, DATA0), 'ok');
    m.descriptor(GDT + FREE, 0, 0xfffff, 0x92, 0xc);
    assert.equal(m.outcome('load_segment', 3, FREE), 'fault #14(0x3)');
    assert.equal(m.get64(L.EXC_ADDRESS), BigInt(GDT + FREE + 5));
    assert.equal(m.selector(L.SEG_DS), DATA0);
  });
});

describe('virtual-8086 mode', () => {
  test('an interrupt saves and clears the data segments', () => {
    const m = new Machine().v86(3);
    m.gate(IDT + 0x20 * 8, CODE0, 0x6000n, 0x8e);
    assert.equal(m.outcome('deliver_interrupt', 0x20, 0), 'jump');
    assert.deepEqual(m.words(0x8000 - 36, 4, 9), [
      '100',
      '2000',
      '23202',
      '200',
      '3000',
      '2200',
      '2100',
      '2300',
      '2400',
    ]);
    assert.equal(m.selector(L.SEG_DS), 0);
    assert.equal(m.cpl, 0);
    assert.equal(m.rflags & (L.FLAG_VM | L.FLAG_IF), 0);
  });

  test('a handler outside of level 0 is refused', () => {
    const m = new Machine().v86(3);
    m.gate(IDT + 0x20 * 8, CODE3 | 3, 0x6000n, 0xee);
    assert.equal(m.outcome('int_n', 0x20), 'fault #13(0x18)');
  });

  test('INT n needs IOPL 3', () => {
    const m = new Machine().v86(2);
    m.gate(IDT + 0x20 * 8, CODE0, 0x6000n, 0xee);
    assert.equal(m.outcome('int_n', 0x20), 'fault #13(0x0)');
    assert.equal(m.outcome('int3'), 'fault #13(0x1a)', 'INT3 goes to its gate');
  });

  test('the redirection map sends INT n to the program itself', () => {
    const m = new Machine().v86(2);
    m.set64(L.CR4, 1n);
    m.rflags = m.rflags | L.FLAG_VIF;
    m.write(0x20 * 4, 4, 0x45670123);
    assert.equal(m.outcome('int_n', 0x20), 'jump');
    assert.equal(m.get64(L.RIP), 0x123n);
    assert.equal(m.selector(L.SEG_CS), 0x4567);
    assert.deepEqual(m.words(0x30000 + 0x1fa, 2, 3), ['102', '2000', '3202']);
    assert.equal(m.rflags & L.FLAG_VIF, 0);
    assert.equal(m.rflags & L.FLAG_IF, L.FLAG_IF);
    // A set bit: #GP below IOPL 3.
    m.write(TSS + 0x88 - 32 + 4, 1, 1);
    assert.equal(m.outcome('int_n', 0x20), 'fault #13(0x0)');
  });
});
