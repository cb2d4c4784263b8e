// System instructions (SDM volume 2 and 3): all in helpers, which check privilege and mode.

import { constI32, constI64, i32, load } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import type { Emitter } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { instruction } from './instruction.ts';

const hostValue = () => load('i64.load', constI32(L.HOST_VALUE));

/** Instructions that are one call, with nothing to pass. */
const PLAIN: readonly [name: string, line: string, helper: HelperName][] = [
  ['hlt', 'F4 end', 'hlt'],
  ['cli', 'FA', 'cli'],
  ['sti', 'FB', 'sti'],
  ['clts', '0F 06', 'clts'],
  ['syscall', '0F 05 end', 'syscall'],
  ['sysenter', '0F 34 end', 'sysenter'],
  ['swapgs', '0F 01:F8 o64', 'swapgs'],
  ['invd', '0F 08', 'wbinvd'],
  ['wbinvd', '0F 09', 'wbinvd'],
  ['rdtsc', '0F 31', 'rdtsc'],
  ['rdtscp', '0F 01:F9', 'rdtscp'],
  ['rdpmc', '0F 33', 'rdpmc'],
  ['rdmsr', '0F 32', 'rdmsr'],
  ['wrmsr', '0F 30 end', 'wrmsr'],
  ['cpuid', '0F A2', 'cpuid'],
  ['xgetbv', '0F 01:D0 np', 'xgetbv'],
  ['xsetbv', '0F 01:D1 np', 'xsetbv'],
];
for (const [name, line, helper] of PLAIN) instruction(name, [line], (e) => e.status(helper));

instruction('clac', ['0F 01:CA np'], (e) => e.status('set_ac', constI32(0)));
instruction('stac', ['0F 01:CB np'], (e) => e.status('set_ac', constI32(1)));
instruction('sysret', ['0F 07 opsize end'], (e) => e.status('sysret', constI32(e.size)));
instruction('sysexit', ['0F 35 opsize end'], (e) => e.status('sysexit', constI32(e.size)));

// ---- Segment registers -------------------------------------------------------------------------------------------------
instruction('mov', ['8E Sw,Ew'], (e, d, s) => {
  e.status('load_segment', e.number(d), i32.wrap_i64(e.read(s)));
});
instruction('mov', ['8C Ev,Sw'], (e, d, s) => {
  const entry = i32.mul(e.number(s), constI32(L.SEG_SIZE));
  const selector = load('i64.load32_u', entry, L.SEG + L.SEG_O_SELECTOR);
  // A memory destination is always 16 bits.
  e.write(d.place === 'memory' ? { ...d, size: 2 } : d, e.f.let(selector));
});

/** SLDT, STR, SMSW: helper checks and leaves the value in HOST_VALUE. */
function storeWord(name: 'sldt' | 'str' | 'smsw', line: string): void {
  instruction(name, [line], (e, d) => {
    e.status(name);
    e.write(d.place === 'memory' ? { ...d, size: 2 } : d, e.f.let(hostValue()));
  });
}
storeWord('sldt', '0F 00/0 Ev');
storeWord('str', '0F 00/1 Ev');
storeWord('smsw', '0F 01/4 Ev');

function loadWord(name: 'lldt' | 'ltr' | 'lmsw' | 'verr' | 'verw', line: string): void {
  instruction(name, [line], (e, s) => e.status(name, i32.wrap_i64(e.read(s))));
}
loadWord('lldt', '0F 00/2 Ew');
loadWord('ltr', '0F 00/3 Ew');
loadWord('verr', '0F 00/4 Ew');
loadWord('verw', '0F 00/5 Ew');
loadWord('lmsw', '0F 01/6 Ew');

/** LAR and LSL: the destination changes only when ZF was set. */
for (const [name, opcode] of [
  ['lar', '02'],
  ['lsl', '03'],
] as const) {
  instruction(name, [`0F ${opcode} Gv,Ew`], (e, d, s) => {
    e.status(name, i32.wrap_i64(e.read(s)));
    e.f.if(e.condition(4), () => e.write(d, e.f.let(hostValue())));
  });
}
instruction('arpl', ['63 Ew,Gw i64'], (e, d, s) => {
  const source = i32.wrap_i64(e.read(s));
  e.status('arpl', i32.wrap_i64(e.modify(d)), source);
  e.write(d, e.f.let(hostValue()));
});

// ---- Descriptor tables ---------------------------------------------------------------------------------------------------
instruction('sgdt', ['0F 01/0 M mode'], (e) => e.status('sgdt', e.linearAddress(e.long ? 10 : 6, true)));
instruction('sidt', ['0F 01/1 M mode'], (e) => e.status('sidt', e.linearAddress(e.long ? 10 : 6, true)));
/** Operand size of the base: 24 bits with a 16-bit operand size, outside 64-bit mode. */
instruction('lgdt', ['0F 01/2 Mv mode end'], (e) =>
  e.status('lgdt', e.linearAddress(e.long ? 10 : 6, false), constI32(e.long ? 8 : e.size)),
);
instruction('lidt', ['0F 01/3 Mv mode end'], (e) =>
  e.status('lidt', e.linearAddress(e.long ? 10 : 6, false), constI32(e.long ? 8 : e.size)),
);
instruction('invlpg', ['0F 01/7 Mb'], (e) => {
  // No access is made: the address needs no translation and no limit check.
  e.status('invlpg_op', e.linearAddress(0, false));
});
instruction('invpcid', ['66 0F38 82 Gy,M'], (e, d) => {
  const kind = e.read(d);
  e.status('invpcid_op', kind, e.linearAddress(16, false));
});

// ---- Control and debug registers: always 64 bits wide in 64-bit mode -------------------------------------------------------
const width = (e: Emitter): number => (e.long ? 8 : 4);
instruction('mov', ['0F 20 Ry,Cy mode'], (e, d, s) => {
  e.status('mov_from_cr', e.number(s));
  e.write({ ...d, size: width(e) }, e.f.let(hostValue()));
});
instruction('mov', ['0F 22 Cy,Ry mode end'], (e, d, s) =>
  e.status('mov_to_cr', e.number(d), e.read({ ...s, size: width(e) })),
);
instruction('mov', ['0F 21 Ry,Dy mode'], (e, d, s) => {
  e.status('mov_from_dr', e.number(s));
  e.write({ ...d, size: width(e) }, e.f.let(hostValue()));
});
instruction('mov', ['0F 23 Dy,Ry mode end'], (e, d, s) =>
  e.status('mov_to_dr', e.number(d), e.read({ ...s, size: width(e) })),
);

// ---- FSGSBASE, RDPID, random numbers ---------------------------------------------------------------------------------------
for (const [digit, segment] of [
  [0, 4],
  [1, 5],
] as const) {
  instruction('rdfsbase', [`F3 0F AE/${digit} Ry o64`], (e, d) => {
    e.status('rdfsgsbase', constI32(segment));
    e.write(d, e.f.let(hostValue()));
  });
  instruction('wrfsbase', [`F3 0F AE/${digit + 2} Ry o64`], (e, s) =>
    e.status('wrfsgsbase', constI32(segment), e.read(s)),
  );
}
instruction('rdpid', ['F3 0F C7/7 Rv'], (e, d) => {
  const value = e.state('i64.load32_u', L.MSR_TSC_AUX);
  e.write(d.size === 2 ? { ...d, size: 4 } : d, value);
});
/** RDRAND, RDSEED: random bits in HOST_VALUE, CF set, the other flags clear. */
for (const [name, digit] of [
  ['rdrand', 6],
  ['rdseed', 7],
] as const) {
  instruction(name, [`0F C7/${digit} Rv np`], (e, d) => {
    e.run('random');
    e.write(d, e.f.let(hostValue()));
    e.flagsAll(constI64(L.FLAG_CF));
  });
}
