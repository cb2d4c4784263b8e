/** How often a bench runs what it times: the value of its --runs. Throws Error with the mend. */
export function parseRuns(text: string): number {
  const runs = Number(text);
  if (!Number.isInteger(runs) || runs < 1 || runs > 1000) throw new Error('--runs takes a number from 1 to 1000');
  return runs;
}
