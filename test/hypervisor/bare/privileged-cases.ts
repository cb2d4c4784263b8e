// Privileged code with random operands: each case can be run by any bare machine.

import { type Assembler, absolute } from '../../asm/assembler.ts';
import type { Random } from '../../cpu/x86_64/instructions/random.ts';
import { type BareMachine, done, type Mode, type RunOptions } from './machine.ts';
import * as M from './map.ts';

/** A program, with the state it starts in. */
export interface Case {
  readonly program: (a: Assembler) => void;
  readonly options: RunOptions;
}

/** A case in the making. */
interface Draft {
  readonly random: Random;
  readonly mode: Mode;
  readonly cpl: 0 | 3;
  /** General registers at the start. */
  readonly regs: NonNullable<RunOptions['regs']>;
  /** Changes memory and special registers. */
  before: NonNullable<RunOptions['before']>;
  rflags: bigint;
}

/** Instructions under test. */
export interface Kind {
  readonly name: string;
  readonly modes: readonly Mode[];
  /** Chooses operands and state; gives back the code. */
  readonly draft: (d: Draft) => (a: Assembler) => void;
}

const ALL: readonly Mode[] = ['long', 'compat', 'protected32', 'protected16', 'real'];
const PROTECTED: readonly Mode[] = ['long', 'compat', 'protected32'];
const LONG: readonly Mode[] = ['long'];

/** Ports are open to level 3. */
const IOPL3 = 0x3002n;
/** Memory for operands, in reach of every mode. */
export const OPERANDS = 0x7800;

/** QEMU's emulation does not look whether bases are canonical. */
const canonical = (address: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(48, address));
const bit = (n: number): bigint => 1n << BigInt(n);

/** Types of descriptors, with their S bit: data that is writable or not, code that is readable or not, conforming or not. */
const DATA = [0x12, 0x13, 0x10, 0x16, 0x1a];
const STACK = [0x12, 0x13, 0x10];
const CODE = [0x1a, 0x1b, 0x18, 0x1e];
/** An LDT, TSSs that are free and busy, gates. */
const SYSTEM = [0x02, 0x09, 0x0b, 0x0c];
const LDT = [0x02];
/** QEMU's emulation of IRET does not set the accessed bit, nor look at the limit. */
const ACCESSED = [0x1b, 0x19, 0x1f, 0x13];
const TSS = [0x09];
/** Types that are none in long mode: 16-bit TSSs and call gates, task gates. */
const LEGACY = [0x01, 0x03, 0x04, 0x05];

/** A random descriptor in FREE, often of one of `types` and of the code's own level. Returns a selector, mostly FREE's. */
function descriptor(d: Draft, types: readonly number[]): number {
  const { random } = d;
  const present = random.oneIn(6) ? 0 : 0x80;
  const any = (types[0]! & 0x11) | random.below(16);
  // QEMU's emulation takes those of legacy modes in long mode, too, and null selectors for TR and SS.
  const type = random.oneIn(3) && !LEGACY.includes(any) ? any : random.pick(types);
  const level = random.oneIn(3) ? random.below(4) : d.cpl;
  const flags = random.pick([0, 4, 8, 12, 2, 10]);
  // Code that ends up elsewhere would meet no limit in QEMU's emulation.
  const base = types === ACCESSED ? 0 : random.pick([0, OPERANDS, random.u32()]);
  const limit = types === ACCESSED ? 0xfffff : random.pick([0, 0xfff, 0xfffff, random.below(0x100000)]);
  d.before = (_, machine) => machine.descriptor(M.FREE, base, limit, present | (level << 5) | type, flags);
  const selector = random.oneIn(5)
    ? random.pick([4, M.GDT_LIMIT + 1, M.LDT_SELECTOR, M.DATA32, ...(types === TSS || types === STACK ? [] : [0])])
    : M.FREE;
  return (selector & ~3) | (random.oneIn(3) ? random.below(4) : d.cpl);
}

/** An instruction whose operand is BX, which has a selector. */
function ofSelector(name: string, opcode: readonly number[], reg: number, types: readonly number[]): Kind {
  return {
    name,
    modes: PROTECTED,
    draft(d) {
      d.regs.rbx = BigInt(descriptor(d, types));
      return (a) => a.emit({ size: 2, opcode, reg, rm: 'bx' });
    },
  };
}

/** MOV to a control register of what it has, with one or two bits changed. */
function ofControlBits(register: 'cr0' | 'cr4', bits: readonly number[]): Kind {
  return {
    name: `mov ${register}`,
    modes: ALL,
    draft({ random, mode }) {
      const change = bit(random.pick(bits)) | (random.oneIn(2) ? bit(random.pick(bits)) : 0n);
      const [a0, b0] = mode === 'long' ? ['rax', 'rbx'] : ['eax', 'ebx'];
      return (a) => {
        a.mov(a0, register);
        a.mov(b0, change);
        a.xor(a0, b0);
        a.mov(register, a0);
      };
    },
  };
}

/** Bytes as they are. */
const plain = (name: string, modes: readonly Mode[], ...bytes: number[]): Kind => ({
  name,
  modes,
  draft: ({ regs, random }) => {
    regs.rax = random.operand();
    return (a) => a.db(...bytes);
  },
});

/** RDFSBASE and its like, of RAX or RBX, mostly where they are allowed. */
const ofBase = (name: string, modrm: number): Kind => ({
  name,
  modes: LONG,
  draft(d) {
    d.regs.rax = canonical(d.random.operand());
    const isAllowed = !d.random.oneIn(4);
    d.before = (sregs) => {
      sregs.fs.base = 0x1234_5678_9abcn;
      if (isAllowed) sregs.cr4 |= M.CR4_FSGSBASE;
    };
    return (a) => a.db(0xf3, 0x48, 0x0f, 0xae, modrm);
  },
});

/** LGDT, LIDT, SGDT and SIDT; the operand is random. */
const ofTable = (name: 'lgdt' | 'lidt' | 'sgdt' | 'sidt'): Kind => ({
  name,
  modes: ALL,
  draft(d) {
    const base = canonical(d.random.operand());
    const limit = d.random.u32() & 0xffff;
    d.before = (_, { memory }) => {
      memory.writeU16(OPERANDS, limit);
      memory.writeU64(OPERANDS + 2, base);
    };
    return (a) => a[name](absolute(OPERANDS));
  },
});

/** An MSR's number and values for it; none: any. */
type MsrChoice = readonly [index: number, values: readonly bigint[] | undefined];

/** EFER, with SCE, LME, LMA, NXE and reserved bits that are so on every processor. */
const EFER: MsrChoice = [0xc0000080, [0n, 1n, 0x100n, 0x500n, 0x501n, 0xd00n, 0xd01n, 0x801n, 0x503n, 0x1_0000_0500n]];
const MSRS: readonly MsrChoice[] = [
  // SFMASK, whose upper half does not exist.
  [0xc0000084, [0n, 0x200n, 0x47700n, 0xffff_ffffn]],
  // STAR, LSTAR, FS.base, GS.base, KernelGSbase.
  [0xc0000081, undefined],
  [0xc0000082, undefined],
  [0xc0000100, undefined],
  [0xc0000101, undefined],
  [0xc0000102, undefined],
  // PAT, with and without types that are not there.
  [0x277, [0x0007040600070406n, 0x0106050400070406n, 0x0207040600070406n, 0x0807040600070406n]],
  // No MSR.
  [0x12345, undefined],
];

/** Writes an MSR, and reads it where that went well. */
const ofMsr: Kind = {
  name: 'wrmsr, rdmsr',
  modes: PROTECTED,
  draft({ random, mode, regs }) {
    // A change to long mode is none of one instruction.
    const [index, values] = random.pick(mode === 'long' ? [EFER, ...MSRS] : MSRS);
    const value = values === undefined ? canonical(random.operand()) : random.pick(values);
    Object.assign(regs, { rcx: BigInt(index), rax: value & 0xffffffffn, rdx: value >> 32n });
    return (a) => {
      a.wrmsr();
      a.rdmsr();
    };
  },
};

/** A random frame for IRET: it returns to the next instruction, by whatever selectors. */
const ofIret: Kind = {
  name: 'iret',
  modes: PROTECTED,
  draft(d) {
    const { random, mode } = d;
    const free = descriptor(d, ACCESSED);
    const cs = random.pick([M.CODE32, M.CODE32_3, M.CODE64, M.CODE64_3, free, 0]);
    const ss = random.oneIn(2)
      ? (cs & 3) === 0
        ? M.DATA32
        : M.DATA32_3
      : random.pick([M.DATA32, M.DATA32_3, free, ...(cs === M.CODE64 ? [0] : [])]);
    // Not TF, VM and the reserved bits; IOPL stays 3 for who comes to level 3.
    const flags = (random.u32() & 0x244ed5) | Number(IOPL3);
    return (a) => {
      a.push(ss);
      a.push(M.STACK3 - 64);
      a.push(flags);
      a.push(cs);
      if (mode === 'long') {
        a.lea('rax', { base: 'rsp', disp: 0 });
        a.mov('rax', a.address('next'));
        a.push('rax');
      } else {
        a.push(a.address('next'));
      }
      a.iret();
    };
  },
};

/** MOV to and from a debug register, but for DR7: QEMU's emulation breaks at some breakpoints. */
const ofDebug: Kind = {
  name: 'mov dr',
  modes: PROTECTED,
  draft({ random, mode, regs }) {
    const register = random.pick(['dr0', 'dr1', 'dr2', 'dr3', 'dr6']);
    // Bit 12 of DR6 is a matter of taste.
    regs.rax = BigInt(random.u32()) & ~0x1000n;
    const [from, to] = mode === 'long' ? ['rax', 'rbx'] : ['eax', 'ebx'];
    return (a) => {
      a.mov(register, from);
      a.mov(to, register);
    };
  },
};

/** Reads, writes and calls, at a page of random rights. */
const ofPage: Kind = {
  name: 'page rights',
  modes: ['long', 'compat'],
  draft(d) {
    const { random } = d;
    const rights = random.below(8) | (random.below(4) << 5) | (random.oneIn(8) ? 0x18 : 0);
    const entry = BigInt(rights) | (random.oneIn(3) ? M.NX : 0n);
    // All other pages are the kernel's then: its handlers would not run elsewhere.
    const cr4 = d.cpl === 3 ? 0n : random.pick([0n, M.CR4_SMEP, M.CR4_SMAP, M.CR4_SMEP | M.CR4_SMAP]);
    const wp = random.oneIn(2);
    d.before = (sregs, machine) => {
      for (let page = 0; d.cpl === 0 && page < 0x200000; page += 0x1000) machine.page(page, M.P | M.W);
      machine.page(M.DATA, entry);
      // RET
      machine.memory.writeU8(M.DATA, 0xc3);
      sregs.cr4 |= cr4;
      if (!wp) sregs.cr0 &= ~M.CR0_WP;
    };
    if (random.oneIn(2)) d.rflags |= 0x40000n;
    d.regs.rbx = BigInt(M.DATA);
    const register = d.mode === 'long' ? 'rbx' : 'ebx';
    const place = { base: register, disp: 0 };
    return random.pick<(a: Assembler) => void>([
      (a) => a.mov('al', place),
      (a) => a.mov(place, 'al'),
      (a) => a.db(0xff, 0xd3), // CALL RBX
      (a) => a.invlpg(place),
    ]);
  },
};

/** An interrupt through a random gate. */
const ofInterrupt: Kind = {
  name: 'int',
  modes: PROTECTED,
  draft(d) {
    // QEMU's emulation gives the faults of gates of 16 bytes a wrong error code.
    const access =
      d.mode === 'protected32'
        ? d.random.below(2) * 0x80 + d.random.below(4) * 0x20 + d.random.pick([0xe, 0xe, 0xf, 5, 6, 0xc])
        : 0xe0 | d.random.pick([0xe, 0xf]);
    d.before = (_, machine) => machine.vector(0x40, access);
    return (a) => a.int(0x40);
  },
};

/** POPF, CLI, STI and PUSHF under every IOPL. */
const ofFlags: Kind = {
  name: 'popf, cli, sti, pushf',
  modes: ALL,
  draft(d) {
    // Not TF. Who has no right to the port of the end stops there, at a fault.
    d.rflags = BigInt(d.random.below(4) << 12) | 2n;
    const flags = d.random.u32() & 0x244ed5;
    const low = d.mode === 'real' || d.mode === 'protected16';
    const instruction = d.random.pick<(a: Assembler) => void>([(a) => a.cli(), (a) => a.sti(), (a) => a.nop()]);
    return (a) => {
      a.push(low ? flags & 0x7fff : flags);
      a.popf();
      instruction(a);
      a.pushf();
      a.pop(d.mode === 'long' ? 'rbx' : low ? 'bx' : 'ebx');
    };
  },
};

export const KINDS: readonly Kind[] = [
  // Not PE and PG (other tests change the mode), NW and CD (KVM keeps them from the processor); reserved bits.
  ofControlBits('cr0', [1, 2, 3, 5, 16, 18]),
  // What both processors have: VME, TSD, DE, PSE, PAE, MCE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP, SMAP; reserved bits.
  ofControlBits('cr4', [0, 2, 3, 4, 5, 6, 7, 9, 10, 16, 18, 20, 21, 15, 24, 31]),
  {
    name: 'mov cr3',
    modes: PROTECTED,
    draft({ random, mode, regs }) {
      regs.rax = BigInt(M.PML4) | BigInt(random.below(4) << 3);
      return (a) => a.mov('cr3', mode === 'long' ? 'rax' : 'eax');
    },
  },
  {
    name: 'mov cr8',
    modes: LONG,
    draft({ random, regs }) {
      regs.rax = BigInt(random.below(16));
      return (a) => {
        a.mov('cr8', 'rax');
        a.mov('rbx', 'cr8');
      };
    },
  },
  {
    name: 'mov from cr',
    modes: ALL,
    draft({ random, cpl }) {
      // At level 3 makers differ in what comes first: the register that is not there, or the right to it.
      const number = cpl === 3 ? random.pick([0, 2, 3, 4]) : random.below(8);
      return (a) => a.db(0x0f, 0x20, 0xc3 | (number << 3));
    },
  },
  plain('clts', ALL, 0x0f, 0x06),
  plain('lmsw', ALL, 0x0f, 0x01, 0xf0),
  plain('smsw', ALL, 0x0f, 0x01, 0xe3),
  plain('sldt', PROTECTED, 0x0f, 0x00, 0xc3),
  plain('str', PROTECTED, 0x0f, 0x00, 0xcb),
  plain('wbinvd', ALL, 0x0f, 0x09),
  plain('swapgs', PROTECTED, 0x0f, 0x01, 0xf8),
  plain('stac', PROTECTED, 0x0f, 0x01, 0xcb),
  ofBase('rdfsbase', 0xc3),
  ofBase('wrgsbase', 0xd8),
  ofTable('lgdt'),
  ofTable('lidt'),
  ofTable('sgdt'),
  ofTable('sidt'),
  ofSelector('lldt', [0x0f, 0x00], 2, LDT),
  ofSelector('ltr', [0x0f, 0x00], 3, TSS),
  ofSelector('verr', [0x0f, 0x00], 4, CODE),
  ofSelector('verw', [0x0f, 0x00], 5, DATA),
  ofSelector('lar', [0x0f, 0x02], 0, CODE),
  ofSelector('lar of a system segment', [0x0f, 0x02], 0, SYSTEM),
  ofSelector('lsl', [0x0f, 0x03], 0, CODE),
  ofSelector('lsl of a system segment', [0x0f, 0x03], 0, SYSTEM),
  ofSelector('mov ds', [0x8e], 3, DATA),
  ofSelector('mov fs', [0x8e], 4, DATA),
  ofSelector('mov ss', [0x8e], 2, STACK),
  ofMsr,
  {
    name: 'xsetbv',
    modes: LONG,
    draft(d) {
      const value = d.random.pick([0n, 1n, 2n, 3n, 5n, 7n, bit(62)]);
      Object.assign(d.regs, { rcx: d.random.oneIn(4) ? 1n : 0n, rax: value & 0xffffffffn, rdx: value >> 32n });
      // At level 3 makers differ in what comes first.
      if (d.cpl === 3 || !d.random.oneIn(4)) {
        d.before = (sregs) => {
          sregs.cr4 |= M.CR4_OSXSAVE;
        };
      }
      return (a) => a.db(0x0f, 0x01, 0xd1);
    },
  },
  ofIret,
  ofDebug,
  ofPage,
  ofInterrupt,
  ofFlags,
  {
    name: 'in',
    modes: PROTECTED,
    draft(d) {
      const port = d.random.below(0x10000);
      const map = d.random.below(0x10000);
      if (d.random.oneIn(2)) d.rflags = 2n;
      d.regs.rdx = BigInt(port);
      d.before = (_, { memory }) => memory.writeU16(M.TSS + M.IO_BITMAP + (port >> 3), map);
      const size = d.random.pick(['al', 'ax', 'eax'] as const);
      return (a) => a.in(size, 'dx');
    },
  },
];

/** A case of a kind in a mode, at level 0 or, one of three where the mode has levels, 3. */
export function makeCase(kind: Kind, mode: Mode, random: Random): Case {
  const cpl = PROTECTED.includes(mode) && random.oneIn(3) ? 3 : 0;
  const draft: Draft = { random, mode, cpl, regs: {}, before: () => {}, rflags: IOPL3 };
  const code = kind.draft(draft);
  return {
    program(a) {
      a.label('here');
      code(a);
      a.label('next');
      done(a);
    },
    options: {
      mode,
      cpl,
      regs: { rdx: 0n, ...draft.regs },
      rflags: draft.rflags,
      before: (sregs, machine: BareMachine) => draft.before(sregs, machine),
      on: ({ kind: exit }) => exit === 'io-in',
    },
  };
}
