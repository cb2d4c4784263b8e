/** The processes of a run, by the numbers that /proc gives. */
import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);

/** The device processes of a run: children of its bwraps. */
export const devicesOf = (run: number): number[] => childrenOf(run).flatMap(childrenOf);

/** The device processes of a run, when there are so many that have locked themselves in. They come while the guest runs already. */
export async function lockedDevices(run: number, count: number): Promise<number[]> {
  for (;;) {
    const locked = devicesOf(run).filter((pid) => /^Seccomp:\s2$/m.test(statusOf(pid)));
    if (locked.length >= count) return locked;
    await sleep(20);
  }
}

/** Empty: it has gone. */
function statusOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return '';
  }
}

/** Waits until a process has gone. */
export async function gone(pid: number): Promise<void> {
  while (existsSync(`/proc/${pid}`)) await sleep(20);
}
