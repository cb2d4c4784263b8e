// What can be known of a vector register's half: lanes that are ordinary (not denormal) when looked at as floats.

/** Lane 0 as a double. */
export const ORDINARY_DOUBLE = 1;
/** Both lanes as doubles. */
export const ORDINARY_DOUBLES = 3;
/** Lane 0 as a single. */
export const ORDINARY_SINGLE = 4;
/** All lanes as singles. */
export const ORDINARY_SINGLES = 12;
/** Of zeros. */
export const ORDINARY_ALL = 15;

/** Beside them, of a register: it has not been written since a loop's round began. */
export const SINCE_LOOP = 16;

/** ORDINARY_* of a shuffle of two vectors: `bytes` are sixteen indices below 32. */
export function shuffledOrdinary(bytes: readonly number[], a: number, b: number): number {
  /** Whether a lane of the result is a lane of a source of which one of `bits` is known; they are for lane 0 and the others. */
  const isKnown = (lane: number, size: number, bits: readonly [number, number]): boolean => {
    const from = bytes[lane * size] as number;
    if (from % size !== 0) return false;
    for (let i = 1; i < size; i++) if (bytes[lane * size + i] !== from + i) return false;
    return ((from < 16 ? a : b) & bits[from % 16 === 0 ? 0 : 1]) !== 0;
  };
  const upper = ORDINARY_DOUBLES & ~ORDINARY_DOUBLE;
  const rest = ORDINARY_SINGLES & ~ORDINARY_SINGLE;
  const isSingle = (lane: number): boolean => isKnown(lane, 4, [ORDINARY_SINGLE, rest]);
  let known = 0;
  if (isKnown(0, 8, [ORDINARY_DOUBLE, upper])) known |= ORDINARY_DOUBLE;
  if (isKnown(1, 8, [ORDINARY_DOUBLE, upper])) known |= upper;
  if (isSingle(0)) known |= ORDINARY_SINGLE;
  if (isSingle(1) && isSingle(2) && isSingle(3)) known |= rest;
  return known;
}
