/** Figures of a running machine, gathered when they are asked for. */
import { readFileSync } from 'node:fs';
import type { ThreadTime } from '../host/threads.ts';
import type { ControlledMachine } from './machine.ts';

export interface MachineStatistics {
  /** Seconds since the process began. */
  readonly uptime: number;
  readonly paused: boolean;
  readonly processors: readonly ThreadTime[];
  /** Memory of the host that this process has, bytes: all of it, and what of it is guest RAM or shared otherwise. */
  readonly resident: { readonly total: number; readonly shared: number };
  /** Absent: the machine has no balloon. */
  readonly balloon?: {
    readonly size: number;
    readonly actual: number;
    readonly guest: Readonly<Record<string, number>>;
  };
  readonly disks: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export async function collectStatistics(machine: ControlledMachine): Promise<MachineStatistics> {
  const { balloon } = machine;
  const guest = await balloon?.statistics();
  const disks = await Promise.all(machine.disks.map(async (disk) => [disk.name, await disk.statistics()] as const));
  return {
    uptime: process.uptime(),
    paused: machine.state === 'paused',
    processors: machine.processors(),
    resident: residentMemory(),
    ...(balloon && guest && { balloon: { size: balloon.target, actual: balloon.actual, guest } }),
    disks: Object.fromEntries(disks),
  };
}

/** proc(5), /proc/pid/status: RssFile is program files. */
function residentMemory(): { readonly total: number; readonly shared: number } {
  const text = readFileSync('/proc/self/status', 'latin1');
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0) * 1024;
  return { total: bytes('VmRSS'), shared: bytes('RssShmem') };
}
