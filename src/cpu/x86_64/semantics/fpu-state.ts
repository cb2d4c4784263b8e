// x87's control and status words, EMMS, and saved FPU and SSE state (SDM volume 2).

import { constI32, i32 } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';
import type { Emitter } from './emitter.ts';
import type { HelperName } from './helper-names.ts';
import { instruction } from './instruction.ts';

/** Availability and pending exceptions come before any fault of the memory operand. */
export function enterFpu(e: Emitter): void {
  e.status('fpu_available');
  e.status('fpu_pending');
}

instruction('fninit', ['DB:E3'], (e) => e.status('fpu_initialize'));
instruction('fnclex', ['DB:E2'], (e) => e.status('fpu_clear_exceptions'));
instruction('fwait', ['9B'], (e) => e.status('fpu_wait'));
instruction('emms', ['0F 77 np'], (e) => e.status('fpu_empty'));
instruction('fldcw', ['D9/5 Mw'], (e, s) => {
  enterFpu(e);
  e.status('fpu_load_control', i32.wrap_i64(e.read(s)));
});
instruction('fnstcw', ['D9/7 Mw'], (e, d) => {
  e.status('fpu_available');
  e.write(d, e.state('i64.load32_u', L.FCW));
});
instruction('fnstsw', ['DD/7 Mw'], (e, d) => {
  e.status('fpu_available');
  e.write(d, e.state('i64.load32_u', L.FSW));
});
instruction('fnstsw', ['DF:E0'], (e) => {
  e.status('fpu_available');
  e.setGpr(0, 2, e.state('i64.load32_u', L.FSW));
});

/** Bytes of the legacy area, and with XSAVE's header. */
const FXSAVE_SIZE = 512;
const XSAVE_SIZE = 576;
function saved(
  name: HelperName & ('fxsave' | 'fxrstor' | 'xsave' | 'xsaveopt' | 'xsavec' | 'xrstor'),
  line: string,
  size: number,
  write: boolean,
): void {
  instruction(name, [`${line} My np`], (e) => e.status(name, e.linearAddress(size, write), constI32(e.size)));
}
saved('fxsave', '0F AE/0', FXSAVE_SIZE, true);
saved('fxrstor', '0F AE/1', FXSAVE_SIZE, false);
saved('xsave', '0F AE/4', XSAVE_SIZE, true);
saved('xsaveopt', '0F AE/6', XSAVE_SIZE, true);
saved('xsavec', '0F C7/4', XSAVE_SIZE, true);
saved('xrstor', '0F AE/5', XSAVE_SIZE, false);
