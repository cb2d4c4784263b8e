// Where the TLB has an address (layout.ts, TLB_*): the interpreter and regions look there inline.

import { constI32, type Expr, i32 } from '../../../wasm/expr.ts';
import * as L from '../layout.ts';

/** Address of the entry for a linear address, of which `low` are the low 32 bits; `tlb` is TLB_BASE. All i32. */
export function tlbEntry(tlb: Expr, low: Expr): Expr {
  return i32.add(tlb, i32.and(i32.shr_u(low, constI32(7)), constI32((L.TLB_ENTRIES - 1) * L.TLB_ENTRY)));
}
