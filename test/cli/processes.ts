/** The processes of a run, by the numbers that /proc gives. */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

/** The device processes of a run: children of its bwraps. */
export const devicesOf = (run: number): number[] => childrenOf(run).flatMap(childrenOf);

/** Waits until a process has gone. */
export async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await sleep(20);
}
