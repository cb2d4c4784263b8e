// FSIN, FCOS, FSINCOS, FPTAN, FPATAN (SDM volume 1, section 8.3.7 and 8.3.8).

import { invalid, nans, result_zero, single_nan } from './arithmetic';
import {
  a_denormal,
  a_exponent,
  a_kind,
  a_sig,
  a_sign,
  b_denormal,
  b_exponent,
  b_kind,
  b_sig,
  b_sign,
  INFINITE,
  unpack_a,
  unpack_b,
  ZERO,
} from './operand';
import { BIAS, DE, flag, PE, result, round_extended, set_c1, stopped, TOP_BIT, UE } from './round';
import {
  cosine,
  divide_float,
  fixed,
  set_float,
  set_normalized,
  sine,
  small_arctangent,
  x_high,
  x_low,
  x_power,
} from './series';
import { empty, finish, pop, push, put, set_c2, st_se, st_sig, stack_overflow, underflow } from './stack';
import { add, high, less, low, multiply, subtract } from './wide';

const C2: u32 = 0x400;
/** Half of pi with the 66 bits that the hardware has (SDM volume 1, section 8.3.8). */
const HALF_PI_HIGH: u64 = 0xc90fdaa22168c234;
const HALF_PI_LOW: u64 = 0xc000000000000000;
/** Pi with 128 bits. */
const PI_HIGH: u64 = 0xc90fdaa22168c234;
const PI_LOW: u64 = 0xc4c6628b80dc1cd1;

/** Result: x with a sign. It is never exact. */
export function result_inexact(sign: u32): void {
  round_extended(sign, x_power + BIAS, x_high, x_low | 1, 0);
}

// ---- Reduction ---------------------------------------------------------------------------------------------------------------
let quadrant: u32 = 0;
/** The reduced argument is negative. */
let negative: u32 = 0;
let r_power: i32 = 0;
let r_high: u64 = 0;
let r_low: u64 = 0;

/** |a| = quadrant * pi/2 + r with |r| <= pi/4, exactly. */
function reduce(): void {
  const power = a_exponent - BIAS;
  quadrant = 0;
  negative = 0;
  if (power < -1) {
    r_power = power;
    r_high = a_sig;
    r_low = 0;
    return;
  }
  let h = a_sig;
  let l: u64 = 0;
  if (power < 0) {
    h = a_sig >> 1;
    l = a_sig << 63;
  } else {
    let carry: u64 = 0;
    for (let i = 0; ; i++) {
      quadrant <<= 1;
      if (carry || !less(h, l, HALF_PI_HIGH, HALF_PI_LOW)) {
        subtract(h, l, HALF_PI_HIGH, HALF_PI_LOW);
        h = high;
        l = low;
        quadrant |= 1;
      }
      if (i == power) break;
      carry = h >> 63;
      h = (h << 1) | (l >> 63);
      l <<= 1;
    }
  }
  if (less(HALF_PI_HIGH >> 1, HALF_PI_LOW >> 1, h, l)) {
    subtract(HALF_PI_HIGH, HALF_PI_LOW, h, l);
    h = high;
    l = low;
    quadrant++;
    negative = 1;
  }
  set_normalized(0, h, l);
  r_power = x_power;
  r_high = x_high;
  r_low = x_low;
}

/** x = |sine| of r (or its cosine); returns whether it is negative. */
function value(cosine_of: bool): u32 {
  set_float(r_power, r_high, r_low);
  const turned = cosine_of != ((quadrant & 1) != 0);
  if (turned) {
    cosine();
    // cos(r + pi) = -cos r; in the odd quadrants sin(r + pi/2) = cos r.
    return (quadrant >> 1) & 1;
  }
  sine();
  const half = (quadrant >> 1) & 1;
  // cos(r + pi/2) = -sin r, cos(r + 3 pi/2) = sin r.
  return cosine_of ? negative ^ half ^ 1 : negative ^ half;
}

/** So near to zero that the hardware takes x for its sine and 1 for its cosine, in all rounding modes. */
function tiny(): bool {
  return a_exponent < BIAS - 63;
}

function result_sine(): void {
  if (a_kind == ZERO) result_zero(a_sign);
  else if (tiny()) {
    flag(a_exponent <= 0 ? PE | UE : PE);
    // With underflow unmasked the exponent is wrapped.
    round_extended(a_sign, a_exponent, a_sig, 0, 0);
  } else result_inexact(value(false) ^ a_sign);
}

function result_cosine(): void {
  if (a_kind == ZERO || tiny()) {
    if (a_kind != ZERO) flag(PE);
    set_c1(0);
    result(BIAS, TOP_BIT);
  } else {
    result_inexact(value(true));
  }
}

/** The result is decided, by a NaN or an infinity. */
function special(): bool {
  if (single_nan()) return true;
  if (a_kind == INFINITE) {
    invalid();
    return true;
  }
  if (a_denormal) flag(DE);
  return stopped();
}

function out_of_range(): bool {
  return a_kind < INFINITE && a_exponent >= BIAS + 63;
}

/** FSIN (0), FCOS (1). */
export function fpu_sine(cosine_of: i32): void {
  let conditions: u32 = 0;
  if (empty(0)) {
    if (underflow()) put(0);
  } else {
    unpack_a(st_se(0), st_sig(0));
    if (out_of_range()) {
      conditions = C2;
    } else {
      if (!special()) {
        if (a_kind != ZERO) reduce();
        if (cosine_of) result_cosine();
        else result_sine();
      }
      if (!stopped()) put(0);
    }
  }
  set_c2(conditions);
  finish();
}

/** FSINCOS (0): sine, then cosine is pushed. FPTAN (1): tangent, then 1 is pushed. */
export function fpu_two(tangent: i32): void {
  let conditions: u32 = 0;
  if (empty(0) || !empty(7)) {
    const masked = empty(0) ? underflow() : stack_overflow();
    if (masked) {
      put(0);
      push();
    }
  } else {
    unpack_a(st_se(0), st_sig(0));
    if (out_of_range()) {
      conditions = C2;
    } else if (special()) {
      if (!stopped()) {
        put(0);
        push();
      }
    } else {
      if (a_kind != ZERO) reduce();
      if (tangent) {
        result_tangent();
        put(0);
        result(BIAS, TOP_BIT);
      } else {
        result_sine();
        put(0);
        result_cosine();
      }
      push();
    }
  }
  set_c2(conditions);
  finish();
}

function result_tangent(): void {
  if (a_kind == ZERO) {
    result_zero(a_sign);
    return;
  }
  const cosine_sign = value(true);
  const power = x_power;
  const h = x_high;
  const l = x_low;
  const sign = value(false) ^ cosine_sign ^ a_sign;
  divide_float(power, h, l);
  result_inexact(sign);
}

// ---- Arctangent --------------------------------------------------------------------------------------------------------------
/** atan(i / 16) as Q1.127. */
const ARCTANGENTS = memory.data<u64>([
  0, 0, 0x07fd56edcb3f7a71, 0xb6593c96e071706a, 0x0feadd4d5617b6e3, 0x2c897989f3e888ef, 0x17b97b4bce5b0226,
  0x8f6169f103938e90, 0x1f5b75f92c80dd62, 0xadb8f3debef442fc, 0x26c4ee6e0fd7979a, 0x716aed26349ebcca,
  0x2dec3283c9bde11c, 0xe2a8c848b73f9120, 0x34c9dd879847f96d, 0x909f257a40079c4d, 0x3b58ce0ac3769ed1,
  0x5bf9117b2f0ea340, 0x4195fa536cc33f15, 0x25b504e5b0d28ae0, 0x47802eaf7bfacfcd, 0xae41af0b32e21ba3,
  0x4d17c07338deed10, 0x21137c711027f9de, 0x525e3e8c9a7b8492, 0x0cd43f9522bed64f, 0x5756261c5a6c6040,
  0x0a392f179f290385, 0x5c029f15e118cf39, 0xe596d2a90852221e, 0x606742dc56293320, 0x44eeb16237497d12,
  0x6487ed5110b4611a, 0x62633145c06e0e68,
]);

/** high:low = sig * factor, at a scale where 2^56 is one unit of sig. */
function scaled(significand: u64, shift: i32, factor: u64): void {
  multiply(significand, factor << 56);
  const h = high;
  const l = low;
  add(shift ? h >> shift : h, shift ? (h << (64 - shift)) | (l >> shift) : l, 0, 0);
}

/** x = atan(n / d) for significands with n * 2^-distance <= d. */
function arctangent(n: u64, d: u64, distance: i32): void {
  let index: u64 = 0;
  if (distance <= 6) index = <u64>nearest((16 * <f64>n) / <f64>d / <f64>(1 << distance));
  if (index == 0) {
    set_float(-distance, n, 0);
    divide_float(0, d, 0);
    small_arctangent();
    return;
  }
  // (n/d - i/16) / (1 + n/d i/16), all times 16 d.
  scaled(n, distance, 16);
  const n1 = high;
  const n0 = low;
  scaled(d, 0, index);
  const below = less(n1, n0, high, low);
  if (below) subtract(high, low, n1, n0);
  else subtract(n1, n0, high, low);
  const t1 = high;
  const t0 = low;
  const entry = ARCTANGENTS + <usize>index * 16;
  if ((t1 | t0) == 0) {
    set_normalized(0, load<u64>(entry), load<u64>(entry, 8));
    return;
  }
  scaled(n, distance, index);
  const m1 = high;
  const m0 = low;
  scaled(d, 0, 16);
  add(high, low, m1, m0);
  set_normalized(0, high, low);
  const power = x_power;
  const b1 = x_high;
  const b0 = x_low;
  set_normalized(0, t1, t0);
  divide_float(power, b1, b0);
  small_arctangent();
  fixed(0);
  if (below) subtract(load<u64>(entry), load<u64>(entry, 8), high, low);
  else add(load<u64>(entry), load<u64>(entry, 8), high, low);
  set_normalized(0, high, low);
}

/** x = pi * 2^(power - 1) - x. */
function from_pi(power: i32): void {
  fixed(power);
  subtract(PI_HIGH, PI_LOW, high, low);
  set_normalized(power, high, low);
}

/** Result: quarters of pi. */
function result_pi(sign: u32, quarters: i32): void {
  if (quarters == 3) {
    // 3/4 pi = pi - pi/4.
    set_float(-1, PI_HIGH, PI_LOW);
    from_pi(1);
  } else {
    set_float(quarters == 4 ? 1 : quarters == 2 ? 0 : -1, PI_HIGH, PI_LOW);
  }
  result_inexact(sign);
}

/** Angle of the point x = a, y = b. */
function angle(): void {
  if (nans()) return;
  if (a_denormal || b_denormal) flag(DE);
  if (stopped()) return;
  const back = a_sign != 0;
  if (b_kind == INFINITE) {
    result_pi(b_sign, a_kind == INFINITE ? (back ? 3 : 1) : 2);
    return;
  }
  if (a_kind == INFINITE || b_kind == ZERO) {
    if (back) result_pi(b_sign, 4);
    else result_zero(b_sign);
    return;
  }
  if (a_kind == ZERO) {
    result_pi(b_sign, 2);
    return;
  }
  const distance = a_exponent - b_exponent;
  const steep = distance < 0 || (distance == 0 && b_sig > a_sig);
  if (steep) arctangent(a_sig, b_sig, -distance);
  else arctangent(b_sig, a_sig, distance);
  if (steep) {
    if (back) {
      // pi/2 + x.
      fixed(1);
      add(high, low, PI_HIGH >> 1, (PI_HIGH << 63) | (PI_LOW >> 1));
      set_normalized(1, high, low);
    } else {
      from_pi(0);
    }
  } else if (back) {
    from_pi(1);
  }
  result_inexact(b_sign);
}

/** FPATAN. */
export function fpu_arctangent(): void {
  let done: bool;
  if (empty(0) || empty(1)) {
    done = underflow();
  } else {
    unpack_a(st_se(0), st_sig(0));
    unpack_b(st_se(1), st_sig(1));
    angle();
    done = !stopped();
  }
  if (done) {
    put(1);
    pop(1);
  }
  finish();
}
