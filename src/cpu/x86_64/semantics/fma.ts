// FMA (SDM volume 2, VFMADD132PD and its like): one rounding. Native where the host's processor fuses, else by helpers.

import { constI32, type Expr, load, type MemoryOp } from '../../../wasm/expr.ts';
import { f32x4, f64x2, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import type { Emitter, Operand } from './emitter.ts';
import {
  attemptOrSoftly,
  byHalf,
  choose,
  DOUBLE,
  type Format,
  isOrdinary,
  lanes,
  lanesHold,
  mergeFloat,
  must,
  plainLanes,
  SINGLE,
  setAll,
  soft,
  softly,
} from './float.ts';
import { instruction } from './instruction.ts';
import { checkAvx, halves, writeHalves } from './vector.ts';

/** The helper's kinds: bit 0 negates the term, bit 1 the product. */
const ADD = 0;
const SUBTRACT = 1;

/** Kinds of the even and the odd lanes. */
interface Operation {
  readonly name: string;
  readonly even: number;
  readonly odd: number;
}

/** By the opcode's low four bits; those with scalars have them at the next opcode. */
const OPERATIONS: Readonly<Record<number, Operation>> = {
  6: { name: 'vfmaddsub', even: SUBTRACT, odd: ADD },
  7: { name: 'vfmsubadd', even: ADD, odd: SUBTRACT },
  8: { name: 'vfmadd', even: 0, odd: 0 },
  10: { name: 'vfmsub', even: 1, odd: 1 },
  12: { name: 'vfnmadd', even: 2, odd: 2 },
  14: { name: 'vfnmsub', even: 3, odd: 3 },
};

/** Sign bits of the lanes whose term is negated. */
function signs(format: Format, { even, odd }: Operation): Uint8Array {
  const bytes = new Uint8Array(16);
  for (let lane = 0; lane < format.lanes; lane++)
    if ((lane % 2 ? odd : even) & 1) bytes[(lane + 1) * format.bytes - 1] = 0x80;
  return bytes;
}

/** a * b + c with the operation's signs, by the relaxed instruction. */
function native(format: Format, operation: Operation, a: Expr, b: Expr, c: Expr): Expr {
  const term = operation.even & 1 || operation.odd & 1 ? v128.xor(c, v128.const(signs(format, operation))) : c;
  const vector = format === DOUBLE ? f64x2 : f32x4;
  return operation.even & 2 ? vector.relaxed_nmadd(a, b, term) : vector.relaxed_madd(a, b, term);
}

function kindOf({ even, odd }: Operation, lane: number): Expr {
  return constI32(lane % 2 ? odd : even);
}

/** Factors and term in the order that decides which NaN is the result (SDM volume 1, table 14-15). */
type Order = <T>(d: T, first: T, second: T) => readonly [T, T, T];
const ORDERS: readonly (readonly [digits: string, row: number, order: Order])[] = [
  ['132', 0x90, (d, a, s) => [d, s, a]],
  ['213', 0xa0, (d, a, s) => [a, d, s]],
  ['231', 0xb0, (d, a, s) => [a, s, d]],
];

/** A scalar operand as a vector whose lane 0 it is. */
function scalarVector(e: Emitter, operand: Operand, format: Format): Expr {
  if (operand.place !== 'memory') return e.readHalf(operand, 0);
  const op: MemoryOp = format === DOUBLE ? 'v128.load64_zero' : 'v128.load32_zero';
  return e.f.let(load(op, e.hostForRead(format.bytes)));
}

function packed(
  e: Emitter,
  format: Format,
  operation: Operation,
  [a, b, c]: readonly [Expr[], Expr[], Expr[]],
): Expr[] {
  const helper = soft('fma', format);
  const each = (lane: number, x: Expr, y: Expr, z: Expr): Expr =>
    e.call(helper, format.lane(x, lane), format.lane(y, lane), format.lane(z, lane), kindOf(operation, lane));
  const own = byHalf([a, b, c]) as [Expr, Expr, Expr][];
  const results = own.map(() => e.f.local('v128'));
  const slow = (): void =>
    setAll(
      e,
      results,
      own.map((inputs) => lanes(format, inputs[0], (lane) => each(lane, ...inputs))),
    );
  if (!e.fused) {
    softly(e, slow);
    return results;
  }
  const values = own.map((inputs) => e.f.let(native(format, operation, ...inputs)));
  const right = values.map((value) => plainLanes(format, value));
  attemptOrSoftly(e, [lanesHold(e, format, [a, b, c], right)], () => setAll(e, results, values), slow);
  for (const value of [...a, ...b, ...c, ...results]) e.noteOrdinary(value, format.every);
  return results;
}

function scalar(e: Emitter, format: Format, operation: Operation, inputs: readonly [Expr, Expr, Expr]): Expr {
  const slow = (): Expr =>
    format.toFloat(e.call(soft('fma', format), ...inputs.map((x) => bits(format, x)), kindOf(operation, 0)));
  const result = e.f.local(format.suffix);
  if (!e.fused) {
    softly(e, () => e.f.set(result, slow()));
    return result;
  }
  const floats = inputs.map((x) => {
    const value = e.f.let(format.vector.extract_lane(0, x));
    e.noteLane(value, x, format.low);
    return value;
  });
  const value = e.f.let(format.vector.extract_lane(0, native(format, operation, ...inputs)));
  const fast = [...floats.map((x) => isOrdinary(e, format, x)), must(format.ample(value))];
  choose(e, fast, result, () => value, slow);
  for (const x of [...floats, result]) e.noteOrdinary(x, format.low);
  return result;
}

const bits = (format: Format, x: Expr): Expr =>
  format === DOUBLE ? i64x2.extract_lane(0, x) : i32x4.extract_lane(0, x);

for (const [digits, row, order] of ORDERS) {
  for (const [low, operation] of Object.entries(OPERATIONS)) {
    const opcode = row + Number(low);
    const hex = (n: number): string => n.toString(16).toUpperCase();
    for (const [format, w, suffix, letter] of [
      [SINGLE, 'W0', 's', 'd'],
      [DOUBLE, 'W1', 'd', 'q'],
    ] as const) {
      const name = `${operation.name}${digits}`;
      instruction(`${name}p${suffix}`, [`VEX 66 0F38 ${hex(opcode)} Vx,Hx,Wx ${w}`], (e, d, first, second) => {
        checkAvx(e);
        const s = halves(e, second);
        writeHalves(e, d, packed(e, format, operation, order(halves(e, d), halves(e, first), s)));
      });
      if (Number(low) < 8) continue;
      const line = `VEX 66 0F38 ${hex(opcode + 1)} Vo,Ho,W${letter} ${w}`;
      instruction(`${name}s${suffix}`, [line], (e, d, first, second) => {
        checkAvx(e);
        const s = scalarVector(e, second, format);
        const inputs = order(e.readHalf(d, 0), e.readHalf(first, 0), s);
        mergeFloat(e, d, format, scalar(e, format, operation, inputs), d, true);
      });
    }
  }
}
