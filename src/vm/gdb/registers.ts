/** GDB's registers of `i386:x86-64`: the target description, and each register's bytes in the order of the description. */

import type { CpuState } from './target.ts';

interface Register {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** GDB's type. */
  readonly type: string;
  readonly group?: string;
  readonly read: (state: CpuState) => bigint;
  readonly write: (state: CpuState, value: bigint) => void;
}

interface Feature {
  readonly name: string;
  /** Type definitions that stand before the registers. */
  readonly types?: string;
  readonly registers: readonly Register[];
}

const GENERAL = [
  'rax',
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rbp',
  'rsp',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;
const SEGMENTS = ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const;
const CONTROL = ['cr0', 'cr2', 'cr3', 'cr4', 'cr8', 'efer'] as const;

// FXSAVE64 (SDM volume 1, table 10-2).
const FX_FCW = 0;
const FX_FSW = 2;
const FX_FTW = 4;
const FX_FOP = 6;
const FX_FIP = 8;
const FX_FDP = 16;
const FX_MXCSR = 24;
const FX_ST = 32;
const FX_XMM = 160;

const view = (state: CpuState): DataView =>
  new DataView(state.xsave.buffer, state.xsave.byteOffset, state.xsave.byteLength);

/** A little-endian number of `size` bytes in the XSAVE area. */
function getBytes(state: CpuState, offset: number, size: number): bigint {
  let value = 0n;
  for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(view(state).getUint8(offset + i));
  return value;
}

function setBytes(state: CpuState, offset: number, size: number, value: bigint): void {
  for (let i = 0; i < size; i++) view(state).setUint8(offset + i, Number((value >> BigInt(i * 8)) & 0xffn));
}

/** Registers that lie in the XSAVE area; GDB shows x87's as 32 bits whatever their width. */
function fx(name: string, type: string, size: number, offset: number, width = size, group?: string): Register {
  return {
    name,
    size,
    type,
    ...(group === undefined ? {} : { group }),
    read: (state) => getBytes(state, offset, width),
    write: (state, value) => setBytes(state, offset, width, value),
  };
}

/** The full tag word that FXSAVE's abridged one stands for: 0 valid, 1 zero, 2 special, 3 empty (SDM volume 1, 10.5.1.1). */
function readTags(state: CpuState): bigint {
  const used = view(state).getUint8(FX_FTW);
  const top = (view(state).getUint16(FX_FSW, true) >> 11) & 7;
  let tags = 0;
  for (let physical = 0; physical < 8; physical++) {
    let tag = 3;
    if (used & (1 << physical)) {
      const at = FX_ST + ((physical - top) & 7) * 16;
      const significand = getBytes(state, at, 8);
      const exponent = Number(getBytes(state, at + 8, 2)) & 0x7fff;
      if (exponent === 0) tag = significand === 0n ? 1 : 2;
      else tag = exponent === 0x7fff || significand >> 63n === 0n ? 2 : 0;
    }
    tags |= tag << (physical * 2);
  }
  return BigInt(tags);
}

function writeTags(state: CpuState, value: bigint): void {
  let used = 0;
  for (let i = 0; i < 8; i++) if (((value >> BigInt(i * 2)) & 3n) !== 3n) used |= 1 << i;
  view(state).setUint8(FX_FTW, used);
}

/** A register that is not there as such: reads 0, takes nothing. */
const absent = (name: string): Register => ({
  name,
  size: 4,
  type: 'int',
  group: 'float',
  read: () => 0n,
  write: () => {},
});

// biome-ignore format: one row for a group of related entries
const FLAGS: readonly [number, string][] = [
  [0, 'CF'], [1, ''], [2, 'PF'], [4, 'AF'], [6, 'ZF'], [7, 'SF'], [8, 'TF'], [9, 'IF'], [10, 'DF'], [11, 'OF'],
  [14, 'NT'], [16, 'RF'], [17, 'VM'], [18, 'AC'], [19, 'VIF'], [20, 'VIP'], [21, 'ID'],
];
// biome-ignore format: one row for a group of related entries
const MXCSR: readonly [number, string][] = [
  [0, 'IE'], [1, 'DE'], [2, 'ZE'], [3, 'OE'], [4, 'UE'], [5, 'PE'], [6, 'DAZ'], [7, 'IM'], [8, 'DM'], [9, 'ZM'], [10, 'OM'], [11, 'UM'], [12, 'PM'], [15, 'FZ'],
];
// biome-ignore format: one row for a group of related entries
const CR0: readonly [number, string][] = [
  [0, 'PE'], [1, 'MP'], [2, 'EM'], [3, 'TS'], [4, 'ET'], [5, 'NE'], [16, 'WP'], [18, 'AM'], [29, 'NW'], [30, 'CD'], [31, 'PG'],
];
// biome-ignore format: one row for a group of related entries
const CR4: readonly [number, string][] = [
  [0, 'VME'], [1, 'PVI'], [2, 'TSD'], [3, 'DE'], [4, 'PSE'], [5, 'PAE'], [6, 'MCE'], [7, 'PGE'], [8, 'PCE'], [9, 'OSFXSR'], [10, 'OSXMMEXCPT'],
  [11, 'UMIP'], [16, 'FSGSBASE'], [17, 'PCIDE'], [18, 'OSXSAVE'], [20, 'SMEP'], [21, 'SMAP'],
];
// biome-ignore format: one row for a group of related entries
const EFER: readonly [number, string][] = [[0, 'SCE'], [8, 'LME'], [10, 'LMA'], [11, 'NXE']];

const flagsType = (id: string, size: number, fields: readonly [number, string][]): string =>
  `<flags id="${id}" size="${size}">${fields.map(([bit, name]) => `<field name="${name}" start="${bit}" end="${bit}"/>`).join('')}</flags>`;

// biome-ignore format: one row for a group of related entries
const VECTOR_TYPES = [
  ['v4f', 'ieee_single', 4], ['v2d', 'ieee_double', 2], ['v16i8', 'int8', 16], ['v8i16', 'int16', 8], ['v4i32', 'int32', 4], ['v2i64', 'int64', 2],
]
  .map(([id, type, count]) => `<vector id="${id}" type="${type}" count="${count}"/>`)
  .join('');
const VECTOR_UNION = `<union id="vec128"><field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/>\
<field name="v16_int8" type="v16i8"/><field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/>\
<field name="v2_int64" type="v2i64"/><field name="uint128" type="uint128"/></union>`;

const FEATURES: readonly Feature[] = [
  {
    name: 'org.gnu.gdb.i386.core',
    types: flagsType('i386_eflags', 4, FLAGS),
    registers: [
      ...GENERAL.map(
        (name): Register => ({
          name,
          size: 8,
          type: name === 'rbp' || name === 'rsp' ? 'data_ptr' : 'int64',
          read: (state) => state.regs[name],
          write: (state, value) => {
            state.regs[name] = value;
          },
        }),
      ),
      {
        name: 'rip',
        size: 8,
        type: 'code_ptr',
        read: (s) => s.regs.rip,
        write: (s, value) => void (s.regs.rip = value),
      },
      {
        name: 'eflags',
        size: 4,
        type: 'i386_eflags',
        read: (s) => s.regs.rflags,
        write: (s, value) => void (s.regs.rflags = value),
      },
      ...SEGMENTS.map(
        (name): Register => ({
          name,
          size: 4,
          type: 'int32',
          read: (state) => BigInt(state.sregs[name].selector),
          write: (state, value) => {
            state.sregs[name].selector = Number(value & 0xffffn);
          },
        }),
      ),
      ...Array.from({ length: 8 }, (_, i) => fx(`st${i}`, 'i387_ext', 10, FX_ST + i * 16)),
      fx('fctrl', 'int', 4, FX_FCW, 2, 'float'),
      fx('fstat', 'int', 4, FX_FSW, 2, 'float'),
      { name: 'ftag', size: 4, type: 'int', group: 'float', read: readTags, write: writeTags },
      absent('fiseg'),
      fx('fioff', 'int', 4, FX_FIP, 4, 'float'),
      absent('foseg'),
      fx('fooff', 'int', 4, FX_FDP, 4, 'float'),
      fx('fop', 'int', 4, FX_FOP, 2, 'float'),
    ],
  },
  {
    name: 'org.gnu.gdb.i386.sse',
    types: VECTOR_TYPES + VECTOR_UNION + flagsType('i386_mxcsr', 4, MXCSR),
    registers: [
      ...Array.from({ length: 16 }, (_, i) => fx(`xmm${i}`, 'vec128', 16, FX_XMM + i * 16)),
      fx('mxcsr', 'i386_mxcsr', 4, FX_MXCSR, 4, 'vector'),
    ],
  },
  {
    name: 'org.gnu.gdb.i386.segments',
    registers: (['fs', 'gs'] as const).map((name) => ({
      name: `${name}_base`,
      size: 8,
      type: 'int64',
      read: (state) => state.sregs[name].base,
      write: (state, value) => {
        state.sregs[name].base = value;
      },
    })),
  },
  {
    // Not one of GDB's own: it shows such registers as they come.
    name: 'org.vivarium.x86-64.system',
    types: flagsType('x86_cr0', 8, CR0) + flagsType('x86_cr4', 8, CR4) + flagsType('x86_efer', 8, EFER),
    registers: [
      ...CONTROL.map(
        (name): Register => ({
          name,
          size: 8,
          type: name === 'cr0' || name === 'cr4' || name === 'efer' ? `x86_${name}` : 'int64',
          group: 'system',
          read: (state) => state.sregs[name],
          write: (state, value) => {
            state.sregs[name] = value;
          },
        }),
      ),
      {
        name: 'k_gs_base',
        size: 8,
        type: 'int64',
        group: 'system',
        read: (s) => s.kernelGsBase,
        write: (s, value) => void (s.kernelGsBase = value),
      },
    ],
  },
];

const REGISTERS: readonly Register[] = FEATURES.flatMap((feature) => feature.registers);

/** How many registers there are; their numbers are 0 to this - 1. */
export const REGISTER_COUNT = REGISTERS.length;

/** The target description, as `target.xml`. */
export const TARGET_XML = `<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">\
<architecture>i386:x86-64</architecture>\
${FEATURES.map(describe).join('')}</target>`;

function describe(feature: Feature): string {
  const registers = feature.registers.map((r) => {
    const group = r.group === undefined ? '' : ` group="${r.group}"`;
    return `<reg name="${r.name}" bitsize="${r.size * 8}" type="${r.type}"${group}/>`;
  });
  return `<feature name="${feature.name}">${feature.types ?? ''}${registers.join('')}</feature>`;
}

/** A register's bytes, least significant first; undefined where there is no such register. */
export function readRegister(state: CpuState, number: number): Uint8Array | undefined {
  const register = REGISTERS[number];
  if (register === undefined) return undefined;
  const value = register.read(state);
  return Uint8Array.from({ length: register.size }, (_, i) => Number((value >> BigInt(i * 8)) & 0xffn));
}

/** Changes a register in `state`. Returns false where there is none, or the bytes are not as many as it has. */
export function writeRegister(state: CpuState, number: number, bytes: Uint8Array): boolean {
  const register = REGISTERS[number];
  if (register === undefined || bytes.length !== register.size) return false;
  register.write(
    state,
    bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n),
  );
  return true;
}

/** All registers, as `g` gives them. */
export function readAll(state: CpuState): Uint8Array {
  return Buffer.concat(REGISTERS.map((_, number) => readRegister(state, number) as Uint8Array));
}

/** All registers, as `G` gives them; GDB may leave out the last. Returns false, with nothing changed, when a register is cut off. */
export function writeAll(state: CpuState, bytes: Uint8Array): boolean {
  const writes: (() => void)[] = [];
  let at = 0;
  for (let number = 0; number < REGISTERS.length && at < bytes.length; number++) {
    const size = (REGISTERS[number] as Register).size;
    const part = bytes.subarray(at, at + size);
    if (part.length !== size) return false;
    writes.push(() => writeRegister(state, number, part));
    at += size;
  }
  if (at !== bytes.length) return false;
  for (const write of writes) write();
  return true;
}
