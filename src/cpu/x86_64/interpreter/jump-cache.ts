// Where jumps went lately (layout.ts, JUMP_CACHE): the interpreter fills it, regions look there too.

import { constI32, constI64, type Expr, i32, i64, load } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';

/** Address of the entry for an instruction pointer (i64). */
export function jumpEntry(ip: Expr): Expr {
  const hash = i32.xor(i32.wrap_i64(ip), i32.wrap_i64(i64.shr_u(ip, constI64(12))));
  const offset = i32.and(i32.shl(hash, constI32(5)), constI32((L.JUMP_CACHE_ENTRIES - 1) * L.JUMP_CACHE_ENTRY));
  return i32.add(constI32(L.JUMP_CACHE), offset);
}

/** What an entry's key, or that of a link to another page, must be now (i64); `mode` is MODE (i64). */
export function jumpKey(mode: Expr): Expr {
  return i64.or(load('i64.load', constI32(L.JUMP_EPOCH)), mode);
}
