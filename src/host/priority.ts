/** Which of the process's threads go first. */
import { readdirSync, readFileSync } from 'node:fs';
import { constants, getPriority, setPriority } from 'node:os';

/** Lets other threads go before those of a name where there are not enough processors, by `steps` of niceness. Linux alone. */
export function stepBack(name: string, steps: number): void {
  if (process.platform !== 'linux') return;
  const folder = '/proc/self/task';
  const threads = readdirSync(folder).filter(
    (tid) => readFileSync(`${folder}/${tid}/comm`, 'latin1').trimEnd() === name,
  );
  for (const tid of threads) setPriority(Number(tid), Math.min(getPriority() + steps, constants.priority.PRIORITY_LOW));
}
