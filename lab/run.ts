/** Runs a command in the lab: QEMU emulates a machine whose processor has AMD's virtualisation, and so a KVM of its own. */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab } from './build.ts';

const QEMU = 'qemu-system-x86_64';
/** Lines of the kernel's console that are shown when the command did not come to its end. */
const CONSOLE_LINES = 30;

/** The lab itself failed; the message is for people. */
export class LabError extends Error {
  override readonly name: string = 'LabError';
}

/** Nothing was heard of the command for LabOptions.silence. */
export class SilentLabError extends LabError {
  override readonly name = 'SilentLabError';
}

export interface LabOptions {
  /** Processors of the emulated machine: 1 where it is not said, since guests of several stand still in a lab of two. */
  readonly cpus?: number;
  /** Its memory, MiB. */
  readonly memory?: number;
  /** The lab is ended after this time, milliseconds. */
  readonly timeout?: number;
  /** And when its command has written nothing for so long, milliseconds: guests stand still in it at times. With `output` only. */
  readonly silence?: number;
  /** A folder of the host to which files go that the command leaves in /lab/results. */
  readonly results?: string;
  /** Takes what the command writes, to either output. Absent: it shares this process's terminal. */
  readonly output?: (bytes: Buffer) => void;
}

/** A word as the shell takes it. */
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** A command line of one word is the shell's own; of several, a program with its arguments. */
export function commandLine(words: readonly string[]): string {
  return words.length === 1 ? (words[0] as string) : words.map(quote).join(' ');
}

/**
 * Runs a shell command in the lab, in the current folder, over the host's files: its changes stay in the lab, but for what it
 * leaves in /lab/results. Resolves with its exit status.
 * @throws LabError if the machine does not start or ends before the command, SilentLabError if it was ended for its silence
 */
export async function runInLab(lab: Lab, command: string, options: LabOptions = {}): Promise<number> {
  const share = mkdtempSync(join(tmpdir(), 'vivarium-lab-'));
  try {
    mkdirSync(join(share, 'results'));
    writeFileSync(
      join(share, 'command'),
      `export PATH=${quote(process.env.PATH ?? '')} HOME=${quote(process.env.HOME ?? '/root')} VIVARIUM_IN_LAB=1\n` +
        `cd ${quote(process.cwd())}\n${command}\n`,
    );
    const console = join(share, 'console');
    const { ended, wasSilent } = await runQemu(qemuArguments(lab, share, console, options), options);
    const status = readStatus(share);
    if (options.results !== undefined) cpSync(join(share, 'results'), options.results, { recursive: true });
    if (status === undefined) throw new (wasSilent ? SilentLabError : LabError)(`${ended}\n${tail(console)}`);
    return status;
  } finally {
    rmSync(share, { recursive: true, force: true });
  }
}

function qemuArguments(lab: Lab, share: string, console: string, options: LabOptions): string[] {
  const share9p = (path: string, tag: string, more: string): string[] => [
    '-virtfs',
    `local,path=${path},mount_tag=${tag},security_model=none,multidevs=remap${more}`,
  ];
  return [
    // One thread for all processors: with several, QEMU before 8.1 loses some changes of code, which kernels and V8 make to theirs.
    ...['-accel', 'tcg,thread=single', '-cpu', 'EPYC,+svm,+npt', '-M', 'q35'],
    ...['-smp', String(options.cpus ?? 1), '-m', String(options.memory ?? 4096)],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ...['-kernel', lab.kernel, '-initrd', lab.initrd],
    ...['-append', 'console=ttyS0 panic=-1 softlockup_panic=1 mitigations=off quiet'],
    ...['-serial', `file:${console}`],
    ...['-chardev', 'stdio,id=command,signal=off', '-device', 'virtio-serial-pci'],
    ...['-device', 'virtconsole,chardev=command'],
    ...share9p('/', 'hostroot', ',readonly=on'),
    ...share9p(share, 'lab', ''),
  ];
}

/** Resolves when QEMU has ended, with how. */
async function runQemu(
  args: readonly string[],
  { timeout, silence, output }: LabOptions,
): Promise<{ ended: string; wasSilent: boolean }> {
  const ending = Promise.withResolvers<string>();
  const stdin = process.stdin.isTTY && !output ? 'inherit' : 'ignore';
  const child = spawn(QEMU, args, { stdio: [stdin, output ? 'pipe' : 'inherit', 'pipe'] });
  // It warns of what its processor lacks, each time: this matters only where it fails.
  let complaints = '';
  child.stderr?.on('data', (text) => {
    complaints += text;
  });
  const kill = (): void => void child.kill('SIGKILL');
  let wasSilent = false;
  const onSilence = (): void => {
    wasSilent = true;
    kill();
  };
  const quiet = silence === undefined ? undefined : setTimeout(onSilence, silence);
  child.stdout?.on('data', (bytes: Buffer) => {
    quiet?.refresh();
    output?.(bytes);
  });
  const timer = timeout === undefined ? undefined : setTimeout(kill, timeout);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const onSignal = (signal: NodeJS.Signals): void => {
    kill();
    process.exitCode = 128 + constants.signals[signal];
  };
  for (const signal of signals) process.on(signal, onSignal);
  process.on('exit', kill);
  child.on('error', (error: NodeJS.ErrnoException) =>
    ending.reject(
      new LabError(
        error.code === 'ENOENT'
          ? `${QEMU} is not installed: install the package qemu-system-x86`
          : `${QEMU} cannot be started: ${error.message}`,
      ),
    ),
  );
  child.on('close', (status, signal) =>
    ending.resolve(`the lab ended before its command (${QEMU}: ${signal ?? `status ${status}`})\n${complaints}`),
  );
  try {
    return { ended: await ending.promise, wasSilent };
  } finally {
    clearTimeout(timer);
    clearTimeout(quiet);
    for (const signal of signals) process.off(signal, onSignal);
    process.off('exit', kill);
  }
}

function readStatus(share: string): number | undefined {
  try {
    const text = readFileSync(join(share, 'status'), 'utf8');
    return /^\d+\n$/.test(text) ? Number(text) : undefined;
  } catch {
    return undefined;
  }
}

function tail(console: string): string {
  try {
    return readFileSync(console, 'utf8').split('\n').slice(-CONSOLE_LINES).join('\n');
  } catch {
    return '';
  }
}
