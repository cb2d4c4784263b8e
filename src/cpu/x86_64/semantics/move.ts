// Data movement (SDM volume 2: MOV, MOVZX, MOVSX, XCHG, CMOVcc, SETcc, LEA, XADD, CMPXCHG*, CBW.., XLAT, LAHF/SAHF, flag bits).

import { constI32, constI64, type Expr, i32, i64, load, select } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { asI64, CONDITIONS, type Emitter, signExtend, zeroExtend } from './emitter.ts';
import { instruction } from './instruction.ts';
import { checkAligned } from './vector.ts';

instruction(
  'mov',
  [
    '88 Eb,Gb',
    '89 Ev,Gv',
    '8A Gb,Eb',
    '8B Gv,Ev',
    'C6/0 Eb,Ib',
    'C7/0 Ev,Iz',
    'B0+ Zb,Ib',
    'B8+ Zv,Iv',
    'A0 AL,Ob',
    'A1 rAX,Ov',
    'A2 Ob,AL',
    'A3 Ov,rAX',
    '0F C3 My,Gy np',
  ],
  (e, d, s) => e.write(d, e.read(s)),
);

instruction('movzx', ['0F B6 Gv,Eb', '0F B7 Gv,Ew'], (e, d, s) => e.write(d, e.read(s)));
instruction('movsx', ['0F BE Gv,Eb', '0F BF Gv,Ew'], (e, d, s) => e.write(d, e.readSigned(s)));
// With 16-bit operands the source has 16 bits too.
instruction('movsxd', ['63 Gv,Ed o64'], (e, d, s) => e.write(d, e.readSigned({ ...s, size: Math.min(e.size, 4) })));

instruction('lea', ['8D Gv,M'], (e, d) => e.write(d, e.effectiveAddress()));

instruction('xchg', ['86 Eb,Gb lock', '87 Ev,Gv lock'], (e, d, s) => {
  const b = e.read(s);
  const a = e.modify(d);
  e.write(d, b);
  e.write(s, a);
  // In memory it is locked, with a LOCK prefix or without.
  if (d.place === 'memory') e.f.fence();
});
instruction('xchg', ['90+ Zv,rAX'], (e, d, s) => {
  const a = e.read(d);
  const b = e.read(s);
  e.write(d, b);
  e.write(s, a);
});
instruction('xadd', ['0F C0 Eb,Gb lock', '0F C1 Ev,Gv lock'], (e, d, s) => {
  const b = e.readSigned(s);
  const a = e.modify(d, true);
  const r = e.f.let(signExtend(d.size, i64.add(a, b)));
  // Of one register twice, the sum stays.
  if (d.place === 'memory') {
    e.write(d, r);
    e.write(s, a);
  } else {
    e.write(s, a);
    e.write(d, r);
  }
  e.flagsAdd(a, b, r);
});

instruction('cmpxchg', ['0F B0 Eb,Gb lock', '0F B1 Ev,Gv lock'], (e, d, s) => {
  const { f } = e;
  const { size } = d;
  const accumulator = f.let(signExtend(size, e.gpr(0, size)));
  const replacement = e.read(s);
  const old = e.modify(d, true);
  const equal = f.let(i64.eq(accumulator, old));
  // Memory is written either way; a register only if equal: its upper half stays otherwise.
  if (d.place === 'memory') e.write(d, select(replacement, old, equal));
  else f.if(equal, () => e.write(d, replacement));
  f.if(i32.eqz(equal), () => e.setGpr(0, size, old));
  e.flagsSub(accumulator, old, f.let(signExtend(size, i64.sub(accumulator, old))));
});

/** ZF alone changes. */
function setZero(e: Emitter, zero: Expr): void {
  const rest = i64.and(e.arithmeticFlags(), constI64(L.FLAGS_ARITH & ~L.FLAG_ZF));
  e.flagsAll(i64.or(rest, i64.shl(asI64(zero), constI64(6))));
}

instruction('cmpxchg8b', ['0F C7/1 Mv lock'], (e, d) => {
  const { f } = e;
  const half = d.size === 8 ? 8 : 4;
  if (half === 8) checkAligned(e, { ...d, size: 16 });
  const host = e.hostForWrite(half * 2, true);
  const at = (offset: number): Expr => load(half === 8 ? 'i64.load' : 'i64.load32_u', host, offset);
  const low = f.let(at(0));
  const high = f.let(at(half));
  const equal = f.let(i32.and(i64.eq(low, e.gpr(0, half)), i64.eq(high, e.gpr(2, half))));
  const op = half === 8 ? 'i64.store' : 'i64.store32';
  f.store(op, host, select(e.gpr(3, half), low, equal));
  f.store(op, host, select(e.gpr(1, half), high, equal), half);
  e.commit();
  f.if(i32.eqz(equal), () => {
    e.setGpr(0, half, low);
    e.setGpr(2, half, high);
  });
  setZero(e, equal);
});

CONDITIONS.forEach((name, cc) => {
  const digit = cc.toString(16).toUpperCase();
  instruction(`cmov${name}`, [`0F 4${digit} Gv,Ev`], (e, d, s) => {
    // The source is read whatever the condition, and a 32-bit destination loses its upper half either way.
    const value = e.read(s);
    e.write(d, select(value, e.read(d), e.condition(cc)));
  });
  instruction(`set${name}`, [`0F 9${digit} Eb`], (e, d) => e.write(d, e.f.let(asI64(e.condition(cc)))));
});

// CBW CWDE CDQE; CWD CDQ CQO.
instruction('cbw', ['98 rAX'], (e, d) => {
  const half = d.size / 2;
  e.write(d, signExtend(half, e.gpr(0, half)));
});
instruction('cwd', ['99 rAX'], (e, d) => {
  e.setGpr(2, d.size, i64.shr_s(e.readSigned(d), constI64(63)));
});

instruction('xlat', ['D7 mode'], (e) => {
  const { f } = e;
  if (e.long) {
    const record = e.record();
    const base = load('i64.load', load('i32.load16_u', record, L.R_SEG));
    const sum = f.let(i64.add(e.gpr(3, 8), e.gpr(0, 1)));
    const short = i32.and(load('i32.load8_u', record, L.R_PREFIX), constI32(L.RP_ADDR32));
    const offset = select(zeroExtend(4, sum), sum, short);
    e.setGpr(0, 1, e.load(1, f.let(i64.add(offset, base))));
  } else {
    e.status('xlat_legacy', e.record());
  }
});

instruction('lahf', ['9F'], (e) => {
  // AH: SF ZF 0 AF 0 PF 1 CF.
  e.setHigh(i64.or(i64.and(e.arithmeticFlags(), constI64(0xd5)), constI64(2)));
});
instruction('sahf', ['9E'], (e) => {
  const keep = i64.and(e.arithmeticFlags(), constI64(L.FLAG_OF));
  e.flagsAll(e.f.let(i64.or(keep, i64.and(i64.shr_u(e.gpr(0, 2), constI64(8)), constI64(0xd5)))));
});

function carryFlag(name: string, opcode: string, change: (flags: Expr) => Expr): void {
  instruction(name, [opcode], (e) => e.flagsAll(e.f.let(change(e.arithmeticFlags()))));
}
carryFlag('cmc', 'F5', (flags) => i64.xor(flags, constI64(1)));
carryFlag('clc', 'F8', (flags) => i64.and(flags, constI64(-2)));
carryFlag('stc', 'F9', (flags) => i64.or(flags, constI64(1)));
// SALC: undocumented, but every processor has it.
instruction('salc', ['D6 i64'], (e) => e.setGpr(0, 1, i64.sub(constI64(0), e.carry())));

function direction(name: string, opcode: string, set: boolean): void {
  instruction(name, [opcode], (e) => {
    const flags = e.state('i32.load', L.FLAGS);
    e.setState('i32.store', L.FLAGS, set ? i32.or(flags, constI32(L.FLAG_DF)) : i32.and(flags, constI32(~L.FLAG_DF)));
  });
}
direction('cld', 'FC', false);
direction('std', 'FD', true);

// NOP (also with F3: PAUSE), the hint space, ENDBR, PREFETCH.
instruction(
  'nop',
  ['90', '0F 0D Ev', '0F 18 Ev', '0F 19 Ev', '0F 1A Ev', '0F 1B Ev', '0F 1C Ev', '0F 1D Ev', '0F 1E Ev', '0F 1F Ev'],
  () => {},
);
// Devices are other threads: a store must not be seen after a load that follows MFENCE (or a LOCK). Other orders x86 hosts keep.
instruction('mfence', ['0F AE/6 reg np'], (e) => e.f.fence());
instruction('fence', ['0F AE/5 reg', '0F AE/7 reg'], () => {});
// CLFLUSH* and CLDEMOTE have no cache to work on, but check their address.
instruction('clflush', ['0F AE/7 Mb', '66 0F AE/6 Mb'], (e, d) => void e.read(d));
