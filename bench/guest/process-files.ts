// What /proc tells of a process (proc(5)).

import { readFileSync } from 'node:fs';

/** Milliseconds of one of the clock ticks that /proc counts in, on every Linux for x86-64. */
const TICK = 10;

/** Processor time of a process and its threads, in milliseconds; NaN when it has ended. */
export function cpuTime(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field may hold spaces; it ends with the last parenthesis.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK;
  } catch {
    return Number.NaN;
  }
}

/**
 * Resident memory of a process besides its guest's RAM, in bytes: all mappings but those of a memfd and those as large as the RAM
 * (QEMU maps it anonymously).
 */
export function residentBeyondRam(pid: number, ramBytes: number): number {
  let sum = 0;
  let counts = true;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    const range = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)$/.exec(line);
    if (range !== null) {
      const size = Number.parseInt(range[2] as string, 16) - Number.parseInt(range[1] as string, 16);
      counts = size !== ramBytes && !(range[3] as string).startsWith('/memfd:');
    } else if (counts && line.startsWith('Rss:')) sum += Number(/\d+/.exec(line)?.[0]) * 1024;
  }
  return sum;
}
