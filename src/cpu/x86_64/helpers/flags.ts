// The lazy arithmetic flags (layout.ts, CC_KIND): making and reading RFLAGS.

import {
  CC_A,
  CC_B,
  CC_KIND,
  CC_KIND_ADD,
  CC_KIND_FLAGS,
  CC_KIND_RES,
  CC_RES,
  FLAG_AF,
  FLAG_CF,
  FLAG_OF,
  FLAG_PF,
  FLAG_SF,
  FLAG_ZF,
  FLAGS,
  FLAGS_ARITH,
} from '../layout';

/** CF, PF, AF, ZF, SF, OF at their places. */
export function get_arith(): u32 {
  return arith_of(load<u32>(CC_KIND), load<i64>(CC_A), load<i64>(CC_B), load<i64>(CC_RES));
}

/** The same of flags that are elsewhere than in the state. */
export function arith_of(kind: u32, a: i64, b: i64, result: i64): u32 {
  if (kind == CC_KIND_FLAGS) return <u32>a & FLAGS_ARITH;
  let flags: u32 = 0;
  if (result == 0) flags |= FLAG_ZF;
  if (result < 0) flags |= FLAG_SF;
  if (!(popcnt(<u32>result & 0xff) & 1)) flags |= FLAG_PF;
  if (kind == CC_KIND_RES) return flags | (<u32>a & (FLAG_CF | FLAG_AF | FLAG_OF));
  let carries: i64;
  let overflow: i64;
  if (kind == CC_KIND_ADD) {
    carries = (a & b) | ((a | b) & ~result);
    overflow = (a ^ result) & (b ^ result);
  } else {
    carries = (~a & b) | ((~a | b) & result);
    overflow = (a ^ b) & (a ^ result);
  }
  if (carries < 0) flags |= FLAG_CF;
  if (carries & 8) flags |= FLAG_AF;
  if (overflow < 0) flags |= FLAG_OF;
  return flags;
}

export function get_cf(): u32 {
  return get_arith() & FLAG_CF;
}

export function get_rflags(): u32 {
  return load<u32>(FLAGS) | get_arith() | 2;
}

/** All of RFLAGS; the caller checks what may change, and calls update_mode(). */
export function set_rflags(value: u32): void {
  store<u32>(FLAGS, (value & ~FLAGS_ARITH) | 2);
  store<u32>(CC_KIND, CC_KIND_FLAGS);
  store<u64>(CC_A, <u64>(value & FLAGS_ARITH));
}

/** 1 or 0: condition code 0 to 15 (SDM volume 1, appendix B). */
export function condition(cc: i32): i32 {
  const flags = get_arith();
  let value: bool;
  switch (cc >> 1) {
    case 0:
      value = (flags & FLAG_OF) != 0;
      break;
    case 1:
      value = (flags & FLAG_CF) != 0;
      break;
    case 2:
      value = (flags & FLAG_ZF) != 0;
      break;
    case 3:
      value = (flags & (FLAG_CF | FLAG_ZF)) != 0;
      break;
    case 4:
      value = (flags & FLAG_SF) != 0;
      break;
    case 5:
      value = (flags & FLAG_PF) != 0;
      break;
    case 6:
      value = ((flags & FLAG_SF) != 0) != ((flags & FLAG_OF) != 0);
      break;
    default:
      value = (flags & FLAG_ZF) != 0 || ((flags & FLAG_SF) != 0) != ((flags & FLAG_OF) != 0);
  }
  return i32(value) ^ (cc & 1);
}
