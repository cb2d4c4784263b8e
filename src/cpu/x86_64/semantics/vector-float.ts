// Arithmetic and comparisons of SSE, SSE2, SSE3, SSE4.1 and AVX (SDM volume 2).

import { constI32, constI64, type Expr, f32, f64, i32, i64, select } from '../../../wasm/expr.ts';
import { f32x4, f64x2, i8x16, i32x4, v128 } from '../../../wasm/vector.ts';
import type { Emitter, Operand } from './emitter.ts';
import {
  ADD,
  ADDSUB,
  attemptOrSoftly,
  CMP,
  choose,
  compareScalars,
  DIV,
  DOUBLE,
  enter,
  FORMATS,
  type Format,
  isNumber,
  isOrdinary,
  lanes,
  lanesHold,
  MAX,
  MIN,
  MUL,
  mergeFloat,
  type Operation,
  packedLanes,
  packedLine,
  readFloat,
  SINGLE,
  SQRT,
  SUB,
  scalarLane,
  setAll,
  soft,
  softly,
  writeResult,
} from './float.ts';
import { instruction } from './instruction.ts';
import { halves, vexLine, writeHalves, zero } from './vector.ts';

type Binary = (a: Expr, b: Expr) => Expr;

/** `F3 0F xx Vx,Wd` and its VEX form, whose upper elements come from a third operand. */
function scalarForms(
  name: string,
  line: string,
  format: Format,
  value: (e: Emitter, a: Operand, b: Expr) => Expr,
): void {
  instruction(name, [line], (e, d, s) => {
    enter(e, false);
    mergeFloat(e, d, format, value(e, d, readFloat(e, s, format)), d, false);
  });
  instruction(`v${name}`, [`VEX ${line.replace('Vx,', 'Vo,Ho,')}`], (e, d, a, s) => {
    enter(e, true);
    mergeFloat(e, d, format, value(e, a, readFloat(e, s, format)), a, true);
  });
}

/** `66 0F xx Vx,Wx` and its VEX forms: values of halves from halves. */
function packedForms(name: string, line: string, values: (e: Emitter, a: Expr[], b: Expr[]) => readonly Expr[]): void {
  instruction(name, [line], (e, d, s) => {
    enter(e, false, s);
    const b = halves(e, s);
    writeResult(e, d, false, values(e, [e.readHalf(d, 0)], b));
  });
  instruction(`v${name}`, [vexLine(line)], (e, d, a, s) => {
    enter(e, true);
    const b = halves(e, s);
    writeResult(e, d, true, values(e, halves(e, a), b));
  });
}

/** As packedForms(), of one source. */
function packedUnary(name: string, line: string, values: (e: Emitter, x: Expr[]) => readonly Expr[]): void {
  for (const vex of [false, true]) {
    instruction(vex ? `v${name}` : name, [vex ? vexLine(line, true) : line], (e, d, s) => {
      enter(e, vex, s);
      writeResult(e, d, vex, values(e, halves(e, s)));
    });
  }
}

function arithmetic(
  name: string,
  operation: Operation,
  opcode: string,
  scalar: Record<'f32' | 'f64', Binary>,
  vector: Record<'f32' | 'f64', Binary>,
): void {
  for (const { format, scalarPrefix, packedPrefix, letter, ss, ps } of FORMATS) {
    scalarForms(`${name}${ss}`, `${scalarPrefix} 0F ${opcode} Vx,W${letter}`, format, (e, first, b) => {
      const a = readFloat(e, first, format);
      return scalarLane(e, format, operation, [a, b], scalar[format.suffix](a, b));
    });
    packedForms(`${name}${ps}`, packedLine(packedPrefix, `0F ${opcode} Vx,Wx`), (e, a, b) =>
      packedLanes(e, format, operation, [a, b], vector[format.suffix]),
    );
  }
}
arithmetic('add', ADD, '58', { f32: f32.add, f64: f64.add }, { f32: f32x4.add, f64: f64x2.add });
arithmetic('mul', MUL, '59', { f32: f32.mul, f64: f64.mul }, { f32: f32x4.mul, f64: f64x2.mul });
arithmetic('sub', SUB, '5C', { f32: f32.sub, f64: f64.sub }, { f32: f32x4.sub, f64: f64x2.sub });
arithmetic('div', DIV, '5E', { f32: f32.div, f64: f64.div }, { f32: f32x4.div, f64: f64x2.div });

// SQRT has one operand.
for (const { format, scalarPrefix, packedPrefix, letter, ss, ps } of FORMATS) {
  const root = format === DOUBLE ? f64.sqrt : f32.sqrt;
  scalarForms(`sqrt${ss}`, `${scalarPrefix} 0F 51 Vx,W${letter}`, format, (e, _first, x) =>
    scalarLane(e, format, SQRT, [x], root(x)),
  );
  packedUnary(`sqrt${ps}`, packedLine(packedPrefix, '0F 51 Vx,Wx'), (e, x) =>
    packedLanes(e, format, SQRT, [x], (a) => format.vector.sqrt(a)),
  );
}

// MIN and MAX: the second operand unless the first is truly less (greater).
for (const { format, scalarPrefix, packedPrefix, letter, ss, ps } of FORMATS) {
  const { vector } = format;
  for (const [name, opcode, operation, pick] of [
    ['min', '5D', MIN, vector.pmin],
    ['max', '5F', MAX, vector.pmax],
  ] as const) {
    scalarForms(`${name}${ss}`, `${scalarPrefix} 0F ${opcode} Vx,W${letter}`, format, (e, first, b) => {
      const a = readFloat(e, first, format);
      const native = vector.extract_lane(0, pick(vector.splat(b), vector.splat(a)));
      return scalarLane(e, format, operation, [a, b], native);
    });
    packedForms(`${name}${ps}`, packedLine(packedPrefix, `0F ${opcode} Vx,Wx`), (e, a, b) =>
      packedLanes(e, format, operation, [a, b], (x, y) => pick(y, x)),
    );
  }
}

// ---- Comparisons -----------------------------------------------------------------------------------------------------------
/** Of predicates 0 to 15, when they hold: bits for less, equal, greater (and unordered, which the helper sees). */
const HOLDS = [2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15];

/** Mask of the lanes of ordered operands where a predicate holds. */
function compared(e: Emitter, vector: Format['vector'], a: Expr, b: Expr, imm: Expr): Expr {
  const ones = v128.not(zero());
  if (imm.isConst) {
    switch ((HOLDS[(imm.value as number) & 15] as number) & 7) {
      case 0:
        return zero();
      case 1:
        return vector.lt(a, b);
      case 2:
        return vector.eq(a, b);
      case 3:
        return vector.le(a, b);
      case 4:
        return vector.gt(a, b);
      case 5:
        return vector.ne(a, b);
      case 6:
        return vector.ge(a, b);
      default:
        return ones;
    }
  }
  const table = HOLDS.reduce((sum, bits, i) => sum | (BigInt(bits) << BigInt(4 * i)), 0n);
  const four = i64.shl(i64.and(i64.extend_i32_u(imm), constI64(15)), constI64(2));
  const bits = e.f.let(i32.wrap_i64(i64.shr_u(constI64(table), four)));
  const when = (bit: number, mask: Expr): Expr =>
    v128.and(mask, i32x4.splat(i32.sub(constI32(0), i32.and(i32.shr_u(bits, constI32(bit)), constI32(1)))));
  return v128.or(v128.or(when(0, vector.lt(a, b)), when(1, vector.eq(a, b))), when(2, vector.gt(a, b)));
}

for (const { format, scalarPrefix, packedPrefix, letter, ss, ps } of FORMATS) {
  const { vector } = format;
  // VEX has 32 predicates, SSE eight.
  for (const vex of [false, true]) {
    const predicate = (e: Emitter): Expr => e.f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(vex ? 31 : 7)));
    const packed = (e: Emitter, a: Expr[], b: Expr[]): Expr[] => {
      const imm = predicate(e);
      return packedLanes(e, format, CMP, [a, b], (x, y) => compared(e, vector, x, y, imm), imm);
    };
    const scalar = (e: Emitter, d: Operand, first: Operand, s: Operand): void => {
      const b = readFloat(e, s, format);
      const imm = predicate(e);
      const a = readFloat(e, first, format);
      const native = vector.extract_lane(0, compared(e, vector, vector.splat(a), vector.splat(b), imm));
      mergeFloat(e, d, format, scalarLane(e, format, CMP, [a, b], native, imm), first, vex);
    };
    const line = packedLine(packedPrefix, '0F C2 Vx,Wx,Ib');
    if (vex) {
      instruction(`vcmp${ps}`, [vexLine(line)], (e, d, a, s) => {
        enter(e, true);
        const b = halves(e, s);
        writeHalves(e, d, packed(e, halves(e, a), b));
      });
      instruction(`vcmp${ss}`, [`VEX ${scalarPrefix} 0F C2 Vo,Ho,W${letter},Ib`], (e, d, a, s) => {
        enter(e, true);
        scalar(e, d, a, s);
      });
    } else {
      instruction(`cmp${ps}`, [line], (e, d, s) => {
        enter(e, false, s);
        const b = halves(e, s);
        writeResult(e, d, false, packed(e, [e.readHalf(d, 0)], b));
      });
      instruction(`cmp${ss}`, [`${scalarPrefix} 0F C2 Vx,W${letter},Ib`], (e, d, s) => {
        enter(e, false);
        scalar(e, d, d, s);
      });
    }
  }
  // UCOMIS* signals for signalling NaNs only, COMIS* for all.
  for (const [name, opcode] of [
    ['ucomi', '2E'],
    ['comi', '2F'],
  ] as const) {
    const line = packedLine(packedPrefix, `0F ${opcode} V${letter},W${letter}`);
    for (const vex of [false, true]) {
      instruction(vex ? `v${name}${ss}` : `${name}${ss}`, [vex ? vexLine(line, true) : line], (e, d, s) => {
        enter(e, vex);
        const b = readFloat(e, s, format);
        const a = readFloat(e, d, format);
        compareScalars(e, format, a, b, name === 'comi');
      });
    }
  }
}

// ---- Approximations, SSE3, SSE4.1 ---------------------------------------------------------------------------------------------
for (const [name, opcode, helper] of [
  ['rsqrt', '52', 'soft_rsqrt_f32'],
  ['rcp', '53', 'soft_rcp_f32'],
] as const) {
  scalarForms(`${name}ss`, `F3 0F ${opcode} Vx,Wd`, SINGLE, (e, _first, x) =>
    e.f.let(SINGLE.toFloat(e.call(helper, SINGLE.toBits(x)))),
  );
  packedUnary(`${name}ps`, `0F ${opcode} Vx,Wx np`, (e, x) =>
    x.map((half) => lanes(SINGLE, half, (lane) => e.call(helper, SINGLE.lane(half, lane)))),
  );
}

/** The lanes of two vectors with even numbers, or with odd ones, in order. */
function alternate(format: Format, a: Expr, b: Expr, odd: number): Expr {
  const lanes = Array.from({ length: format.lanes }, (_, i) => 2 * i + odd);
  const bytes = lanes.flatMap((lane) => Array.from({ length: format.bytes }, (_, i) => lane * format.bytes + i));
  return i8x16.shuffle(bytes, a, b);
}

/** Sign bits of the even lanes. */
function evenSigns(format: Format): Expr {
  return v128.const(
    Uint8Array.from({ length: 16 }, (_, i) => (i % (2 * format.bytes) === format.bytes - 1 ? 0x80 : 0)),
  );
}

for (const [suffix, prefix, format] of [
  ['ps', 'F2', SINGLE],
  ['pd', '66', DOUBLE],
] as const) {
  const { add, sub } = format.vector;
  packedForms(`addsub${suffix}`, `${prefix} 0F D0 Vx,Wx`, (e, a, b) =>
    packedLanes(e, format, ADDSUB, [a, b], (x, y) => add(x, v128.xor(y, evenSigns(format)))),
  );
  for (const [name, opcode, operation, native] of [
    ['hadd', '7C', ADD, add],
    ['hsub', '7D', SUB, sub],
  ] as const) {
    packedForms(`${name}${suffix}`, `${prefix} 0F ${opcode} Vx,Wx`, (e, a, b) => {
      const [even, odd] = [0, 1].map((place) =>
        a.map((x, half) => e.f.let(alternate(format, x, b[half] as Expr, place))),
      ) as [Expr[], Expr[]];
      return packedLanes(e, format, operation, [even, odd], native);
    });
  }
}

/** Native rounding by the immediate of ROUND*, where it is known. */
function rounded(format: Format, imm: Expr): ((x: Expr) => Expr) | undefined {
  if (!imm.isConst) return undefined;
  const { nearest, floor, ceil, trunc } = format.vector;
  const mode = (imm.value as number) & 4 ? 0 : (imm.value as number) & 3;
  return [nearest, floor, ceil, trunc][mode];
}

const roundingImmediate = (e: Emitter): Expr => i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
for (const [ps, ss, packedOpcode, scalarOpcode, letter, format] of [
  ['ps', 'ss', '08', '0A', 'd', SINGLE],
  ['pd', 'sd', '09', '0B', 'q', DOUBLE],
] as const) {
  const each = (e: Emitter, bits: Expr): Expr => e.call(soft('round', format), bits, roundingImmediate(e));
  packedUnary(`round${ps}`, `66 0F3A ${packedOpcode} Vx,Wx,Ib`, (e, x) => {
    const results = x.map(() => e.f.local('v128'));
    const slow = (): void =>
      setAll(
        e,
        results,
        x.map((half) => lanes(format, half, (lane) => each(e, format.lane(half, lane)))),
      );
    const native = rounded(format, roundingImmediate(e));
    if (!native) {
      softly(e, slow);
      return results;
    }
    attemptOrSoftly(
      e,
      [lanesHold(e, format, [x], [undefined])],
      () =>
        setAll(
          e,
          results,
          x.map((half) => native(half)),
        ),
      slow,
    );
    for (const value of [...x, ...results]) e.noteOrdinary(value, format.every);
    return results;
  });
  scalarForms(`round${ss}`, `66 0F3A ${scalarOpcode} Vx,W${letter},Ib`, format, (e, _first, x) => {
    const result = e.f.local(format.suffix);
    const slow = (): Expr => format.toFloat(each(e, format.toBits(x)));
    const native = rounded(format, roundingImmediate(e));
    if (!native) {
      softly(e, () => e.f.set(result, slow()));
      return result;
    }
    const { splat, extract_lane } = format.vector;
    choose(e, [isOrdinary(e, format, x), isNumber(format, x)], result, () => extract_lane(0, native(splat(x))), slow);
    for (const value of [x, result]) e.noteOrdinary(value, format.low);
    return result;
  });
}

/** Stages of additions: which two lanes, in this order, make each lane. */
const SINGLE_SUMS = [
  [
    [1, 0],
    [0, 1],
    [3, 2],
    [2, 3],
  ],
  [
    [0, 2],
    [1, 3],
    [2, 0],
    [3, 1],
  ],
] as const;
const DOUBLE_SUMS = [
  [
    [0, 1],
    [1, 0],
  ],
] as const;

/**
 * DPPS, DPPD: products chosen by the immediate's high bits, their sum to the lanes chosen by its low bits. Every lane has
 * its sum; which operand of an addition comes first decides which NaN is the result. An unmasked exception in one stage
 * keeps the next one's flags away.
 */
for (const [name, line, vexEnd, format] of [
  ['dpps', '66 0F3A 40 Vx,Wx,Ib', '', SINGLE],
  ['dppd', '66 0F3A 41 Vx,Wx,Ib', ' L0', DOUBLE],
] as const) {
  const values = (e: Emitter, a: readonly Expr[], b: readonly Expr[]): Expr[] => {
    const { f } = e;
    const imm = f.let(i32.wrap_i64(e.immediate()));
    const none = format.int === 'i32' ? constI32(0) : constI64(0);
    let sums: Expr[][] = [];
    softly(e, () => {
      sums = a.map((x, half) =>
        Array.from({ length: format.lanes }, (_, lane) => {
          const product = f.copy(none);
          f.if(i32.and(imm, constI32(1 << (4 + lane))), () =>
            f.set(product, e.call(soft('mul', format), format.lane(x, lane), format.lane(b[half] as Expr, lane))),
          );
          return product;
        }),
      );
    });
    for (const order of format === SINGLE ? SINGLE_SUMS : DOUBLE_SUMS) {
      softly(e, () => {
        sums = sums.map((own) => order.map(([x, y]) => e.call(soft('add', format), own[x] as Expr, own[y] as Expr)));
      });
    }
    return a.map((x, half) =>
      lanes(format, x, (lane) => select(sums[half]?.[lane] as Expr, none, i32.and(imm, constI32(1 << lane)))),
    );
  };
  instruction(name, [line], (e, d, s) => {
    enter(e, false, s);
    const b = halves(e, s);
    writeResult(e, d, false, values(e, [e.readHalf(d, 0)], b));
  });
  instruction(`v${name}`, [`${vexLine(line)}${vexEnd}`], (e, d, a, s) => {
    enter(e, true);
    const b = halves(e, s);
    writeHalves(e, d, values(e, halves(e, a), b));
  });
}
