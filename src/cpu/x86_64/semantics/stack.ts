// Stack instructions (SDM volume 2: PUSH, POP, PUSHF, POPF, PUSHA, POPA, ENTER, LEAVE).

import { constI32, constI64, i32, i64, load } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import { instruction } from './instruction.ts';

instruction('push', ['50+ Zv d64 mode', 'FF/6 Ev d64 mode', '68 Iz d64 mode', '6A Ib d64 mode'], (e, s) => {
  e.push(e.size, e.readSigned(s));
});

instruction('pop', ['58+ Zv d64 mode'], (e, d) => {
  const value = e.top(e.size);
  // POP rSP: the stack pointer moves first.
  e.popCommit(constI64(e.size));
  e.write(d, value);
});

instruction('pop', ['8F/0 Ev d64 mode'], (e, d) => {
  const value = e.top(e.size);
  if (d.place !== 'memory') {
    e.popCommit(constI64(e.size));
    e.write(d, value);
    return;
  }
  // The destination's address is computed with the stack pointer already moved; a fault moves it back.
  const old = e.f.copy(e.gpr(4, 8));
  e.popCommit(constI64(e.size));
  const moved = e.f.copy(e.gpr(4, 8));
  const address = e.linearAddressOrRestore(e.size, old);
  e.setGpr(4, 8, old);
  e.store(e.size, address, value);
  e.setGpr(4, 8, moved);
});

instruction('pushf', ['9C d64 mode'], (e) => {
  e.status('pushf_value', constI32(e.size));
  e.push(e.size, load('i64.load', constI32(L.HOST_VALUE)));
});
instruction('popf', ['9D d64 mode end'], (e) => {
  const value = e.top(e.size);
  // popf moves the stack pointer itself, once it knows that it is allowed.
  e.status('popf', constI32(e.size), value);
});

/** PUSH and POP of segment registers: the number is the register's index (0 ES .. 5 GS). */
for (const [index, push, pop] of [
  [0, '06', '07'],
  [1, '0E', ''],
  [2, '16', '17'],
  [3, '1E', '1F'],
  [4, '0F A0', '0F A1'],
  [5, '0F A8', '0F A9'],
] as const) {
  const only32 = index < 4 ? ' i64' : '';
  const selector = L.SEG + index * L.SEG_SIZE + L.SEG_O_SELECTOR;
  instruction('push', [`${push} d64 mode${only32}`], (e) => {
    const value = load('i64.load32_u', constI32(selector));
    // A 32-bit push of a selector writes only its 16 bits on today's processors; a 64-bit push writes zeroes above.
    e.push(e.size, value);
  });
  if (pop) {
    instruction('pop', [`${pop} d64 mode end${only32}`], (e) => {
      const value = e.top(e.size);
      e.statusThen('load_segment', [constI32(index), i32.and(i32.wrap_i64(value), constI32(0xffff))], () =>
        e.popCommit(constI64(e.size)),
      );
    });
  }
}

instruction('pusha', ['60 i64 d64 mode'], (e) => e.status('pusha', constI32(e.size)));
instruction('popa', ['61 i64 d64 mode'], (e) => e.status('popa', constI32(e.size)));

instruction('enter', ['C8 Iw d64 mode'], (e) => {
  e.status('enter', constI32(e.size), i32.wrap_i64(e.immediate()), i32.wrap_i64(e.immediate2()));
});
instruction('leave', ['C9 d64 mode'], (e) => {
  if (!e.long) {
    e.status('leave_frame', constI32(e.size));
    return;
  }
  const frame = e.gpr(5, 8);
  const value = e.load(e.size, frame);
  e.setGpr(4, 8, i64.add(frame, constI64(e.size)));
  e.setGpr(5, e.size, value);
});
