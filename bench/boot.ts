// `npm run bench -- boot`: the same kernel and initramfs on Vivarium and on QEMU's translator (TCG), in turns.
//
// Into the initramfs goes a program, started as the first process, that writes one line and powers off. Measured from the start of
// the process: the first guest instruction (by a kernel that does nothing else), that line, and the end of the process. On Vivarium
// with what earlier starts have translated, and without.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import { defaultGuest } from '../src/cli/guest.ts';
import { writeCpio } from '../src/guest/cpio.ts';
import { debugExitKernel, FIRST_WORD, markerProgram } from './lib/elf.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { type Summary, summarize } from './lib/statistics.ts';
import { type TimedRun, timedRun } from './lib/timed-run.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
/** Memory of the guests, in MiB. */
const MEMORY = 512;
export const MARKER = 'vivarium-bench: user space';
export const PARAMS = 'rdinit=/vivarium-bench';
/** A boot that takes longer has failed, in milliseconds. */
const TIMEOUT = 180_000;
/** What the kernel says when something is wrong with the machine. */
const COMPLAINT = /^.*(?:Kernel panic|Oops|BUG:|WARNING:|soft lockup|Call Trace).*$/m;
/** Value for the debug exit, and the status it makes: another than that of an error. */
export const EXIT_VALUE = 21;
export const EXIT_STATUS = (EXIT_VALUE << 1) | 1;

interface Options {
  readonly kernel: string;
  readonly initrd: string;
  readonly runs: number;
}

export interface Machine {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Folder in which it finds what earlier starts have left, and whether that is taken away before each start. */
  readonly cache?: { readonly folder: string; readonly isEmptied: boolean };
  /** Milliseconds to the first line of user space, and to the end. */
  readonly userSpace: number[];
  readonly end: number[];
}

async function readOptions(args: string[]): Promise<Options> {
  const { values } = parseArgs({
    args,
    options: { kernel: { type: 'string' }, initrd: { type: 'string' }, runs: { type: 'string', default: '5' } },
  });
  const runs = parseRuns(values.runs);
  if (values.kernel !== undefined && values.initrd !== undefined) {
    return { kernel: values.kernel, initrd: values.initrd, runs };
  }
  const guest = await defaultGuest();
  return { kernel: values.kernel ?? guest.kernel, initrd: values.initrd ?? guest.initrd, runs };
}

/** An initramfs that holds the first process of the bench beside all that is in `initrd`. */
export function benchInitrd(initrd: string): Buffer {
  const archive = writeCpio([
    { type: 'directory', name: 'dev', mode: 0o755 },
    { type: 'character', name: 'dev/console', mode: 0o600, major: 5, minor: 1 },
    { type: 'file', name: 'vivarium-bench', mode: 0o755, data: markerProgram(`${MARKER}\n`) },
  ]);
  // The kernel unpacks one archive after the other, each packed in its own way.
  return Buffer.concat([archive, readFileSync(initrd)]);
}

/** Fails if a run did not do what it was to do. */
export function check(name: string, run: TimedRun, status: number): void {
  const tail = (text: string): string => text.trimEnd().split('\n').slice(-12).join('\n');
  if (run.status !== status) {
    const how = run.status === null ? 'was killed or took too long' : `ended with status ${run.status}`;
    throw new Error(`${name} ${how}\n${tail(run.output)}\n${tail(run.errors)}`);
  }
  const complaint = COMPLAINT.exec(run.output);
  if (complaint !== null) throw new Error(`the kernel complains on ${name}: ${complaint[0]}`);
}

async function boot(machine: Machine): Promise<void> {
  const { cache } = machine;
  if (cache?.isEmptied) rmSync(cache.folder, { recursive: true, force: true });
  const run = await timedRun(machine.command, machine.args, MARKER, TIMEOUT, cache && { XDG_CACHE_HOME: cache.folder });
  check(machine.name, run, 0);
  if (run.marker === undefined) throw new Error(`${machine.name}: the first process has not started`);
  machine.userSpace.push(run.marker);
  machine.end.push(run.end);
  process.stdout.write(
    `${machine.name}: ${Math.round(run.marker)} ms to user space, ${Math.round(run.end)} ms to the end\n`,
  );
}

/** Times of runs of a kernel that ends the machine with its first instructions, in milliseconds. */
async function firstInstruction(kernel: string, runs: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const args = [VIVARIUM, 'run', '--mem', `${MEMORY}`, '--debug-exit', kernel];
    const run = await timedRun(process.execPath, args, FIRST_WORD, TIMEOUT);
    check('Vivarium', run, EXIT_STATUS);
    times.push(run.marker ?? Number.NaN);
  }
  return times;
}

function row(what: string, name: string, { runs, median, min, max }: Summary): string[] {
  return [what, name, `${runs}`, ...[median, min, max].map((time) => time.toFixed(0))];
}

export async function bootBench(args: string[]): Promise<void> {
  const { kernel, initrd, runs } = await readOptions(args);
  const qemu = qemuVersion();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const bootInitrd = join(folder, 'initrd');
    const nothing = join(folder, 'kernel');
    writeFileSync(bootInitrd, benchInitrd(initrd));
    writeFileSync(nothing, debugExitKernel(EXIT_VALUE));

    const vivarium = (name: string, isEmptied: boolean): Machine => ({
      name: `Vivarium, ${name}`,
      command: process.execPath,
      args: [
        ...[VIVARIUM, 'run', '--hypervisor', 'soft', '--mem', `${MEMORY}`],
        ...['-p', PARAMS, '--initrd', bootInitrd, kernel],
      ],
      cache: { folder: join(folder, `cache-${isEmptied}`), isEmptied },
      userSpace: [],
      end: [],
    });
    const started = vivarium('started before', false);
    const machines: Machine[] = [
      started,
      vivarium('first start', true),
      {
        name: 'QEMU TCG',
        command: QEMU,
        args: [
          ...['-accel', 'tcg', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config', '-no-reboot'],
          ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', bootInitrd],
          ...['-append', `${BASE_COMMAND_LINE} ${PARAMS}`],
        ],
        userSpace: [],
        end: [],
      },
    ];
    const first = summarize(await firstInstruction(nothing, Math.max(runs, 5)));
    process.stdout.write(`Vivarium: ${Math.round(first.median)} ms to the first guest instruction and out again\n`);
    await boot({ ...started, userSpace: [], end: [] });
    for (let i = 0; i < runs; i++) for (const machine of machines) await boot(machine);

    const summaries = machines.map(({ name, userSpace, end }) => {
      return { name, userSpace: summarize(userSpace), end: summarize(end) };
    });
    const [again, anew, other] = summaries as [(typeof summaries)[0], (typeof summaries)[0], (typeof summaries)[0]];
    const ratioOf = ({ userSpace, end }: (typeof summaries)[0]): { userSpace: number; end: number } => {
      return { userSpace: userSpace.median / other.userSpace.median, end: end.median / other.end.median };
    };
    const ratio = { ...ratioOf(again), firstStart: ratioOf(anew) };
    const times = table([
      ['from the start of the process to', 'machine', 'runs', 'median ms', 'min', 'max'],
      row('the first guest instruction, and out again', 'Vivarium', first),
      ...summaries.map(({ name, userSpace }) => row('the first line of user space', name, userSpace)),
      ...summaries.map(({ name, end }) => row('the end', name, end)),
    ]);
    const verdict =
      `Vivarium takes ${ratio.userSpace.toFixed(2)} times as long as QEMU to user space, ${ratio.end.toFixed(2)} times to the end, where it has ` +
      `started that guest before; ${ratio.firstStart.userSpace.toFixed(2)} and ${ratio.firstStart.end.toFixed(2)} times at the very first start (medians).`;
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node} (V8 ${host.v8}), ` +
      `QEMU ${qemu}, guests of ${MEMORY} MiB and one processor`;
    process.stdout.write(`\n${times}\n\n${verdict}\n${setting}\n`);
    writeResults(
      'boot',
      { host, qemu, memoryMiB: MEMORY, firstInstruction: first, machines: summaries, ratio },
      `# Boot\n\nMade by \`npm run bench -- boot\`: ${setting}.\n\n${times}\n\n${verdict}\n`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
