// Expression trees over WebAssembly's instructions, with the folding that address and flag arithmetic needs.
//
// A tree is pure or reads memory; it is written to a function in post-order by FunctionBuilder. Whoever builds trees
// decides the order of effects by materialising with FunctionBuilder.let().

export type ValType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

export const OP_CONST = -1;
export const OP_LOCAL = -2;
export const OP_CALL = -3;
export const OP_SELECT = -4;
export const OP_PLACED = -5;
export const OP_I64_ADD = 0x7c;

/** One node of an expression tree. `code` is a WebAssembly opcode (0xfd00 + n for vector ones, 0xfc00 + n for 0xfc-prefixed), or OP_*. */
export class Expr {
  readonly code: number;
  readonly type: ValType;
  readonly args: readonly Expr[];
  /** Constant, local or function index, memory offset. */
  readonly value: number | bigint;
  /** Lane number, or bytes of a v128 constant or shuffle. */
  readonly extra: number | Uint8Array | undefined;

  constructor(code: number, type: ValType, args: readonly Expr[], value: number | bigint, extra?: number | Uint8Array) {
    this.code = code;
    this.type = type;
    this.args = args;
    this.value = value;
    this.extra = extra;
  }

  get isConst(): boolean {
    return this.code === OP_CONST;
  }
}

const NONE: readonly Expr[] = [];

export function constI32(value: number): Expr {
  return new Expr(OP_CONST, 'i32', NONE, value | 0);
}

export function constI64(value: bigint | number): Expr {
  return new Expr(OP_CONST, 'i64', NONE, BigInt.asIntN(64, BigInt(value)));
}

export function constF64(value: number): Expr {
  return new Expr(OP_CONST, 'f64', NONE, value);
}

export function constF32(value: number): Expr {
  return new Expr(OP_CONST, 'f32', NONE, value);
}

/** A number that is known only when the function that uses it is placed in a module: which one is up to whoever places it. */
export interface Placed {
  readonly kind: number;
  readonly value: number;
}

/** A function, by its index. */
export type Callee = number | Placed;

export function placedI32({ kind, value }: Placed): Expr {
  return new Expr(OP_PLACED, 'i32', NONE, value, kind);
}

/** @param bytes sixteen, little-endian */
export function constV128(bytes: Uint8Array): Expr {
  return new Expr(OP_CONST, 'v128', NONE, 0, bytes);
}

export function localGet(index: number, type: ValType): Expr {
  return new Expr(OP_LOCAL, type, NONE, index);
}

export function callExpr(callee: Callee, type: ValType, args: readonly Expr[]): Expr {
  if (typeof callee === 'number') return new Expr(OP_CALL, type, args, callee);
  return new Expr(OP_CALL, type, args, callee.value, callee.kind);
}

/** `condition ? a : b`, both evaluated. */
export function select(a: Expr, b: Expr, condition: Expr): Expr {
  if (condition.isConst) return condition.value !== 0 ? a : b;
  return new Expr(OP_SELECT, a.type, [a, b, condition], 0);
}

type Binary = (a: Expr, b: Expr) => Expr;
type Unary = (a: Expr) => Expr;

function binary(code: number, type: ValType): Binary {
  return (a, b) => new Expr(code, type, [a, b], 0);
}

function unary(code: number, type: ValType): Unary {
  return (a) => new Expr(code, type, [a], 0);
}

/** i32 operation whose operands may both be known. */
function fold32(code: number, compute: (a: number, b: number) => number, neutral?: number): Binary {
  return (a, b) => {
    if (b.isConst) {
      if (a.isConst) return constI32(compute(a.value as number, b.value as number));
      if (b.value === neutral) return a;
    }
    return new Expr(code, 'i32', [a, b], 0);
  };
}

/** Less a constant is plus another: first-tier code has only the sum with a constant in one instruction. */
const sub32 = (a: Expr, b: Expr): Expr =>
  b.isConst ? i32.add(a, constI32(-(b.value as number))) : new Expr(0x6b, 'i32', [a, b], 0);
const sub64 = (a: Expr, b: Expr): Expr =>
  b.isConst ? i64.add(a, constI64(-(b.value as bigint))) : new Expr(0x7d, 'i64', [a, b], 0);

function fold64(code: number, compute: (a: bigint, b: bigint) => bigint, neutral?: bigint): Binary {
  return (a, b) => {
    if (b.isConst) {
      if (a.isConst) return constI64(compute(a.value as bigint, b.value as bigint));
      if (b.value === neutral) return a;
    }
    return new Expr(code, 'i64', [a, b], 0);
  };
}

/** i64 comparison whose operands may both be known. */
function compare64(code: number, compute: (a: bigint, b: bigint) => boolean): Binary {
  return (a, b) =>
    a.isConst && b.isConst
      ? constI32(compute(a.value as bigint, b.value as bigint) ? 1 : 0)
      : new Expr(code, 'i32', [a, b], 0);
}

/** Comparisons of integers, and what is true where they are not: eq and ne, lt and ge, gt and le; signed, unsigned; of i32, then of i64. */
const OPPOSITES: ReadonlyMap<number, number> = new Map(
  [0x46, 0x51].flatMap((eq) =>
    [
      [0, 1],
      [2, 8],
      [3, 9],
      [4, 6],
      [5, 7],
    ].flatMap(([a = 0, b = 0]): [number, number][] => [
      [eq + a, eq + b],
      [eq + b, eq + a],
    ]),
  ),
);
const OP_I64_EQZ = 0x50;
const OP_I64_NE = 0x52;

/** Of a comparison the opposite one: first-tier code of both would hold the first one's result in a register. */
function eqz32(a: Expr): Expr {
  if (a.isConst) return constI32(a.value === 0 ? 1 : 0);
  if (a.code === OP_I64_EQZ) return new Expr(OP_I64_NE, 'i32', [...a.args, constI64(0)], 0);
  const opposite = OPPOSITES.get(a.code);
  return opposite === undefined ? new Expr(0x45, 'i32', [a], 0) : new Expr(opposite, 'i32', a.args, 0);
}

const unsigned = (value: bigint): bigint => BigInt.asUintN(64, value);

export const i32 = {
  const: constI32,
  eqz: eqz32,
  eq: fold32(0x46, (a, b) => (a === b ? 1 : 0)),
  ne: fold32(0x47, (a, b) => (a !== b ? 1 : 0)),
  lt_s: binary(0x48, 'i32'),
  lt_u: binary(0x49, 'i32'),
  gt_s: binary(0x4a, 'i32'),
  gt_u: binary(0x4b, 'i32'),
  le_s: binary(0x4c, 'i32'),
  le_u: binary(0x4d, 'i32'),
  ge_s: binary(0x4e, 'i32'),
  ge_u: binary(0x4f, 'i32'),
  clz: unary(0x67, 'i32'),
  ctz: unary(0x68, 'i32'),
  popcnt: unary(0x69, 'i32'),
  add: fold32(0x6a, (a, b) => a + b, 0),
  sub: sub32,
  mul: fold32(0x6c, Math.imul, 1),
  div_s: binary(0x6d, 'i32'),
  div_u: binary(0x6e, 'i32'),
  rem_s: binary(0x6f, 'i32'),
  rem_u: binary(0x70, 'i32'),
  and: fold32(0x71, (a, b) => a & b, -1),
  or: fold32(0x72, (a, b) => a | b, 0),
  xor: fold32(0x73, (a, b) => a ^ b, 0),
  shl: fold32(0x74, (a, b) => a << b, 0),
  shr_s: fold32(0x75, (a, b) => a >> b, 0),
  shr_u: fold32(0x76, (a, b) => a >>> b, 0),
  rotl: binary(0x77, 'i32'),
  rotr: binary(0x78, 'i32'),
  extend8_s: unary(0xc0, 'i32'),
  extend16_s: unary(0xc1, 'i32'),
  wrap_i64: (a: Expr): Expr => {
    if (a.isConst) return constI32(Number(BigInt.asIntN(32, a.value as bigint)));
    // wrap(extend(x)) is x.
    if (a.code === 0xac || a.code === 0xad) return a.args[0] as Expr;
    return new Expr(0xa7, 'i32', [a], 0);
  },
  trunc_sat_f32_s: unary(0xfc00, 'i32'),
  trunc_sat_f32_u: unary(0xfc01, 'i32'),
  trunc_sat_f64_s: unary(0xfc02, 'i32'),
  trunc_sat_f64_u: unary(0xfc03, 'i32'),
  reinterpret_f32: unary(0xbc, 'i32'),
};

export const i64 = {
  const: constI64,
  eqz: (a: Expr): Expr => (a.isConst ? constI32(a.value === 0n ? 1 : 0) : new Expr(OP_I64_EQZ, 'i32', [a], 0)),
  eq: compare64(0x51, (a, b) => a === b),
  ne: compare64(0x52, (a, b) => a !== b),
  lt_s: compare64(0x53, (a, b) => a < b),
  lt_u: compare64(0x54, (a, b) => unsigned(a) < unsigned(b)),
  gt_s: binary(0x55, 'i32'),
  gt_u: binary(0x56, 'i32'),
  le_s: binary(0x57, 'i32'),
  le_u: binary(0x58, 'i32'),
  ge_s: binary(0x59, 'i32'),
  ge_u: binary(0x5a, 'i32'),
  clz: unary(0x79, 'i64'),
  ctz: unary(0x7a, 'i64'),
  popcnt: unary(0x7b, 'i64'),
  add: fold64(0x7c, (a, b) => a + b, 0n),
  sub: sub64,
  mul: fold64(0x7e, (a, b) => a * b, 1n),
  div_s: binary(0x7f, 'i64'),
  div_u: binary(0x80, 'i64'),
  rem_s: binary(0x81, 'i64'),
  rem_u: binary(0x82, 'i64'),
  and: fold64(0x83, (a, b) => a & b, -1n),
  or: fold64(0x84, (a, b) => a | b, 0n),
  xor: fold64(0x85, (a, b) => a ^ b, 0n),
  shl: fold64(0x86, (a, b) => a << (b & 63n), 0n),
  shr_s: fold64(0x87, (a, b) => a >> (b & 63n), 0n),
  shr_u: fold64(0x88, (a, b) => unsigned(a) >> (b & 63n), 0n),
  rotl: binary(0x89, 'i64'),
  rotr: binary(0x8a, 'i64'),
  extend8_s: unary(0xc2, 'i64'),
  extend16_s: unary(0xc3, 'i64'),
  extend32_s: (a: Expr): Expr =>
    a.isConst ? constI64(BigInt.asIntN(32, a.value as bigint)) : new Expr(0xc4, 'i64', [a], 0),
  extend_i32_s: (a: Expr): Expr => (a.isConst ? constI64(a.value) : new Expr(0xac, 'i64', [a], 0)),
  extend_i32_u: (a: Expr): Expr => (a.isConst ? constI64((a.value as number) >>> 0) : new Expr(0xad, 'i64', [a], 0)),
  trunc_sat_f32_s: unary(0xfc04, 'i64'),
  trunc_sat_f32_u: unary(0xfc05, 'i64'),
  trunc_sat_f64_s: unary(0xfc06, 'i64'),
  trunc_sat_f64_u: unary(0xfc07, 'i64'),
  reinterpret_f64: unary(0xbd, 'i64'),
};

export const f32 = {
  const: constF32,
  eq: binary(0x5b, 'i32'),
  ne: binary(0x5c, 'i32'),
  lt: binary(0x5d, 'i32'),
  gt: binary(0x5e, 'i32'),
  le: binary(0x5f, 'i32'),
  ge: binary(0x60, 'i32'),
  abs: unary(0x8b, 'f32'),
  neg: unary(0x8c, 'f32'),
  nearest: unary(0x90, 'f32'),
  sqrt: unary(0x91, 'f32'),
  add: binary(0x92, 'f32'),
  sub: binary(0x93, 'f32'),
  mul: binary(0x94, 'f32'),
  div: binary(0x95, 'f32'),
  convert_i32_s: unary(0xb2, 'f32'),
  convert_i64_s: unary(0xb4, 'f32'),
  demote_f64: unary(0xb6, 'f32'),
  reinterpret_i32: unary(0xbe, 'f32'),
};

export const f64 = {
  const: constF64,
  eq: binary(0x61, 'i32'),
  ne: binary(0x62, 'i32'),
  lt: binary(0x63, 'i32'),
  gt: binary(0x64, 'i32'),
  le: binary(0x65, 'i32'),
  ge: binary(0x66, 'i32'),
  abs: unary(0x99, 'f64'),
  neg: unary(0x9a, 'f64'),
  nearest: unary(0x9e, 'f64'),
  sqrt: unary(0x9f, 'f64'),
  add: binary(0xa0, 'f64'),
  sub: binary(0xa1, 'f64'),
  mul: binary(0xa2, 'f64'),
  div: binary(0xa3, 'f64'),
  convert_i32_s: unary(0xb7, 'f64'),
  convert_i64_s: unary(0xb9, 'f64'),
  promote_f32: unary(0xbb, 'f64'),
  reinterpret_i64: unary(0xbf, 'f64'),
};

export type MemoryOp =
  | 'i32.load'
  | 'i64.load'
  | 'f32.load'
  | 'f64.load'
  | 'v128.load'
  | 'i32.load8_s'
  | 'i32.load8_u'
  | 'i32.load16_s'
  | 'i32.load16_u'
  | 'i64.load8_s'
  | 'i64.load8_u'
  | 'i64.load16_s'
  | 'i64.load16_u'
  | 'i64.load32_s'
  | 'i64.load32_u'
  | 'v128.load32_zero'
  | 'v128.load64_zero';

const LOAD_CODES: Record<MemoryOp, number> = {
  'i32.load': 0x28,
  'i64.load': 0x29,
  'f32.load': 0x2a,
  'f64.load': 0x2b,
  'v128.load': 0xfd00,
  'i32.load8_s': 0x2c,
  'i32.load8_u': 0x2d,
  'i32.load16_s': 0x2e,
  'i32.load16_u': 0x2f,
  'i64.load8_s': 0x30,
  'i64.load8_u': 0x31,
  'i64.load16_s': 0x32,
  'i64.load16_u': 0x33,
  'i64.load32_s': 0x34,
  'i64.load32_u': 0x35,
  'v128.load32_zero': 0xfd5c,
  'v128.load64_zero': 0xfd5d,
};

const LOADS = Object.fromEntries(
  Object.entries(LOAD_CODES).map(([op, code]) => [op, { code, type: op.slice(0, op.indexOf('.')) as ValType }]),
) as Record<MemoryOp, { readonly code: number; readonly type: ValType }>;

/** Reads memory at `address + offset`. */
export function load(op: MemoryOp, address: Expr, offset = 0): Expr {
  const { code, type } = LOADS[op];
  return new Expr(code, type, [address], offset);
}

export type StoreOp =
  | 'i32.store'
  | 'i64.store'
  | 'f32.store'
  | 'f64.store'
  | 'v128.store'
  | 'i32.store8'
  | 'i32.store16'
  | 'i64.store8'
  | 'i64.store16'
  | 'i64.store32';

export const STORES: Record<StoreOp, number> = {
  'i32.store': 0x36,
  'i64.store': 0x37,
  'f32.store': 0x38,
  'f64.store': 0x39,
  'v128.store': 0xfd0b,
  'i32.store8': 0x3a,
  'i32.store16': 0x3b,
  'i64.store8': 0x3c,
  'i64.store16': 0x3d,
  'i64.store32': 0x3e,
};
