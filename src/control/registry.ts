/**
 * The machines of this user that run: a file for each in a folder of the user's, made at the start and gone at the end. What a
 * process left that was killed is known by its number and start time, and taken away by whoever looks.
 */
import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import type { MachineDescription } from './machine.ts';

export interface RunningMachine extends MachineDescription {
  readonly pid: number;
  /** Milliseconds since 1970. */
  readonly started: number;
  /** Path of its control socket. */
  readonly socket: string | undefined;
}

/** The folder (XDG Base Directory Specification), made if it is not there; undefined: there is no place that is ours alone. */
function runtimeFolder(): string | undefined {
  const uid = process.getuid?.();
  const given = process.env['XDG_RUNTIME_DIR'] ?? '';
  const folders = [
    ...(isAbsolute(given) ? [join(given, 'vivarium')] : []),
    join('/run/user', String(uid), 'vivarium'),
    join(tmpdir(), `vivarium-${uid}`),
  ];
  return folders.find((folder) => {
    try {
      mkdirSync(folder, { mode: 0o700 });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return false;
    }
    const status = lstatSync(folder);
    return status.isDirectory() && status.uid === uid && (status.mode & 0o077) === 0;
  });
}

/** When a process began, in the kernel's ticks since its own start (proc(5), /proc/pid/stat, field 22); undefined: there is none. */
function startTime(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is a name in brackets that may hold anything.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

const nameOf = (pid: number): string => `${pid}-${startTime(pid)}.json`;

/** Puts this process's machine into the list. Returns what takes it off; without that it goes with the process. */
export function registerMachine(machine: Omit<RunningMachine, 'pid' | 'started'>): () => void {
  const folder = runtimeFolder();
  if (folder === undefined) return () => {};
  const path = join(folder, nameOf(process.pid));
  // Who reads it may be in another folder.
  const socket = machine.socket && resolve(machine.socket);
  const record: RunningMachine = { pid: process.pid, started: Date.now(), ...machine, socket };
  try {
    // Readers find it whole or not at all.
    writeFileSync(`${path}.partial`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${path}.partial`, path);
  } catch {
    // A machine runs also where it cannot be listed.
    return () => {};
  }
  const remove = (): void => {
    process.off('exit', remove);
    rmSync(path, { force: true });
  };
  process.on('exit', remove);
  return remove;
}

/** The machines that run, oldest first. */
export function runningMachines(): RunningMachine[] {
  const folder = runtimeFolder();
  if (folder === undefined) return [];
  const machines: RunningMachine[] = [];
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const pid = Number(/^(\d+)-\d+\.json(?:\.partial)?$/.exec(name)?.[1]);
    if (Number.isNaN(pid)) continue;
    if (!name.startsWith(nameOf(pid))) {
      rmSync(path, { force: true });
      continue;
    }
    const record = name.endsWith('.json') ? readRecord(path) : undefined;
    if (record !== undefined) machines.push(record);
  }
  return machines.sort((a, b) => a.started - b.started);
}

function readRecord(path: string): RunningMachine | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as RunningMachine;
  } catch {
    // It ended just now.
    return undefined;
  }
}

/** The control socket that an argument means: a process's number, or a path. Throws an Error of one line. */
export function socketOf(machine: string): string {
  if (!/^\d+$/.test(machine)) return machine;
  const found = runningMachines().find(({ pid }) => pid === Number(machine));
  if (found === undefined)
    throw new Error(`${machine}: no machine of this user has this number: vivarium ps lists them`);
  if (found.socket === undefined) throw new Error(`${machine}: the machine was started without --socket`);
  return found.socket;
}
