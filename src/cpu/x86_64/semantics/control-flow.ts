// Branches (SDM volume 2: JMP, Jcc, CALL, RET, LOOP*, JrCXZ, far transfers, interrupts).

import { constI32, constI64, type Expr, i32, i64, load, select } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { CONDITIONS, type Emitter, zeroExtend } from './emitter.ts';
import { instruction } from './instruction.ts';

/** The direct target must be one, if the branch is taken. */
function checkIf(e: Emitter, taken: Expr): void {
  if (!e.long) e.f.if(taken, () => e.checkBranch());
}

CONDITIONS.forEach((name, cc) => {
  const digit = cc.toString(16).toUpperCase();
  instruction(`j${name}`, [`7${digit} Jb f64 mode`, `0F 8${digit} Jz f64 mode`], (e) => {
    const taken = e.condition(cc);
    checkIf(e, taken);
    e.branchIf(taken);
  });
});

instruction('jmp', ['EB Jb f64 mode end', 'E9 Jz f64 mode end'], (e) => {
  e.checkBranch();
  e.branch();
});
instruction('jmp', ['FF/4 Ev f64 mode end'], (e, d) => {
  const target = e.f.let(zeroExtend(e.size, e.read(d)));
  e.checkTarget(target);
  e.jump(target);
});

instruction('call', ['E8 Jz f64 mode end'], (e) => {
  e.checkBranch();
  e.push(e.size, e.nextIp());
  e.branch();
});
instruction('call', ['FF/2 Ev f64 mode end'], (e, d) => {
  const target = e.f.let(zeroExtend(e.size, e.read(d)));
  e.push(e.size, e.nextIp(), () => e.checkTarget(target));
  e.jump(target);
});

instruction('ret', ['C3 f64 mode end', 'C2 Iw f64 mode end'], (e, count) => {
  const target = e.top(e.size);
  e.checkTarget(target);
  const extra = count ? i64.and(e.immediate(), constI64(0xffff)) : constI64(0);
  e.popCommit(i64.add(extra, constI64(e.size)));
  e.jump(target);
});

/** Counter of LOOP and JrCXZ by the address size: its value after `step`, and how to write it. */
function counter(e: Emitter, step: number) {
  const { f } = e;
  const prefix = f.let(load('i32.load8_u', e.record(), L.R_PREFIX));
  const full = e.gpr(1, 8);
  const mask = f.let(
    select(
      constI64(0xffff),
      select(constI64(0xffffffff), constI64(-1), i32.and(prefix, constI32(L.RP_ADDR32))),
      i32.and(prefix, constI32(L.RP_ADDR16)),
    ),
  );
  const value = f.let(i64.and(i64.add(full, constI64(step)), mask));
  const write = (): void => {
    // A 16-bit counter leaves the rest of the register alone; a 32-bit one clears the upper half.
    const kept = select(i64.and(full, constI64(-65536)), constI64(0), i32.and(prefix, constI32(L.RP_ADDR16)));
    e.setGpr(1, 8, i64.or(kept, value));
  };
  return { value, write };
}

for (const [name, opcode, cc] of [
  ['loopne', 'E0', 5],
  ['loope', 'E1', 4],
  ['loop', 'E2', -1],
] as const) {
  instruction(name, [`${opcode} Jb f64 mode`], (e) => {
    const { value, write } = counter(e, -1);
    const more = i64.ne(value, constI64(0));
    const taken = e.f.let(cc < 0 ? more : i32.and(e.condition(cc), more));
    checkIf(e, taken);
    write();
    e.branchIf(taken);
  });
}
instruction('jrcxz', ['E3 Jb f64 mode'], (e) => {
  const taken = e.f.let(i64.eqz(counter(e, 0).value));
  checkIf(e, taken);
  e.branchIf(taken);
});

// ---- Far transfers and interrupts: all in helpers ----------------------------------------------------------------------
const low16 = (e: Emitter) => i32.and(i32.wrap_i64(e.immediate2()), constI32(0xffff));

instruction('jmpf', ['EA Ap i64 end'], (e) =>
  e.status('far_jump', low16(e), zeroExtend(e.size, e.immediate()), constI32(e.size)),
);
instruction('callf', ['9A Ap i64 end'], (e) =>
  e.status('far_call', low16(e), zeroExtend(e.size, e.immediate()), constI32(e.size)),
);

/** A far pointer in memory: offset, then selector. */
function farPointer(e: Emitter) {
  const { f } = e;
  const host = e.hostForRead(e.size + 2);
  const offset = f.let(
    e.size === 8 ? load('i64.load', host) : load(e.size === 4 ? 'i64.load32_u' : 'i64.load16_u', host),
  );
  return { offset, selector: f.let(load('i32.load16_u', host, e.size)) };
}

instruction('jmpf', ['FF/5 Mv end'], (e) => {
  const { offset, selector } = farPointer(e);
  e.status('far_jump', selector, offset, constI32(e.size));
});
instruction('callf', ['FF/3 Mv end'], (e) => {
  const { offset, selector } = farPointer(e);
  e.status('far_call', selector, offset, constI32(e.size));
});

/** LES, LDS, LSS, LFS, LGS. */
for (const [index, line] of [
  [0, 'C4 Gv,Mv i64 end'],
  [3, 'C5 Gv,Mv i64 end'],
  [2, '0F B2 Gv,Mv end'],
  [4, '0F B4 Gv,Mv end'],
  [5, '0F B5 Gv,Mv end'],
] as const) {
  instruction('lds', [line], (e, d) => {
    const { offset, selector } = farPointer(e);
    e.statusThen('load_segment', [constI32(index), selector], () => e.write(d, offset));
  });
}

instruction('retf', ['CB opsize end', 'CA Iw opsize end'], (e, count) => {
  e.status('far_ret', constI32(e.size), count ? i32.and(i32.wrap_i64(e.immediate()), constI32(0xffff)) : constI32(0));
});
instruction('iret', ['CF opsize end'], (e) => e.status('iret', constI32(e.size)));
instruction('int', ['CD Ib end'], (e) => e.status('int_n', i32.and(i32.wrap_i64(e.immediate()), constI32(0xff))));
instruction('int3', ['CC end'], (e) => e.status('int3'));
instruction('into', ['CE i64 end'], (e) => e.status('into'));
instruction('int1', ['F1 end'], (e) => e.status('int1'));
instruction('bound', ['62 Gv,Mv i64'], (e, d) => {
  const { f } = e;
  const { size } = d;
  const host = e.hostForRead(size * 2);
  const op = size === 2 ? 'i64.load16_s' : 'i64.load32_s';
  const value = e.readSigned(d);
  const outside = i32.or(i64.lt_s(value, load(op, host)), i64.gt_s(value, load(op, host, size)));
  f.if(outside, () => e.status('raise', constI32(5)));
});
instruction('ud', ['0F 0B', '0F B9 Ev', '0F FF Ev'], (e) => e.undefinedOpcode());
