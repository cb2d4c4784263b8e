// SSE arithmetic and comparisons where translated code has found that its own way does not do (semantics/float.ts): all
// lanes of an instruction in one call. With the usual controls ordinary numbers are computed natively here too: what translated code
// does not look at is the inexact flag, and zeros.

import {
  FLOAT_A,
  FLOAT_B,
  FLOAT_CONTROLS,
  FLOAT_USUAL,
  LANES_ADD,
  LANES_ADDSUB,
  LANES_CMP,
  LANES_COMI,
  LANES_DIV,
  LANES_MAX,
  LANES_MIN,
  LANES_MUL,
  LANES_ODD,
  LANES_SQRT,
  LANES_SUB,
  LANES_UCOMI,
  MXCSR,
} from '../../layout';
import { difference, product, quotient, root, sum } from './arithmetic';
import { extreme, holds, unordered } from './compare';
import {
  exponent,
  fractionBits,
  infinity,
  isDenormal,
  isNaNBits,
  isZero,
  leastNormal,
  magnitude,
  operand,
  propagate,
  signBit,
  significand,
} from './format';
import { PE, signal, soft_begin, soft_end } from './state';

/** Zero or normal. */
function isPlain<T>(bits: u64): bool {
  const size = magnitude<T>(bits);
  return size == 0 || size - leastNormal<T>() < infinity<T>() - leastNormal<T>();
}

/** Normal, and not the least, which may have been rounded up to. */
function isAmple<T>(bits: u64): bool {
  const size = magnitude<T>(bits);
  return size > leastNormal<T>() && size < infinity<T>();
}

function toFloat<T>(bits: u64): T {
  if (sizeof<T>() == 4) return <T>reinterpret<f32>(<u32>bits);
  return <T>reinterpret<f64>(bits);
}

function toBits<T>(value: T): u64 {
  if (sizeof<T>() == 4) return <u64>reinterpret<u32>(<f32>value);
  return reinterpret<u64>(<f64>value);
}

/** Whether a sum was not rounded: what was lost, by Knuth's two-sum. */
function isExactSum<T>(a: T, b: T, sum: T): bool {
  const added: T = sum - a;
  return a - (sum - added) + (b - added) == 0;
}

/** Whether a product of two ordinary numbers other than zero has no more bits than `result`, its rounded value, can hold. */
function isExactProduct<T>(a: u64, b: u64, result: u64): bool {
  const zeros = ctz(significand<T>(a)) + ctz(significand<T>(b)) - 2 * (62 - fractionBits<T>());
  const carry = exponent<T>(result) - exponent<T>(a) - exponent<T>(b);
  return zeros >= fractionBits<T>() + <u64>carry;
}

let inexactKnown: bool = false;
let result: u64 = 0;

/** Computes natively into `result` where no other flag than the inexact one comes, of operands that are zero or normal. */
function isNative<T>(operation: i32, first: u64, second: u64): bool {
  const a = toFloat<T>(first);
  const b = toFloat<T>(second);
  let exact = inexactKnown;
  switch (operation) {
    case LANES_ADD: {
      result = toBits<T>(a + b);
      if (!isPlain<T>(result)) return false;
      exact = exact || isExactSum<T>(a, b, a + b);
      break;
    }
    case LANES_SUB: {
      result = toBits<T>(a - b);
      if (!isPlain<T>(result)) return false;
      exact = exact || isExactSum<T>(a, -b, a - b);
      break;
    }
    case LANES_MUL: {
      result = toBits<T>(a * b);
      if (isZero<T>(first) || isZero<T>(second)) return true;
      if (!isAmple<T>(result)) return false;
      exact = exact || isExactProduct<T>(first, second, result);
      break;
    }
    case LANES_DIV: {
      if (isZero<T>(second)) return false;
      result = toBits<T>(a / b);
      if (isZero<T>(first)) return true;
      if (!isAmple<T>(result)) return false;
      exact = exact || (isExactProduct<T>(result, second, first) && (a / b) * b == a);
      break;
    }
    case LANES_SQRT: {
      if (isZero<T>(second)) {
        result = second;
        return true;
      }
      if (b < 0) return false;
      const root: T = sqrt<T>(b);
      result = toBits<T>(root);
      exact = exact || (isExactProduct<T>(result, result, second) && root * root == b);
      break;
    }
    case LANES_MIN: {
      result = a < b ? first : second;
      return true;
    }
    case LANES_MAX: {
      result = a > b ? first : second;
      return true;
    }
    default:
      return false;
  }
  if (!exact) signal(PE);
  return true;
}

function softly<T>(operation: i32, a: u64, b: u64, predicate: i32): u64 {
  switch (operation) {
    case LANES_ADD:
      return sum<T>(a, b);
    case LANES_SUB:
      return difference<T>(a, b);
    case LANES_MUL:
      return product<T>(a, b);
    case LANES_DIV:
      return quotient<T>(a, b);
    case LANES_SQRT:
      return root<T>(b);
    case LANES_MIN:
      return extreme<T>(a, b, false);
    case LANES_MAX:
      return extreme<T>(a, b, true);
    case LANES_CMP:
      return holds<T>(a, b, predicate) ? (signBit<T>() << 1) - 1 : 0;
    default:
      unordered<T>(operand<T>(a), operand<T>(b), operation == LANES_COMI);
      return operand<T>(a);
  }
}

function lane<T>(area: usize, i: i32): u64 {
  return sizeof<T>() == 4 ? <u64>load<u32>(area + 4 * i) : load<u64>(area + 8 * i);
}

function setLane<T>(area: usize, i: i32, bits: u64): void {
  if (sizeof<T>() == 4) store<u32>(area + 4 * i, <u32>bits);
  else store<u64>(area + 8 * i, bits);
}

/** Does `count` lanes from FLOAT_A and FLOAT_B to FLOAT_A. Gives STATUS_OK or STATUS_FAULT, and LANES_ODD. */
function lanes<T>(operation: i32, count: i32, predicate: i32): i32 {
  soft_begin();
  const controls = load<u32>(MXCSR);
  const usual = ((controls ^ FLOAT_USUAL) & FLOAT_CONTROLS & ~PE) == 0;
  inexactKnown = (controls & PE) != 0;
  let ordinary = true;
  for (let i = 0; i < count; i++) {
    const b = lane<T>(FLOAT_B, i);
    const a = operation == LANES_SQRT ? b : lane<T>(FLOAT_A, i);
    // NaNs come in rows: what begins with one goes on with it.
    if (operation <= LANES_ADDSUB && (isNaNBits<T>(a) || isNaNBits<T>(b))) {
      setLane<T>(FLOAT_A, i, propagate<T>(a, b));
      ordinary = ordinary && !isDenormal<T>(a) && !isDenormal<T>(b);
      continue;
    }
    const which = operation == LANES_ADDSUB ? (i & 1 ? LANES_ADD : LANES_SUB) : operation;
    const native = usual && isPlain<T>(a) && isPlain<T>(b) && isNative<T>(which, a, b);
    if (!native) {
      result = softly<T>(which, a, b, predicate);
      ordinary =
        ordinary && !isDenormal<T>(a) && !isDenormal<T>(b) && (operation >= LANES_CMP || !isDenormal<T>(result));
    }
    setLane<T>(FLOAT_A, i, result);
    if (operation >= LANES_UCOMI) setLane<T>(FLOAT_B, i, operand<T>(b));
  }
  const status = soft_end();
  const odd = !ordinary || ((load<u32>(MXCSR) ^ FLOAT_USUAL) & FLOAT_CONTROLS) != 0;
  return odd ? status | LANES_ODD : status;
}

export function soft_lanes_f32(operation: i32, count: i32, predicate: i32): i32 {
  return lanes<f32>(operation, count, predicate);
}

export function soft_lanes_f64(operation: i32, count: i32, predicate: i32): i32 {
  return lanes<f64>(operation, count, predicate);
}
