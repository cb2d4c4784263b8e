// SSE and SSE2 arithmetic, comparisons and conversions; SSE3 and SSE4.1 additions (SDM volume 2).

import { constF32, constF64, constI32, constI64, type Expr, f32, f64, i32, i64, select } from '../../../wasm/expr.ts';
import { f32x4, f64x2, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import type { Emitter, Operand } from './emitter.ts';
import { choose, DOUBLE, type Format, SINGLE, soft, softly, usualControls } from './float.ts';
import { instruction } from './instruction.ts';
import { checkAligned, checkMmx, checkSse, readVector, writeLow } from './vector.ts';

type Binary = (a: Expr, b: Expr) => Expr;

const FORMATS = [
  { format: SINGLE, scalarPrefix: 'F3', packed: (line: string) => `0F ${line} np`, letter: 'd', ss: 'ss', ps: 'ps' },
  { format: DOUBLE, scalarPrefix: 'F2', packed: (line: string) => `66 0F ${line}`, letter: 'q', ss: 'sd', ps: 'pd' },
] as const;

/** Bits of an operand's low element. */
function element(e: Emitter, operand: Operand, format: Format): Expr {
  return e.f.let(format.fromRead(e.read({ ...operand, size: format.bytes })));
}

function writeElement(e: Emitter, d: Operand, format: Format, bits: Expr): void {
  e.write({ ...d, size: format.bytes }, format.toWrite(bits));
}

/** Applies a soft helper lane by lane. */
function lanes(format: Format, start: Expr, each: (lane: number) => Expr, count = format.lanes): Expr {
  let result = start;
  for (let lane = 0; lane < count; lane++) result = format.withLane(result, lane, each(lane));
  return result;
}

function arithmetic(
  name: string,
  opcode: string,
  scalar: Record<'f32' | 'f64', Binary>,
  vector: Record<'f32' | 'f64', Binary>,
): void {
  for (const { format, scalarPrefix, packed, letter, ss, ps } of FORMATS) {
    const helper = soft(name, format);
    instruction(`${name}${ss}`, [`${scalarPrefix} 0F ${opcode} Vx,W${letter}`], (e, d, s) => {
      checkSse(e);
      const b = element(e, s, format);
      const a = element(e, d, format);
      const native = e.f.let(format.toBits(scalar[format.suffix](format.toFloat(a), format.toFloat(b))));
      const fast = i32.and(
        i32.and(usualControls(), format.plain(native)),
        i32.and(format.notDenormal(a), format.notDenormal(b)),
      );
      const result = e.f.local(format.int);
      choose(
        e,
        fast,
        result,
        () => native,
        () => e.call(helper, a, b),
      );
      writeElement(e, d, format, result);
    });
    instruction(`${name}${ps}`, [packed(`${opcode} Vx,Wx`)], (e, d, s) => {
      checkSse(e);
      checkAligned(e, s);
      const b = readVector(e, s);
      const a = e.read(d);
      const native = e.f.let(vector[format.suffix](a, b));
      const result = e.f.local('v128');
      choose(
        e,
        i32.and(usualControls(), format.allPlain(native, [a, b])),
        result,
        () => native,
        () => lanes(format, a, (lane) => e.call(helper, format.lane(a, lane), format.lane(b, lane))),
      );
      e.write(d, result);
    });
  }
}
arithmetic('add', '58', { f32: f32.add, f64: f64.add }, { f32: f32x4.add, f64: f64x2.add });
arithmetic('mul', '59', { f32: f32.mul, f64: f64.mul }, { f32: f32x4.mul, f64: f64x2.mul });
arithmetic('sub', '5C', { f32: f32.sub, f64: f64.sub }, { f32: f32x4.sub, f64: f64x2.sub });
arithmetic('div', '5E', { f32: f32.div, f64: f64.div }, { f32: f32x4.div, f64: f64x2.div });

// SQRT has one operand; the scalar form keeps the destination's upper part.
for (const { format, scalarPrefix, packed, letter, ss, ps } of FORMATS) {
  const helper = soft('sqrt', format);
  const root = format === DOUBLE ? f64.sqrt : f32.sqrt;
  const roots = format === DOUBLE ? f64x2.sqrt : f32x4.sqrt;
  instruction(`sqrt${ss}`, [`${scalarPrefix} 0F 51 Vx,W${letter}`], (e, d, s) => {
    checkSse(e);
    const a = element(e, s, format);
    const native = e.f.let(format.toBits(root(format.toFloat(a))));
    const result = e.f.local(format.int);
    choose(
      e,
      i32.and(i32.and(usualControls(), format.plain(native)), format.notDenormal(a)),
      result,
      () => native,
      () => e.call(helper, a),
    );
    writeElement(e, d, format, result);
  });
  instruction(`sqrt${ps}`, [packed('51 Vx,Wx')], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const a = readVector(e, s);
    const native = e.f.let(roots(a));
    const result = e.f.local('v128');
    choose(
      e,
      i32.and(usualControls(), format.allPlain(native, [a])),
      result,
      () => native,
      () => lanes(format, a, (lane) => e.call(helper, format.lane(a, lane))),
    );
    e.write(d, result);
  });
}

// MIN and MAX: the second operand unless the first is truly less (greater): no flags when both are ordered and not denormal.
for (const { format, scalarPrefix, packed, letter, ss, ps } of FORMATS) {
  const wide = format === DOUBLE;
  for (const [name, opcode, pick] of [
    ['min', '5D', wide ? f64x2.pmin : f32x4.pmin],
    ['max', '5F', wide ? f64x2.pmax : f32x4.pmax],
  ] as const) {
    const helper = soft(name, format);
    instruction(`${name}${ss}`, [`${scalarPrefix} 0F ${opcode} Vx,W${letter}`], (e, d, s) => {
      checkSse(e);
      const b = readVector(e, { ...s, size: format.bytes });
      const a = readVector(e, { ...d, size: format.bytes });
      const result = e.f.local(format.int);
      choose(
        e,
        format.allOrdered([a, b]),
        result,
        () => format.lane(pick(b, a), 0),
        () => e.call(helper, format.lane(a, 0), format.lane(b, 0)),
      );
      writeElement(e, d, format, result);
    });
    instruction(`${name}${ps}`, [packed(`${opcode} Vx,Wx`)], (e, d, s) => {
      checkSse(e);
      checkAligned(e, s);
      const b = readVector(e, s);
      const a = e.read(d);
      const result = e.f.local('v128');
      choose(
        e,
        format.allOrdered([a, b]),
        result,
        () => pick(b, a),
        () => lanes(format, a, (lane) => e.call(helper, format.lane(a, lane), format.lane(b, lane))),
      );
      e.write(d, result);
    });
  }
}

// ---- Comparisons -----------------------------------------------------------------------------------------------------------
for (const { format, scalarPrefix, packed, letter, ss, ps } of FORMATS) {
  const vector = format === DOUBLE ? f64x2 : f32x4;
  const helper = soft('cmp', format);
  /** Mask of a predicate (immediate 0 to 7) for ordered operands. */
  const ordered = (e: Emitter, a: Expr, b: Expr, imm: Expr): Expr => {
    const zero = v128.const(new Uint8Array(16));
    const kind = e.f.let(i32.and(imm, constI32(3)));
    const equal = vector.eq(a, b);
    const less = vector.lt(a, b);
    const mask = select(
      select(equal, less, i32.eqz(kind)),
      select(v128.or(equal, less), zero, i32.eq(kind, constI32(2))),
      i32.lt_u(kind, constI32(2)),
    );
    return v128.xor(mask, i32x4.splat(i32.sub(constI32(0), i32.and(i32.shr_u(imm, constI32(2)), constI32(1)))));
  };
  instruction(`cmp${ps}`, [packed('C2 Vx,Wx,Ib')], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const b = readVector(e, s);
    const a = e.read(d);
    const imm = e.f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(7)));
    const result = e.f.local('v128');
    choose(
      e,
      format.allOrdered([a, b]),
      result,
      () => ordered(e, a, b, imm),
      () => lanes(format, a, (lane) => e.call(helper, format.lane(a, lane), format.lane(b, lane), imm)),
    );
    e.write(d, result);
  });
  instruction(`cmp${ss}`, [`${scalarPrefix} 0F C2 Vx,W${letter},Ib`], (e, d, s) => {
    checkSse(e);
    const b = readVector(e, { ...s, size: format.bytes });
    const a = readVector(e, { ...d, size: format.bytes });
    const imm = e.f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(7)));
    const result = e.f.local(format.int);
    choose(
      e,
      format.allOrdered([a, b]),
      result,
      () => format.lane(ordered(e, a, b, imm), 0),
      () => e.call(helper, format.lane(a, 0), format.lane(b, 0), imm),
    );
    writeElement(e, d, format, result);
  });
  // UCOMIS* signals for signalling NaNs only, COMIS* for all.
  for (const [name, opcode] of [
    ['ucomi', '2E'],
    ['comi', '2F'],
  ] as const) {
    instruction(`${name}${ss}`, [packed(`${opcode} V${letter},W${letter}`)], (e, d, s) => {
      checkSse(e);
      const b = readVector(e, s);
      const a = readVector(e, d);
      const flags = e.f.local('i64');
      const bit = (mask: Expr): Expr => i64.and(i64x2.extract_lane(0, mask), constI64(1));
      choose(
        e,
        format.allOrdered([a, b]),
        flags,
        () => i64.or(bit(vector.lt(a, b)), i64.shl(bit(vector.eq(a, b)), constI64(6))),
        () => i64.extend_i32_u(e.call(soft(name, format), format.lane(a, 0), format.lane(b, 0))),
      );
      e.flagsAll(flags);
    });
  }
}

// ---- Conversions -----------------------------------------------------------------------------------------------------------
// Between the formats.
instruction('cvtss2sd', ['F3 0F 5A Vx,Wd'], (e, d, s) => {
  checkSse(e);
  const a = element(e, s, SINGLE);
  const result = e.f.local('i64');
  const value = SINGLE.toFloat(a);
  choose(
    e,
    i32.and(f32.eq(value, value), SINGLE.notDenormal(a)),
    result,
    () => i64.reinterpret_f64(f64.promote_f32(value)),
    () => e.call('soft_f32_to_f64', a),
  );
  writeElement(e, d, DOUBLE, result);
});
instruction('cvtsd2ss', ['F2 0F 5A Vx,Wq'], (e, d, s) => {
  checkSse(e);
  const a = element(e, s, DOUBLE);
  const native = e.f.let(i32.reinterpret_f32(f32.demote_f64(DOUBLE.toFloat(a))));
  const result = e.f.local('i32');
  choose(
    e,
    i32.and(i32.and(usualControls(), SINGLE.plain(native)), DOUBLE.notDenormal(a)),
    result,
    () => native,
    () => e.call('soft_f64_to_f32', a),
  );
  writeElement(e, d, SINGLE, result);
});
instruction('cvtps2pd', ['0F 5A Vx,Wq np'], (e, d, s) => {
  checkSse(e);
  const a = readVector(e, s);
  const result = e.f.copy(a);
  softly(e, () => {
    e.f.set(
      result,
      lanes(DOUBLE, a, (lane) => e.call('soft_f32_to_f64', SINGLE.lane(a, lane))),
    );
  });
  e.write(d, result);
});
instruction('cvtpd2ps', ['66 0F 5A Vx,Wx'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const a = readVector(e, s);
  const result = e.f.local('v128');
  softly(e, () =>
    e.f.set(
      result,
      lanes(SINGLE, v128.const(new Uint8Array(16)), (lane) => e.call('soft_f64_to_f32', DOUBLE.lane(a, lane)), 2),
    ),
  );
  e.write(d, result);
});

// Integers to floats.
for (const { format, scalarPrefix, ss } of FORMATS) {
  instruction(`cvtsi2${ss}`, [`${scalarPrefix} 0F 2A Vx,Ey`], (e, d, s) => {
    checkSse(e);
    const value = e.readSigned(s);
    if (format === DOUBLE && s.size === 4) {
      writeElement(e, d, DOUBLE, i64.reinterpret_f64(f64.convert_i64_s(value)));
      return;
    }
    const result = e.f.local(format.int);
    const convert = format === DOUBLE ? f64.convert_i64_s : f32.convert_i64_s;
    choose(
      e,
      usualControls(),
      result,
      () => format.toBits(convert(value)),
      () => e.call(soft('i64_to', format), value),
    );
    writeElement(e, d, format, result);
  });
}
instruction('cvtdq2pd', ['F3 0F E6 Vx,Wq'], (e, d, s) => {
  checkSse(e);
  e.write(d, f64x2.convert_low_i32x4_s(readVector(e, s)));
});
instruction('cvtdq2ps', ['0F 5B Vx,Wx np'], (e, d, s) => {
  checkSse(e);
  checkAligned(e, s);
  const a = readVector(e, s);
  const result = e.f.local('v128');
  choose(
    e,
    usualControls(),
    result,
    () => f32x4.convert_i32x4_s(a),
    () => lanes(SINGLE, a, (lane) => e.call('soft_i64_to_f32', i64.extend_i32_s(i32x4.extract_lane(lane, a)))),
  );
  e.write(d, result);
});

// Floats to integers: in range, the native conversion only misses the inexact flag.
for (const { format, scalarPrefix, letter, ss } of FORMATS) {
  const wide = format === DOUBLE;
  const float = wide ? f64 : f32;
  const constant = (value: number): Expr => (wide ? constF64(value) : constF32(value));
  for (const [name, opcode, truncate] of [
    [`cvtt${ss}2si`, '2C', true],
    [`cvt${ss}2si`, '2D', false],
  ] as const) {
    instruction(name, [`${scalarPrefix} 0F ${opcode} Gy,W${letter}`], (e, d, s) => {
      checkSse(e);
      const a = element(e, s, format);
      const value = e.f.let(truncate ? format.toFloat(a) : float.nearest(format.toFloat(a)));
      const limit = d.size === 8 ? 2 ** 63 : 2 ** 31;
      const inside = i32.and(float.gt(value, constant(-limit)), float.lt(value, constant(limit)));
      const convert = wide ? i64.trunc_sat_f64_s : i64.trunc_sat_f32_s;
      const result = e.f.local('i64');
      choose(
        e,
        i32.and(i32.and(usualControls(), inside), format.notDenormal(a)),
        result,
        () => convert(value),
        () => e.call(soft(d.size === 8 ? 'to_i64' : 'to_i32', format), a, constI32(truncate ? 1 : 0)),
      );
      e.write(d, result);
    });
  }
}
/** Packed conversions to dwords, by helper. */
function packedToInt(name: string, line: string, format: Format, truncate: boolean): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const a = readVector(e, s);
    const result = e.f.local('v128');
    softly(e, () => {
      const each = (lane: number): Expr =>
        i32.wrap_i64(e.call(soft('to_i32', format), format.lane(a, lane), constI32(truncate ? 1 : 0)));
      e.f.set(result, lanes(SINGLE, v128.const(new Uint8Array(16)), each, format.lanes));
    });
    e.write(d, result);
  });
}
packedToInt('cvtps2dq', '66 0F 5B Vx,Wx', SINGLE, false);
packedToInt('cvttps2dq', 'F3 0F 5B Vx,Wx', SINGLE, true);
packedToInt('cvtpd2dq', 'F2 0F E6 Vx,Wx', DOUBLE, false);
packedToInt('cvttpd2dq', '66 0F E6 Vx,Wx', DOUBLE, true);

// MMX on one side.
function fromMmx(name: string, line: string, convert: (e: Emitter, dword: Expr) => Expr, format: Format): void {
  instruction(name, [line], (e, d, s) => {
    const memory = s.place === 'memory' ? readVector(e, s) : undefined;
    checkSse(e);
    // CVTPI2PD from memory touches no x87 state.
    if (format === SINGLE || !memory) checkMmx(e);
    const a = memory ?? readVector(e, s);
    const result = e.f.copy(e.read({ ...d, size: 16 }));
    softly(e, () =>
      e.f.set(
        result,
        lanes(format, result, (lane) => convert(e, i64.extend_i32_s(i32x4.extract_lane(lane, a))), 2),
      ),
    );
    e.write({ ...d, size: 16 }, result);
  });
}
fromMmx('cvtpi2ps', '0F 2A Vx,Qq np', (e, x) => e.call('soft_i64_to_f32', x), SINGLE);
fromMmx('cvtpi2pd', '66 0F 2A Vx,Qq', (e, x) => e.call('soft_i64_to_f64', x), DOUBLE);
function toMmx(name: string, line: string, format: Format, truncate: boolean): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    if (format === DOUBLE) checkAligned(e, s);
    const a = readVector(e, s);
    checkMmx(e);
    const result = e.f.local('v128');
    softly(e, () => {
      const each = (lane: number): Expr =>
        i32.wrap_i64(e.call(soft('to_i32', format), format.lane(a, lane), constI32(truncate ? 1 : 0)));
      e.f.set(result, lanes(SINGLE, v128.const(new Uint8Array(16)), each, 2));
    });
    writeLow(e, d, i64x2.extract_lane(0, result));
  });
}
toMmx('cvttps2pi', '0F 2C Pq,Wq np', SINGLE, true);
toMmx('cvtps2pi', '0F 2D Pq,Wq np', SINGLE, false);
toMmx('cvttpd2pi', '66 0F 2C Pq,Wx', DOUBLE, true);
toMmx('cvtpd2pi', '66 0F 2D Pq,Wx', DOUBLE, false);

// ---- Approximations, SSE3, SSE4.1 ---------------------------------------------------------------------------------------------
for (const [name, opcode, helper] of [
  ['rsqrt', '52', 'soft_rsqrt_f32'],
  ['rcp', '53', 'soft_rcp_f32'],
] as const) {
  instruction(`${name}ss`, [`F3 0F ${opcode} Vx,Wd`], (e, d, s) => {
    checkSse(e);
    writeElement(e, d, SINGLE, e.call(helper, element(e, s, SINGLE)));
  });
  instruction(`${name}ps`, [`0F ${opcode} Vx,Wx np`], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const a = readVector(e, s);
    e.write(
      d,
      lanes(SINGLE, a, (lane) => e.call(helper, SINGLE.lane(a, lane))),
    );
  });
}

/** Packed operations whose lanes are made by soft helpers from both operands. */
function packedSoft(
  name: string,
  line: string,
  format: Format,
  each: (e: Emitter, a: Expr, b: Expr, lane: number) => Expr,
): void {
  instruction(name, [line], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const b = readVector(e, s);
    const a = e.read(d);
    const result = e.f.local('v128');
    softly(e, () =>
      e.f.set(
        result,
        lanes(format, a, (lane) => each(e, a, b, lane)),
      ),
    );
    e.write(d, result);
  });
}
for (const [suffix, prefix, format] of [
  ['ps', 'F2', SINGLE],
  ['pd', '66', DOUBLE],
] as const) {
  packedSoft(`addsub${suffix}`, `${prefix} 0F D0 Vx,Wx`, format, (e, a, b, lane) =>
    e.call(soft(lane % 2 ? 'add' : 'sub', format), format.lane(a, lane), format.lane(b, lane)),
  );
  for (const [name, opcode, operation] of [
    ['hadd', '7C', 'add'],
    ['hsub', '7D', 'sub'],
  ] as const) {
    packedSoft(`${name}${suffix}`, `${prefix} 0F ${opcode} Vx,Wx`, format, (e, a, b, lane) => {
      const half = format.lanes / 2;
      const source = lane < half ? a : b;
      const from = (lane % half) * 2;
      return e.call(soft(operation, format), format.lane(source, from), format.lane(source, from + 1));
    });
  }
}

const roundingImmediate = (e: Emitter): Expr => i32.and(i32.wrap_i64(e.immediate()), constI32(0xff));
for (const [ps, ss, packedOpcode, scalarOpcode, letter, format] of [
  ['ps', 'ss', '08', '0A', 'd', SINGLE],
  ['pd', 'sd', '09', '0B', 'q', DOUBLE],
] as const) {
  packedSoft(`round${ps}`, `66 0F3A ${packedOpcode} Vx,Wx,Ib`, format, (e, _a, b, lane) =>
    e.call(soft('round', format), format.lane(b, lane), roundingImmediate(e)),
  );
  instruction(`round${ss}`, [`66 0F3A ${scalarOpcode} Vx,W${letter},Ib`], (e, d, s) => {
    checkSse(e);
    const a = element(e, s, format);
    const result = e.f.local(format.int);
    softly(e, () => e.f.set(result, e.call(soft('round', format), a, roundingImmediate(e))));
    writeElement(e, d, format, result);
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

/** DPPS, DPPD: products chosen by the immediate's high bits, their sum to the lanes chosen by its low bits. */
for (const [name, opcode, format] of [
  ['dpps', '40', SINGLE],
  ['dppd', '41', DOUBLE],
] as const) {
  instruction(name, [`66 0F3A ${opcode} Vx,Wx,Ib`], (e, d, s) => {
    checkSse(e);
    checkAligned(e, s);
    const { f } = e;
    const b = readVector(e, s);
    const a = e.read(d);
    const imm = f.let(i32.wrap_i64(e.immediate()));
    const zero = format.int === 'i32' ? constI32(0) : constI64(0);
    // Every lane has its sum; which operand of an addition comes first decides which NaN is the result. An unmasked
    // exception in one stage keeps the next one's flags away.
    let sums: Expr[] = [];
    softly(e, () => {
      for (let lane = 0; lane < format.lanes; lane++) {
        const product = f.copy(zero);
        f.if(i32.and(imm, constI32(1 << (4 + lane))), () =>
          f.set(product, e.call(soft('mul', format), format.lane(a, lane), format.lane(b, lane))),
        );
        sums.push(product);
      }
    });
    for (const order of format === SINGLE ? SINGLE_SUMS : DOUBLE_SUMS) {
      softly(e, () => {
        sums = order.map(([x, y]) => e.call(soft('add', format), sums[x] as Expr, sums[y] as Expr));
      });
    }
    e.write(
      d,
      lanes(format, a, (lane) => select(sums[lane] as Expr, zero, i32.and(imm, constI32(1 << lane)))),
    );
  });
}
