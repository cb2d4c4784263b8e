// A region's function as it is written: the same wherever its code is mapped, its records lie, and in whatever module it stands. What is not the
// same is filled in when it is placed (place.ts).

import { type Callee, type Expr, placedI32 } from '../../../wasm/expr.ts';
import type { FinishedBody } from '../../../wasm/function.ts';
import { HELPERS, type HelperName } from '../semantics/helper-names.ts';

/** Kinds of what is filled in (Placed in wasm/expr.ts), and what `value` is of each. */
export const PLACED = {
  /** Address of a record: bytes from the region's first one. */
  record: 0,
  /** Host address of the second page of an instruction that crosses: its HANDLER_CROSS record, as above. */
  second: 1,
  /** Index of a helper's function: its number in HELPER_NAMES. */
  helper: 2,
  /** Of a way to a sibling, by its number in `ways`: record there, its slot, its function's index. */
  target: 3,
  slot: 4,
  sibling: 5,
} as const;

/** A look whether a branch goes to a region of the same module, and the jump there: instructions without effect on what is behind them. */
export interface SiblingWay {
  /** In the function's body. */
  readonly start: number;
  readonly end: number;
  /** The branch's record, as PLACED.record. */
  readonly record: number;
  /** By its link to another page. */
  readonly isFar: boolean;
}

/** Of all modules of regions: index of the handlers' type. */
export const HANDLER_TYPE = 0;

export interface Template extends FinishedBody {
  readonly ways: readonly SiblingWay[];
}

export const HELPER_NAMES = Object.keys(HELPERS) as readonly HelperName[];

const callees = new Map<HelperName, Callee>(HELPER_NAMES.map((name, value) => [name, { kind: PLACED.helper, value }]));

export function helperCallee(name: HelperName): Callee {
  return callees.get(name) as Callee;
}

/** Address of a record, `record` bytes behind the region's first one. */
export function recordAddress(record: number): Expr {
  return placedI32({ kind: PLACED.record, value: record });
}
