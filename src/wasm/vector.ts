// WebAssembly's 128-bit vector instructions (core specification, section 5.4.9) as expression constructors.

import { constV128, Expr, type ValType } from './expr.ts';

const VECTOR = 0xfd00;

function ops<K extends string>(type: ValType, table: Record<K, number>): Record<K, (...args: Expr[]) => Expr> {
  const result = {} as Record<K, (...args: Expr[]) => Expr>;
  for (const name of Object.keys(table) as K[]) {
    const code = VECTOR + table[name];
    result[name] = (...args) => new Expr(code, type, args, 0);
  }
  return result;
}

/** Instructions with a lane number. */
function lane(code: number, type: ValType): (lane: number, ...args: Expr[]) => Expr {
  return (index, ...args) => new Expr(VECTOR + code, type, args, 0, index);
}

export const v128 = {
  const: constV128,
  ...ops('v128', { not: 0x4d, and: 0x4e, andnot: 0x4f, or: 0x50, xor: 0x51, bitselect: 0x52 }),
  ...ops('i32', { any_true: 0x53 }),
};

// biome-ignore format: one row for a group of related entries
export const i8x16 = {
  /** @param lanes sixteen indices below 32 */
  shuffle: (lanes: readonly number[], a: Expr, b: Expr): Expr =>
    new Expr(VECTOR + 0x0d, 'v128', [a, b], 0, Uint8Array.from(lanes)),
  ...ops('v128', {
    swizzle: 0x0e, splat: 0x0f, eq: 0x23, ne: 0x24, lt_s: 0x25, lt_u: 0x26, gt_s: 0x27, gt_u: 0x28,
    abs: 0x60, neg: 0x61, popcnt: 0x62, narrow_i16x8_s: 0x65, narrow_i16x8_u: 0x66,
    shl: 0x6b, shr_s: 0x6c, shr_u: 0x6d, add: 0x6e, add_sat_s: 0x6f, add_sat_u: 0x70,
    sub: 0x71, sub_sat_s: 0x72, sub_sat_u: 0x73, min_s: 0x76, min_u: 0x77, max_s: 0x78, max_u: 0x79, avgr_u: 0x7b,
  }),
  ...ops('i32', { all_true: 0x63, bitmask: 0x64 }),
  extract_lane_s: lane(0x15, 'i32'),
  extract_lane_u: lane(0x16, 'i32'),
  replace_lane: lane(0x17, 'v128'),
};

// biome-ignore format: one row for a group of related entries
export const i16x8 = {
  ...ops('v128', {
    splat: 0x10, eq: 0x2d, ne: 0x2e, lt_s: 0x2f, lt_u: 0x30, gt_s: 0x31, gt_u: 0x32,
    extadd_pairwise_i8x16_s: 0x7c, extadd_pairwise_i8x16_u: 0x7d, abs: 0x80, neg: 0x81, q15mulr_sat_s: 0x82,
    narrow_i32x4_s: 0x85, narrow_i32x4_u: 0x86,
    extend_low_i8x16_s: 0x87, extend_high_i8x16_s: 0x88, extend_low_i8x16_u: 0x89, extend_high_i8x16_u: 0x8a,
    shl: 0x8b, shr_s: 0x8c, shr_u: 0x8d, add: 0x8e, add_sat_s: 0x8f, add_sat_u: 0x90,
    sub: 0x91, sub_sat_s: 0x92, sub_sat_u: 0x93, mul: 0x95, min_s: 0x96, min_u: 0x97, max_s: 0x98, max_u: 0x99, avgr_u: 0x9b,
    extmul_low_i8x16_s: 0x9c, extmul_high_i8x16_s: 0x9d, extmul_low_i8x16_u: 0x9e, extmul_high_i8x16_u: 0x9f,
  }),
  ...ops('i32', { all_true: 0x83, bitmask: 0x84 }),
  extract_lane_s: lane(0x18, 'i32'),
  extract_lane_u: lane(0x19, 'i32'),
  replace_lane: lane(0x1a, 'v128'),
};

// biome-ignore format: one row for a group of related entries
export const i32x4 = {
  ...ops('v128', {
    splat: 0x11, eq: 0x37, ne: 0x38, lt_s: 0x39, lt_u: 0x3a, gt_s: 0x3b, gt_u: 0x3c,
    extadd_pairwise_i16x8_s: 0x7e, extadd_pairwise_i16x8_u: 0x7f, abs: 0xa0, neg: 0xa1,
    extend_low_i16x8_s: 0xa7, extend_high_i16x8_s: 0xa8, extend_low_i16x8_u: 0xa9, extend_high_i16x8_u: 0xaa,
    shl: 0xab, shr_s: 0xac, shr_u: 0xad, add: 0xae, sub: 0xb1, mul: 0xb5,
    min_s: 0xb6, min_u: 0xb7, max_s: 0xb8, max_u: 0xb9, dot_i16x8_s: 0xba,
    extmul_low_i16x8_s: 0xbc, extmul_high_i16x8_s: 0xbd, extmul_low_i16x8_u: 0xbe, extmul_high_i16x8_u: 0xbf,
    trunc_sat_f32x4_s: 0xf8, trunc_sat_f64x2_s_zero: 0xfc,
  }),
  ...ops('i32', { all_true: 0xa3, bitmask: 0xa4 }),
  extract_lane: lane(0x1b, 'i32'),
  replace_lane: lane(0x1c, 'v128'),
};

// biome-ignore format: one row for a group of related entries
export const i64x2 = {
  ...ops('v128', {
    splat: 0x12, abs: 0xc0, neg: 0xc1,
    extend_low_i32x4_s: 0xc7, extend_high_i32x4_s: 0xc8, extend_low_i32x4_u: 0xc9, extend_high_i32x4_u: 0xca,
    shl: 0xcb, shr_s: 0xcc, shr_u: 0xcd, add: 0xce, sub: 0xd1, mul: 0xd5,
    eq: 0xd6, ne: 0xd7, lt_s: 0xd8, gt_s: 0xd9, le_s: 0xda, ge_s: 0xdb,
    extmul_low_i32x4_s: 0xdc, extmul_high_i32x4_s: 0xdd, extmul_low_i32x4_u: 0xde, extmul_high_i32x4_u: 0xdf,
  }),
  ...ops('i32', { all_true: 0xc3, bitmask: 0xc4 }),
  extract_lane: lane(0x1d, 'i64'),
  replace_lane: lane(0x1e, 'v128'),
};

// biome-ignore format: one row for a group of related entries
export const f32x4 = {
  ...ops('v128', {
    splat: 0x13, eq: 0x41, ne: 0x42, lt: 0x43, gt: 0x44, le: 0x45, ge: 0x46,
    ceil: 0x67, floor: 0x68, trunc: 0x69, nearest: 0x6a,
    abs: 0xe0, neg: 0xe1, sqrt: 0xe3, add: 0xe4, sub: 0xe5, mul: 0xe6, div: 0xe7, min: 0xe8, max: 0xe9, pmin: 0xea, pmax: 0xeb,
    convert_i32x4_s: 0xfa, demote_f64x2_zero: 0x5e,
    relaxed_madd: 0x105, relaxed_nmadd: 0x106,
  }),
  extract_lane: lane(0x1f, 'f32'),
  replace_lane: lane(0x20, 'v128'),
};

// biome-ignore format: one row for a group of related entries
export const f64x2 = {
  ...ops('v128', {
    splat: 0x14, eq: 0x47, ne: 0x48, lt: 0x49, gt: 0x4a, le: 0x4b, ge: 0x4c,
    ceil: 0x74, floor: 0x75, trunc: 0x7a, nearest: 0x94,
    abs: 0xec, neg: 0xed, sqrt: 0xef, add: 0xf0, sub: 0xf1, mul: 0xf2, div: 0xf3, min: 0xf4, max: 0xf5, pmin: 0xf6, pmax: 0xf7,
    convert_low_i32x4_s: 0xfe, promote_low_f32x4: 0x5f,
    relaxed_madd: 0x107, relaxed_nmadd: 0x108,
  }),
  extract_lane: lane(0x21, 'f64'),
  replace_lane: lane(0x22, 'v128'),
};
