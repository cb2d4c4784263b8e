// Regions that reach over pages, calls and returns: the guest must not see them.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { findBlock } from '../../../../src/cpu/x86_64/decode/block-hash.ts';
import { MAX_INSTRUCTIONS } from '../../../../src/cpu/x86_64/jit/collect.ts';
import * as L from '../../../../src/cpu/x86_64/layout.ts';
import { type Assembler, absolute, at } from '../../../asm/assembler.ts';
import { DATA, DIRECTORY, Guest, PDPT, PML4, TABLES, UPPER } from './guest.ts';

/** Runs a program in translated code, sampled at several intervals, and interpreted: the ends must be the same. */
function sameAsInterpreted(program: (a: Assembler) => void): bigint {
  const interpreted = new Guest('none', program);
  const result = interpreted.run(1000);
  for (const interval of [1, 7, 100]) {
    const translated = new Guest('at-once', program);
    assert.equal(translated.run(interval), result, `interval ${interval}`);
    assert.equal(translated.state, interpreted.state, `interval ${interval}`);
    assert.ok(translated.cpu.counts().translated > 100, 'translated code has run');
  }
  return result;
}

/** Code that maps a page elsewhere, as whatToRemap() says. Changes RBX, RDX. */
function remap(a: Assembler): void {
  a.mov('rdx', absolute(DATA + 8, 8));
  a.mov('rbx', absolute(DATA, 8));
  a.mov(at('rbx', 0, 8), 'rdx');
  a.mov('rbx', absolute(DATA + 16, 8));
  a.invlpg(at('rbx', 0));
}

/** remap() will map the upper half's page of `page` to `to`, physical addresses. */
function whatToRemap({ cpu }: Guest, page: number, to: number): void {
  const set = (address: number, value: bigint): void => cpu.view.setBigUint64(L.RAM_BASE + address, value, true);
  set(DATA, BigInt(TABLES + (page >> 12) * 8));
  set(DATA + 8, BigInt(to | 0x103));
  set(DATA + 16, UPPER + BigInt(page));
}

describe('regions', () => {
  test('calls, returns and branches across pages', () => {
    const result = sameAsInterpreted((a) => {
      a.mov('eax', 0);
      a.mov('ecx', 500);
      a.label('head');
      a.call('far');
      a.call('near');
      a.jmp('middle');
      a.label('near');
      a.add('rax', 3);
      a.ret();
      a.align(4096);
      a.label('far');
      a.add('rax', 'rcx');
      a.test('ecx', 1);
      a.jcc('e', 'even');
      a.ret();
      a.label('middle');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
      a.align(4096);
      a.label('even');
      a.mov(absolute(DATA, 8), 'rax');
      a.sub('rax', 1);
      a.ret();
    });
    assert.equal(result, 125_250n + 1500n - 250n);
  });

  test('recursion returns to each of its callers', () => {
    const result = sameAsInterpreted((a) => {
      a.mov('edi', 15);
      a.call('fibonacci');
      a.hlt();
      a.label('fibonacci');
      a.cmp('edi', 2);
      a.jcc('ae', 'deeper');
      a.mov('eax', 'edi');
      a.ret();
      a.align(4096);
      a.label('deeper');
      a.push('rbx');
      a.push('rdi');
      a.dec('edi');
      a.call('fibonacci');
      a.mov('ebx', 'eax');
      a.pop('rdi');
      a.sub('edi', 2);
      a.call('fibonacci');
      a.add('eax', 'ebx');
      a.pop('rbx');
      a.ret();
    });
    assert.equal(result, 610n);
  });

  test('a return to where nobody called from', () => {
    const result = sameAsInterpreted((a) => {
      a.mov('eax', 0);
      a.mov('ecx', 300);
      a.label('head');
      a.call('function');
      a.add('eax', 1);
      a.label('behind');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
      a.label('function');
      a.test('ecx', 7);
      a.jcc('ne', 'back');
      // Skips the addition behind the call: ADD EAX, imm8 has three bytes.
      a.add(at('rsp', 0, 8), 3);
      a.label('back');
      a.ret();
    });
    assert.equal(result, 300n - 37n);
  });

  test('the other page is mapped elsewhere: its code is found anew', () => {
    const program = (a: Assembler): void => {
      a.mov('eax', 0);
      a.mov('esi', 2);
      a.label('again');
      a.mov('ecx', 400);
      a.label('head');
      a.call('function');
      a.dec('ecx');
      a.jcc('ne', 'head');
      // The page behind becomes the function's, after the first round.
      remap(a);
      a.dec('esi');
      a.jcc('ne', 'again');
      a.hlt();
      a.align(4096);
      a.label('function');
      a.add('rax', 1);
      a.ret();
      a.align(4096);
      a.add('rax', 1000);
      a.ret();
    };
    for (const interval of [1, 100]) {
      const guest = new Guest('at-once', program);
      const page = guest.labels.get('function') as number;
      whatToRemap(guest, page, page + 0x1000);
      assert.equal(guest.run(interval), 400n + 400_000n);
    }
  });

  test('code that is written to in the other page', () => {
    const result = sameAsInterpreted((a) => {
      a.mov('eax', 0);
      a.mov('ecx', 600);
      a.label('head');
      a.call('function');
      a.test('ecx', 63);
      a.jcc('ne', 'unchanged');
      a.add(absolute(a.address('immediate'), 1), 1);
      a.label('unchanged');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
      a.align(4096);
      a.label('function');
      // ADD RAX, imm32
      a.db(0x48, 0x05);
      a.label('immediate');
      a.dd(1);
      a.ret();
    });
    let expected = 0n;
    for (let ecx = 600, add = 1n; ecx > 0; ecx--) {
      expected += add;
      if (ecx % 64 === 0) add++;
    }
    assert.equal(result, expected);
  });
});

test('SWAPGS in a region moves what GS points to, of accesses near each other too', () => {
  const run = (translation: 'none' | 'at-once'): Guest => {
    const guest = new Guest(translation, (a) => {
      a.mov('eax', 0);
      a.mov('ecx', 500);
      a.label('head');
      for (let i = 0; i < 2; i++) {
        // ADD RAX, GS:[RSI]; ADD [RSI + 8] by GS, RAX
        a.db(0x65, 0x48, 0x03, 0x06);
        a.db(0x65, 0x48, 0x01, 0x46, 0x08);
        a.swapgs();
      }
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
    });
    const { view } = guest.cpu;
    view.setBigUint64(L.SEG_GS + L.SEG_O_BASE, BigInt(DATA), true);
    view.setBigUint64(L.MSR_KERNEL_GS_BASE, BigInt(DATA + 0x100), true);
    view.setBigUint64(L.RAM_BASE + DATA, 3n, true);
    view.setBigUint64(L.RAM_BASE + DATA + 0x100, 5n, true);
    assert.equal(guest.run(100), 500n * 8n);
    return guest;
  };
  const translated = run('at-once');
  assert.equal(translated.state, run('none').state);
  assert.ok(translated.cpu.counts().translated > 1000, 'translated code has run');
});

test('CLAC in a region closes the page that an access before it has looked up', () => {
  const guest = new Guest('at-once', (a) => {
    // The TLB that is used while AC is set knows the user's page.
    a.stac();
    a.mov('rax', absolute(DATA + 0x1000, 8));
    a.clac();
    a.mov('ecx', 500);
    a.label('head');
    // The last round is on that page.
    a.cmp('ecx', 1);
    a.mov('rbx', DATA);
    a.mov('rdx', DATA + 0x1000);
    // CMOVE RBX, RDX
    a.db(0x48, 0x0f, 0x44, 0xda);
    a.stac();
    a.mov('rax', at('rbx', 0));
    a.clac();
    a.mov('rax', at('rbx', 8));
    a.dec('ecx');
    a.jcc('ne', 'head');
    a.hlt();
  });
  const { view, helpers } = guest.cpu;
  const SMAP = 1n << 21n;
  const USER = 4;
  view.setBigUint64(L.CR4, view.getBigUint64(L.CR4, true) | SMAP, true);
  for (const entry of [PML4, PDPT, DIRECTORY, TABLES + ((DATA + 0x1000) >> 12) * 8]) {
    const address = L.RAM_BASE + entry;
    view.setUint32(address, view.getUint32(address, true) | USER, true);
  }
  helpers.update_mode();
  helpers.tlb_flush(1);
  guest.cpu.sampleInterval = 100;
  // Nobody handles the fault.
  let reason: number = L.EXIT_BUDGET;
  while (reason === L.EXIT_BUDGET) reason = guest.cpu.run(100);
  assert.equal(reason, L.EXIT_SHUTDOWN);
  assert.equal(view.getBigUint64(L.CR2, true), BigInt(DATA + 0x1008));
  assert.equal(view.getBigUint64(L.RCX, true), 1n);
  assert.ok(guest.cpu.counts().translated > 1000, 'translated code has run');
});

test('what a region calls outside of itself is found hot', () => {
  const ROUNDS = 3000;
  const guest = new Guest('at-once', (a) => {
    a.mov('eax', 0);
    a.mov('ecx', ROUNDS);
    a.label('head');
    for (let i = 0; i < MAX_INSTRUCTIONS; i++) a.add('rbx', 1);
    a.call('function');
    a.dec('ecx');
    a.jcc('ne', 'head');
    a.hlt();
    a.align(4096);
    a.label('function');
    for (let i = 0; i < MAX_INSTRUCTIONS; i++) a.add('rax', 1);
    a.ret();
  });
  assert.equal(guest.run(10_000), BigInt(ROUNDS * MAX_INSTRUCTIONS));
  const { instructions, translated } = guest.cpu.counts();
  assert.ok(translated > 0.85 * instructions, `${translated} of ${instructions} instructions were translated`);
});

test('what is looked up often, but over a long time, is not hot', () => {
  /** Regions asked for, where so many spans of time pass between two rounds of 200 look-ups each. */
  const requested = (spans: number): number => {
    const guest = new Guest('at-once', (a) => {
      a.mov('r8d', 2);
      a.label('round');
      a.mov('ecx', 200);
      a.label('head');
      a.call('function');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
      a.dec('r8d');
      a.jcc('ne', 'round');
      a.mov('ecx', 20_000);
      a.label('end');
      a.dec('ecx');
      a.jcc('ne', 'end');
      a.hlt();
      a.label('function');
      a.add('rax', 1);
      a.ret();
    });
    guest.run(10_000);
    guest.cpu.view.setUint32(L.HEAT_START, spans << 24, true);
    guest.run(10_000);
    guest.run(10_000);
    return guest.cpu.counts().regions?.requested ?? 0;
  };
  // The loop at the end is.
  assert.equal(requested(2), 1);
  assert.equal(requested(1), 2);
});

test('regions that are made again after they were dropped have all that they had', () => {
  const FUNCTIONS = 12;
  /** Instructions of a region, after so many rounds in which each function is hot for a while, and room for a few regions only. */
  const size = (rounds: number): number => {
    const guest = new Guest(
      'at-once',
      (a) => {
        a.mov('eax', 0);
        a.mov('edx', rounds);
        a.label('round');
        for (let i = 0; i < FUNCTIONS; i++) {
          a.mov('ecx', 600);
          a.label(`loop${i}`);
          a.mov('rbx', UPPER + BigInt(a.address(`function${i}`)));
          a.callRegister('rbx');
          a.dec('ecx');
          a.jcc('ne', `loop${i}`);
        }
        a.dec('edx');
        a.jcc('ne', 'round');
        a.hlt();
        for (let i = 0; i < FUNCTIONS; i++) {
          a.align(64);
          a.label(`function${i}`);
          for (let step = 0; step < 6; step++) {
            a.add('rax', 1);
            a.test('ecx', 1 << step);
            a.jcc('e', `skip${i}-${step}`);
            a.add('rax', 2);
            a.label(`skip${i}-${step}`);
          }
          a.ret();
        }
      },
      8,
    );
    guest.run(1000);
    const { regions } = guest.cpu.counts();
    return regions!.instructions / regions!.installed;
  };
  const [first, later] = [size(1), size(10)];
  assert.ok(later > 0.7 * first, `${later} instructions a region, at first ${first}`);
});

test('a loop all of whose branches go to other pages is found by a sample', () => {
  const ROUNDS = 20_000;
  const guest = new Guest('at-once', (a) => {
    a.mov('eax', 0);
    a.mov('ecx', ROUNDS);
    a.label('head');
    a.add('rax', 1);
    a.jmp('other');
    a.align(4096);
    a.label('other');
    a.dec('ecx');
    a.jcc('ne', 'head');
    a.hlt();
  });
  assert.equal(guest.run(1000), BigInt(ROUNDS));
  const { instructions, translated } = guest.cpu.counts();
  assert.ok(translated > 0.9 * instructions, `${translated} of ${instructions} instructions were translated`);
});

describe('an instruction that crosses into the next page', () => {
  /** ADD RAX, imm32 of which the immediate's last two bytes are in page `next`, and what calls it. */
  const crossing = (a: Assembler, turn: () => void): void => {
    a.mov('eax', 0);
    a.mov('ecx', 600);
    a.label('head');
    a.call('function');
    turn();
    a.dec('ecx');
    a.jcc('ne', 'head');
    a.hlt();
    a.align(4096);
    a.label('page');
    a.org(a.address('page') + 4096 - 8);
    a.label('function');
    a.add('rdx', 1);
    a.db(0x48, 0x05, 1);
    a.db(0);
    a.label('next');
    a.db(0, 0);
    a.test('ecx', 1);
    a.jcc('e', 'even');
    a.add('rax', 2);
    a.label('even');
    a.ret();
  };

  test('is run by the region around it', () => {
    const program = (a: Assembler): void => crossing(a, () => {});
    assert.equal(sameAsInterpreted(program), 600n + 600n);
    const guest = new Guest('at-once', program);
    guest.run(1);
    const { instructions, translated } = guest.cpu.counts();
    assert.ok(translated > instructions * 0.7, `${translated} of ${instructions}`);
  });

  test('is written to behind the boundary', () => {
    const result = sameAsInterpreted((a) =>
      crossing(a, () => {
        a.test('ecx', 63);
        a.jcc('ne', 'unchanged');
        a.add(absolute(a.address('next'), 1), 1);
        a.label('unchanged');
      }),
    );
    let expected = 600n;
    for (let ecx = 600, add = 1n; ecx > 0; ecx--) {
      expected += add;
      if (ecx % 64 === 0) add += 0x10000n;
    }
    assert.equal(result, expected);
  });

  test('goes on in another page, once that is mapped there', () => {
    const program = (a: Assembler): void => {
      crossing(a, () => {
        a.cmp('ecx', 300);
        a.jcc('ne', 'unchanged');
        remap(a);
        a.label('unchanged');
      });
      a.align(4096);
      // As behind `next`, but for the immediate.
      a.label('other');
      a.db(1, 0);
      a.add('rax', 4);
      a.ret();
    };
    for (const interval of [1, 100]) {
      const guest = new Guest('at-once', program);
      const [next, other] = ['next', 'other'].map((label) => guest.labels.get(label)) as [number, number];
      whatToRemap(guest, next, other);
      // With ECX from 600 to 300: 1, and 2 more where it is odd.
      assert.equal(guest.run(interval), 301n + 300n + 299n * 0x10005n);
    }
  });
});

describe('accesses that share a look-up', () => {
  /** Loads and stores around RBX. */
  const accesses = (a: Assembler): void => {
    a.mov('rdx', at('rbx', 0, 8));
    a.add('rax', 'rdx');
    a.mov(at('rbx', 8, 8), 'rax');
    a.mov('edx', at('rbx', -12, 4));
    a.add(at('rbx', 24, 8), 'rdx');
    a.add('rbx', 16);
    a.mov(at('rbx', 16, 4), 'eax');
    a.add('rax', at('rbx', -3, 8));
    a.push('rax');
    a.push('rdx');
    a.mov(at('rsp', 4, 4), 'ecx');
    a.pop('rdx');
    a.pop('rdx');
    a.add('rax', 'rdx');
    a.sub('rbx', 16);
  };

  test('a page ends between them', () => {
    sameAsInterpreted((a) => {
      a.mov('eax', 0);
      a.mov('ecx', 600);
      a.mov('esi', DATA + 0xfc0);
      a.label('head');
      a.mov('rbx', 'rsi');
      accesses(a);
      a.add('rsi', 1);
      a.test('ecx', 127);
      a.jcc('ne', 'on');
      a.mov('esi', DATA + 0xfc0);
      a.label('on');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
    });
  });

  /** A loop with accesses in two pages, and so many times 60 instructions behind them: the part of what has run that was translated. */
  const translatedOf = (more: number): number => {
    const rounds = 6_000_000 / (60 * more + 10);
    const guest = new Guest('at-once', (a) => {
      a.mov('eax', 0);
      a.mov('ecx', rounds | 0);
      a.mov('ebx', DATA + 0xff0);
      a.label('head');
      a.mov(at('rbx', 0, 8), 'rcx');
      a.mov(at('rbx', 24, 8), 'rcx');
      a.mov('rdx', at('rbx', 0, 8));
      a.add('rdx', at('rbx', 24, 8));
      a.shr('rdx', 1);
      a.sub('rdx', 'rcx');
      for (let i = 0; i < more; i++) {
        for (let j = 0; j < 59; j++) a.add('rdx', 0);
        a.jmp(`on${i}`);
        a.label(`on${i}`);
      }
      a.add('rax', 'rdx');
      a.add('rax', 1);
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
    });
    assert.equal(guest.run(10_000), BigInt(rounds | 0));
    const { instructions, translated } = guest.cpu.counts();
    return translated / instructions;
  };

  for (const more of [0, 1, 2, 4, 8]) {
    test(`a loop in which they are in two pages is translated once more, without: ${60 * more} instructions behind them`, () => {
      const translated = translatedOf(more);
      assert.ok(translated > 0.8, `of what has run ${translated} was translated`);
    });
  }

  test('a loop shares them again where they are in one page, and shares none where they are in two, with no more translations', () => {
    const guest = new Guest('at-once', (a) => {
      a.label('again');
      a.mov('rbx', absolute(DATA, 8));
      a.mov('rcx', absolute(DATA + 8, 8));
      a.mov('eax', 0);
      a.label('head');
      a.mov(at('rbx', 0, 8), 'rcx');
      a.add('rax', at('rbx', 24, 8));
      a.add('rax', 1);
      a.dec('rcx');
      a.jcc('ne', 'head');
      a.hlt();
      a.jmp('again');
    });
    const { view } = guest.cpu;
    const inPlace = (address: number, rounds: number): { slot: number; requested: number } => {
      view.setBigUint64(L.RAM_BASE + DATA, BigInt(address), true);
      view.setBigUint64(L.RAM_BASE + DATA + 8, BigInt(rounds), true);
      assert.equal(guest.run(1000), BigInt(rounds));
      const head = findBlock(view, L.RAM_BASE + (guest.labels.get('head') as number), view.getUint32(L.MODE, true));
      const slot = view.getUint16((head as number) + L.R_HANDLER, true);
      return { slot, requested: guest.cpu.counts().regions?.requested ?? 0 };
    };
    const apart = inPlace(DATA + 0xff0, 20_000);
    const shared = inPlace(DATA + 0x100, 14_000_000);
    assert.notEqual(shared.slot, apart.slot);
    assert.deepEqual(inPlace(DATA + 0xff0, 20_000), { ...apart, requested: shared.requested });
  });

  test('the page behind is elsewhere', () => {
    const program = (a: Assembler): void => {
      a.mov('eax', 0);
      a.mov('ecx', 300);
      a.label('head');
      a.mov('ebx', DATA + 0xff8);
      a.add('rax', 1);
      a.mov(at('rbx', 0, 8), 'rax');
      a.mov(at('rbx', 8, 8), 'rax');
      a.add('rax', at('rbx', 8, 8));
      a.add('rax', at('rbx', 4, 8));
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
    };
    const ends = [100, 'none'].map((interval) => {
      const guest = new Guest(interval === 'none' ? 'none' : 'at-once', program);
      const { view } = guest.cpu;
      const entry = L.RAM_BASE + TABLES + ((DATA + 0x1000) >> 12) * 8;
      view.setBigUint64(entry, view.getBigUint64(entry, true) + 0x10000n, true);
      const result = guest.run(100);
      assert.notEqual(view.getBigUint64(L.RAM_BASE + DATA + 0x11000, true), 0n);
      assert.equal(view.getBigUint64(L.RAM_BASE + DATA + 0x1000, true), 0n);
      return `${result} ${guest.state}`;
    });
    assert.equal(ends[0], ends[1]);
  });

  test('their base depends on a condition', () => {
    sameAsInterpreted((a) => {
      a.mov('eax', 0);
      a.mov('ecx', 500);
      a.label('head');
      a.mov('ebx', DATA);
      a.mov('edx', DATA + 0x2000);
      a.mov(at('rbx', 0, 8), 'rcx');
      a.test('ecx', 3);
      a.jcc('ne', 'same');
      a.mov('rbx', 'rdx');
      a.add('rbx', 8);
      a.label('same');
      a.add('rax', at('rbx', 0, 8));
      a.mov(at('rbx', 8, 8), 'rax');
      a.cmp('rax', 'rcx');
      a.db(0x48, 0x0f, 0x47, 0xda); // CMOVA RBX, RDX
      a.add('rax', at('rbx', 16, 8));
      a.mov(at('rbx', 16, 8), 'rcx');
      a.dec('ecx');
      a.jcc('ne', 'head');
      a.hlt();
    });
  });
});

describe('eviction', () => {
  const FUNCTIONS = 500;
  const MOST = 64;

  /** Calls each of many functions many times, all of them twice over. */
  const program = (a: Assembler): void => {
    a.mov('eax', 0);
    a.mov('r8d', 2);
    a.label('round');
    for (let i = 0; i < FUNCTIONS; i++) {
      a.mov('ecx', 40);
      a.label(`loop${i}`);
      a.add('rax', i);
      a.call('shared');
      a.dec('ecx');
      a.jcc('ne', `loop${i}`);
    }
    a.dec('r8d');
    a.jcc('ne', 'round');
    a.hlt();
    a.label('shared');
    a.add('rax', 1);
    a.ret();
  };

  test('regions stay within their number, and their instances are garbage', async () => {
    const instances: WeakRef<WebAssembly.Instance>[] = [];
    const original = WebAssembly.Instance;
    const noted = class extends original {
      constructor(...args: ConstructorParameters<typeof original>) {
        super(...args);
        instances.push(new WeakRef(this));
      }
    };
    let guest: Guest;
    try {
      WebAssembly.Instance = noted;
      guest = new Guest('at-once', program, MOST);
      const sum = (FUNCTIONS * (FUNCTIONS - 1)) / 2;
      assert.equal(guest.run(60), BigInt(2 * 40 * (sum + FUNCTIONS)));
    } finally {
      WebAssembly.Instance = original;
    }
    setFlagsFromString('--expose-gc');
    const collectGarbage = runInNewContext('gc') as () => void;
    const { regions } = guest.cpu.counts();
    assert.ok(regions && regions.installed > 4 * MOST, 'more came into use than there is room for');
    assert.ok(guest.cpu.regions <= MOST, `${guest.cpu.regions} regions are kept`);
    // A reference that has been looked at keeps what it refers to until the turn of the event loop ends.
    for (let i = 0; i < 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      collectGarbage();
    }
    const alive = instances.filter((reference) => reference.deref() !== undefined).length;
    // Beside the regions' those of the helpers and the interpreter, and what was in use last.
    assert.ok(alive <= MOST + 8, `${alive} of ${instances.length} instances are alive`);
  });
});
