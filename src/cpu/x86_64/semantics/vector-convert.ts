// Conversions between floats, integers and halves (SDM volume 2, CVT*).

import { constF32, constF64, constI32, type Expr, f32, f64, i32, i64 } from '../../../wasm/expr.ts';
import { f32x4, f64x2, i8x16, i32x4, i64x2, v128 } from '../../../wasm/vector.ts';
import { type Emitter, type Operand, storeSized } from './emitter.ts';
import {
  attemptOrSoftly,
  choose,
  DOUBLE,
  enter,
  FORMATS,
  type Format,
  isNumber,
  isOrdinary,
  lanes,
  lanesHold,
  mergeFloat,
  must,
  readFloat,
  SINGLE,
  setAll,
  soft,
  softly,
  writeResult,
} from './float.ts';
import { instruction } from './instruction.ts';
import {
  checkAligned,
  checkAvx,
  checkMmx,
  checkSse,
  halves,
  readVector,
  vexLine,
  writeHalves,
  writeLow,
  zero,
} from './vector.ts';

// ---- Between the formats ---------------------------------------------------------------------------------------------------
for (const [name, line, from, to, fast, helper] of [
  ['cvtss2sd', 'F3 0F 5A Vx,Wd', SINGLE, DOUBLE, (x: Expr) => f64.promote_f32(x), 'soft_f32_to_f64'],
  ['cvtsd2ss', 'F2 0F 5A Vx,Wq', DOUBLE, SINGLE, (x: Expr) => f32.demote_f64(x), 'soft_f64_to_f32'],
] as const) {
  const value = (e: Emitter, x: Expr): Expr => {
    const result = e.f.local(to.suffix);
    const native = e.f.let(fast(x));
    const right = to === SINGLE ? must(SINGLE.ample(native)) : isNumber(from, x);
    choose(
      e,
      [isOrdinary(e, from, x), right],
      result,
      () => native,
      () => to.toFloat(e.call(helper, from.toBits(x))),
    );
    e.noteOrdinary(x, from.low);
    e.noteOrdinary(result, to.low);
    return result;
  };
  instruction(name, [line], (e, d, s) => {
    enter(e, false);
    mergeFloat(e, d, to, value(e, readFloat(e, s, from)), d, false);
  });
  instruction(`v${name}`, [`VEX ${line.replace('Vx,', 'Vo,Ho,')}`], (e, d, a, s) => {
    enter(e, true);
    mergeFloat(e, d, to, value(e, readFloat(e, s, from)), a, true);
  });
}

/** Results of 16 bytes each from parts of a source: `parts` gives them their lanes' bits. */
function converted(e: Emitter, format: Format, parts: readonly ((lane: number) => Expr)[], count: number): Expr[] {
  const results = parts.map(() => e.f.local('v128'));
  softly(e, () =>
    parts.forEach((each, i) => {
      e.f.set(results[i] as Expr, lanes(format, zero(), each, count));
    }),
  );
  return results;
}

/** Two bytes or more of the source become four or more of the destination: its low half is the source of SSE and VEX.128. */
function widening(
  name: string,
  line: string,
  values: (e: Emitter, source: Expr, both: boolean) => readonly Expr[],
): void {
  instruction(name, [`${line} Vx,Wq${line.startsWith('0F') ? ' np' : ''}`], (e, d, s) => {
    enter(e, false);
    writeResult(e, d, false, values(e, s.place === 'memory' ? readVector(e, s) : e.readHalf(s, 0), false));
  });
  instruction(`v${name}`, [`VEX ${line} Vx,Wh`], (e, d, s) => {
    enter(e, true);
    writeHalves(e, d, values(e, s.place === 'memory' ? readVector(e, s) : e.readHalf(s, 0), e.size === 32));
  });
}

/** The upper eight bytes as the lower ones. */
const upper = (x: Expr): Expr => i8x16.shuffle([8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15], x, x);

widening('cvtps2pd', '0F 5A', (e, source, both) => {
  const { f } = e;
  const parts = both ? [0, 2] : [0];
  const results = parts.map(() => f.local('v128'));
  // The two lanes that do not count are made zero.
  const counted = both ? source : f.let(i64x2.replace_lane(1, source, i64.const(0)));
  const native = parts.map((_, half) => f64x2.promote_low_f32x4(half ? upper(source) : source));
  attemptOrSoftly(
    e,
    [lanesHold(e, SINGLE, [[counted]], [undefined])],
    () => setAll(e, results, native),
    () =>
      results.forEach((result, half) => {
        const each = (lane: number): Expr => e.call('soft_f32_to_f64', SINGLE.lane(source, 2 * half + lane));
        f.set(result, lanes(DOUBLE, zero(), each));
      }),
  );
  for (const result of results) e.noteOrdinary(result, DOUBLE.every);
  return results;
});
widening('cvtdq2pd', 'F3 0F E6', (e, source, both) =>
  (both ? [source, upper(source)] : [source]).map((x) => {
    const result = e.f.let(f64x2.convert_low_i32x4_s(x));
    e.noteOrdinary(result, DOUBLE.every);
    return result;
  }),
);

/** Narrowing conversions: two lanes from each half of the source, together in one. */
function narrowing(name: string, line: string, values: (e: Emitter, source: Expr[]) => Expr): void {
  for (const vex of [false, true]) {
    const text = vex ? `VEX ${line} Vo,Wx` : `${line} Vx,Wx`;
    instruction(vex ? `v${name}` : name, [text], (e, d, s) => {
      enter(e, vex, s);
      writeResult(e, d, vex, [values(e, halves(e, s))]);
    });
  }
}

narrowing('cvtpd2ps', '66 0F 5A', (e, source) => {
  const { f } = e;
  const result = f.local('v128');
  const each = (lane: number): Expr => e.call('soft_f64_to_f32', DOUBLE.lane(source[lane >> 1] as Expr, lane & 1));
  const native = joined(source.map((x) => f.let(f32x4.demote_f64x2_zero(x))));
  const values = f.let(native);
  // With one half the two upper lanes are zeros, which are not plain: ones take their place in the check.
  const checked =
    source.length === 2
      ? values
      : f.let(f32x4.replace_lane(2, f32x4.replace_lane(3, values, constF32(1)), constF32(1)));
  attemptOrSoftly(
    e,
    [lanesHold(e, DOUBLE, [source], [undefined]), must(SINGLE.all(SINGLE.allPlain(checked)))],
    () => f.set(result, values),
    () => f.set(result, lanes(SINGLE, zero(), each, 2 * source.length)),
  );
  for (const x of source) e.noteOrdinary(x, DOUBLE.every);
  e.noteOrdinary(result, SINGLE.every);
  return result;
});

/** The low halves of one or two vectors together. */
function joined(parts: readonly Expr[]): Expr {
  const [low, high] = parts as [Expr, Expr | undefined];
  return high ? i64x2.replace_lane(1, low, i64x2.extract_lane(0, high)) : low;
}

// ---- Integers to floats ----------------------------------------------------------------------------------------------------
for (const { format, scalarPrefix, ss } of FORMATS) {
  const value = (e: Emitter, s: Operand): Expr => {
    const integer = e.readSigned(s);
    const convert = format === DOUBLE ? f64.convert_i64_s : f32.convert_i64_s;
    const result = e.f.local(format.suffix);
    // Doubles hold all integers of 32 bits.
    if (format === DOUBLE && s.size === 4) e.f.set(result, convert(integer));
    else
      choose(
        e,
        [],
        result,
        () => convert(integer),
        () => format.toFloat(e.call(soft('i64_to', format), integer)),
      );
    e.noteOrdinary(result, format.low);
    return result;
  };
  instruction(`cvtsi2${ss}`, [`${scalarPrefix} 0F 2A Vx,Ey`], (e, d, s) => {
    enter(e, false);
    mergeFloat(e, d, format, value(e, s), d, false);
  });
  instruction(`vcvtsi2${ss}`, [`VEX ${scalarPrefix} 0F 2A Vo,Ho,Ey`], (e, d, a, s) => {
    enter(e, true);
    mergeFloat(e, d, format, value(e, s), a, true);
  });
}
for (const vex of [false, true]) {
  const line = '0F 5B Vx,Wx np';
  instruction(vex ? 'vcvtdq2ps' : 'cvtdq2ps', [vex ? vexLine(line, true) : line], (e, d, s) => {
    enter(e, vex, s);
    const source = halves(e, s);
    const results = source.map(() => e.f.local('v128'));
    attemptOrSoftly(
      e,
      [],
      () =>
        setAll(
          e,
          results,
          source.map((x) => f32x4.convert_i32x4_s(x)),
        ),
      () =>
        results.forEach((result, half) => {
          const each = (lane: number): Expr =>
            e.call('soft_i64_to_f32', i64.extend_i32_s(i32x4.extract_lane(lane, source[half] as Expr)));
          e.f.set(result, lanes(SINGLE, zero(), each));
        }),
    );
    for (const result of results) e.noteOrdinary(result, SINGLE.every);
    writeResult(e, d, vex, results);
  });
}

// ---- Floats to integers: in range, the native conversion only misses the inexact flag ------------------------------------------
for (const { format, scalarPrefix, letter, ss } of FORMATS) {
  const wide = format === DOUBLE;
  const float = wide ? f64 : f32;
  const constant = (value: number): Expr => (wide ? constF64(value) : constF32(value));
  for (const [name, opcode, truncate] of [
    [`cvtt${ss}2si`, '2C', true],
    [`cvt${ss}2si`, '2D', false],
  ] as const) {
    for (const vex of [false, true]) {
      const line = `${scalarPrefix} 0F ${opcode} Gy,W${letter}`;
      instruction(vex ? `v${name}` : name, [vex ? vexLine(line, true) : line], (e, d, s) => {
        enter(e, vex);
        const a = readFloat(e, s, format);
        const value = e.f.let(truncate ? a : float.nearest(a));
        const limit = d.size === 8 ? 2 ** 63 : 2 ** 31;
        const convert = wide ? i64.trunc_sat_f64_s : i64.trunc_sat_f32_s;
        const result = e.f.local('i64');
        const bits = format.toBits(a);
        choose(
          e,
          [isOrdinary(e, format, a), must(float.lt(float.abs(value), constant(limit)))],
          result,
          () => convert(value),
          () => e.call(soft(d.size === 8 ? 'to_i64' : 'to_i32', format), bits, constI32(truncate ? 1 : 0)),
        );
        e.noteOrdinary(a, format.low);
        e.write(d, result);
      });
    }
  }
}

/** Packed conversions to dwords. In range (which excludes the least integer) they are native. */
const RANGE = v128.const(Uint8Array.from([0, 0, 0, 0x4f, 0, 0, 0, 0x4f, 0, 0, 0, 0x4f, 0, 0, 0, 0x4f]));
for (const [name, line, truncate] of [
  ['cvtps2dq', '66 0F 5B Vx,Wx', false],
  ['cvttps2dq', 'F3 0F 5B Vx,Wx', true],
] as const) {
  for (const vex of [false, true]) {
    instruction(vex ? `v${name}` : name, [vex ? vexLine(line, true) : line], (e, d, s) => {
      enter(e, vex, s);
      const { f } = e;
      const source = halves(e, s);
      const results = source.map(() => f.local('v128'));
      const inside = source.map((x) => f32x4.lt(f32x4.abs(x), RANGE));
      const isInside = must(i32x4.all_true(inside.reduce((a, b) => v128.and(a, b))));
      attemptOrSoftly(
        e,
        [lanesHold(e, SINGLE, [source], [undefined]), isInside],
        () =>
          setAll(
            e,
            results,
            source.map((x) => i32x4.trunc_sat_f32x4_s(truncate ? x : f32x4.nearest(x))),
          ),
        () =>
          results.forEach((result, half) => {
            const each = (lane: number): Expr =>
              i32.wrap_i64(
                e.call('soft_to_i32_f32', SINGLE.lane(source[half] as Expr, lane), constI32(truncate ? 1 : 0)),
              );
            f.set(result, lanes(SINGLE, zero(), each));
          }),
      );
      for (const x of source) e.noteOrdinary(x, SINGLE.every);
      writeResult(e, d, vex, results);
    });
  }
}
const RANGE_DOUBLE = v128.const(Uint8Array.from([0, 0, 0, 0, 0, 0, 0xe0, 0x41, 0, 0, 0, 0, 0, 0, 0xe0, 0x41]));
for (const [name, line, truncate] of [
  ['cvtpd2dq', 'F2 0F E6', false],
  ['cvttpd2dq', '66 0F E6', true],
] as const) {
  narrowing(name, line, (e, source) => {
    const each = (lane: number): Expr =>
      i32.wrap_i64(
        e.call('soft_to_i32_f64', DOUBLE.lane(source[lane >> 1] as Expr, lane & 1), constI32(truncate ? 1 : 0)),
      );
    const result = e.f.local('v128');
    const whole = source.map((x) => (truncate ? x : f64x2.nearest(x)));
    const inside = whole.map((x) => f64x2.lt(f64x2.abs(x), RANGE_DOUBLE));
    attemptOrSoftly(
      e,
      [lanesHold(e, DOUBLE, [source], [undefined]), must(i64x2.all_true(inside.reduce((a, b) => v128.and(a, b))))],
      () => e.f.set(result, joined(whole.map((x) => i32x4.trunc_sat_f64x2_s_zero(x)))),
      () => e.f.set(result, lanes(SINGLE, zero(), each, 2 * source.length)),
    );
    for (const x of source) e.noteOrdinary(x, DOUBLE.every);
    return result;
  });
}

// ---- F16C ------------------------------------------------------------------------------------------------------------------
instruction('vcvtph2ps', ['VEX 66 0F38 13 Vx,Wh W0'], (e, d, s) => {
  checkAvx(e);
  const source = s.place === 'memory' ? readVector(e, s) : e.readHalf(s, 0);
  const half = (lane: number): Expr =>
    i32.and(i32.shr_u(i32x4.extract_lane(lane >> 1, source), constI32((lane & 1) * 16)), constI32(0xffff));
  const parts = (e.size === 32 ? [0, 4] : [0]).map(
    (first) =>
      (lane: number): Expr =>
        e.call('soft_f16_to_f32', half(first + lane)),
  );
  writeHalves(e, d, converted(e, SINGLE, parts, 4));
});
instruction('vcvtps2ph', ['VEX 66 0F3A 1D Wh,Vx,Ib W0'], (e, d, s) => {
  checkAvx(e);
  const { f } = e;
  // That memory can be written is found before any flag is raised.
  const host = d.place === 'memory' ? e.hostForWrite(d.size, false) : undefined;
  const source = halves(e, s);
  const imm = f.let(i32.and(i32.wrap_i64(e.immediate()), constI32(7)));
  const result = f.local('v128');
  softly(e, () => {
    const dwords: Expr[] = [];
    for (let i = 0; i < 2 * source.length; i++) {
      const [low, high] = [0, 1].map((k) =>
        e.call('soft_f32_to_f16', SINGLE.lane(source[i >> 1] as Expr, 2 * (i & 1) + k), imm),
      ) as [Expr, Expr];
      dwords.push(i32.or(low, i32.shl(high, constI32(16))));
    }
    f.set(
      result,
      dwords.reduce((all, dword, i) => i32x4.replace_lane(i, all, dword), zero()),
    );
  });
  if (!host) return writeHalves(e, d, [result]);
  storeSized(f, d.size, host, d.size === 16 ? result : i64x2.extract_lane(0, result));
  e.commit();
});

// ---- MMX on one side ---------------------------------------------------------------------------------------------------------
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
