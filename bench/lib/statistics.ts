/** Summary of some runs' times, in the unit of the times. */
export interface Summary {
  readonly runs: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @throws RangeError if there are no times */
export function summarize(times: readonly number[]): Summary {
  const sorted = times.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const [below, above] = [sorted[sorted.length % 2 === 0 ? middle - 1 : middle], sorted[middle]];
  if (below === undefined || above === undefined) throw new RangeError('no times to summarize');
  return { runs: sorted.length, median: (below + above) / 2, min: sorted[0]!, max: sorted.at(-1)! };
}
