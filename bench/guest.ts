// `npm run bench -- guest`: a set of programs inside a booted guest, on Vivarium and on QEMU's translator (TCG), in turns. The set runs
// several times in each guest: the first run of a program is mostly the translation of code that is new, later ones are what that code is worth.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import { defaultGuest } from '../src/cli/guest.ts';
import { benchImage, compilerVersion, FIRST_PROCESS } from './guest/image.ts';
import { MEMBERS, type Member } from './guest/members.ts';
import { debianPrograms } from './guest/packages.ts';
import { residentBeyondRam } from './guest/process-files.ts';
import { GuestSession, type MemberRun } from './guest/session.ts';
import { barChart } from './lib/chart.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { summarize } from './lib/statistics.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
/** How often a guest runs the set. */
const PASSES = 3;
/** Memory of the guests, in MiB. */
export const MEMORY = 512;

export interface Machine {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Runs of members in guests that had not run them before. */
  readonly first: MemberRun[];
  /** Runs after those. */
  readonly later: MemberRun[];
  /** Resident bytes beyond guest RAM after the sets, one a round. */
  readonly resident: number[];
}

const PARAMS = `quiet ${FIRST_PROCESS}`;

/** The set's guest on the built-in processor. */
export function vivarium(kernel: string, initrd: string): Machine {
  return {
    name: 'Vivarium',
    command: process.execPath,
    args: [
      ...[VIVARIUM, 'run', '--hypervisor', 'soft', '--mem', `${MEMORY}`],
      ...['-p', PARAMS, '--initrd', initrd, kernel],
    ],
    first: [],
    later: [],
    resident: [],
  };
}

function qemuTcg(kernel: string, initrd: string): Machine {
  return {
    name: 'QEMU TCG',
    command: QEMU,
    args: [
      ...['-accel', 'tcg', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config', '-no-reboot'],
      ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd],
      ...['-append', `${BASE_COMMAND_LINE} ${PARAMS}`],
    ],
    first: [],
    later: [],
    resident: [],
  };
}

/** `cache`: an empty folder, or none yet: nobody has translated any of it before. */
async function round({ name, command, args, first, later, resident }: Machine, cache: string): Promise<void> {
  const session = new GuestSession(name, command, args, { XDG_CACHE_HOME: cache });
  const seconds = (runs: readonly MemberRun[]): string =>
    `${(runs.reduce((sum, { wall }) => sum + wall, 0) / 1000).toFixed(1)} s`;
  const times: string[] = [];
  try {
    for (let pass = 0; pass < PASSES; pass++) {
      if (pass > 0) session.again();
      const runs = await session.set();
      (pass === 0 ? first : later).push(...runs);
      times.push(seconds(runs));
    }
    resident.push(residentBeyondRam(session.pid, MEMORY * 2 ** 20));
    await session.powerOff();
  } finally {
    session.kill();
  }
  process.stdout.write(`${name}: ${times.join(', ')}\n`);
}

/** All runs of a member must have written the same. */
function checkOutputs(all: readonly Machine[]): void {
  const known = new Map<string, string>();
  for (const { name: machine, first, later } of all) {
    for (const { name, checksum } of [...first, ...later]) {
      const wanted = known.get(name) ?? checksum;
      known.set(name, wanted);
      if (checksum !== wanted)
        throw new Error(`${name} on ${machine} wrote something else: ${checksum}, not ${wanted}`);
    }
  }
}

/** Medians of a member's runs on both machines, in milliseconds, and how many times as fast ours is. */
interface Figures {
  readonly vivarium: number;
  readonly qemu: number;
  readonly speed: number;
  /** By processor time. */
  readonly cpuSpeed: number;
}

function figures(member: string, ours: readonly MemberRun[], other: readonly MemberRun[]): Figures {
  const median = (runs: readonly MemberRun[], time: 'wall' | 'cpu'): number =>
    summarize(runs.filter(({ name }) => name === member).map((run) => run[time])).median;
  const [vivarium, qemu] = [median(ours, 'wall'), median(other, 'wall')];
  return { vivarium, qemu, speed: qemu / vivarium, cpuSpeed: median(other, 'cpu') / median(ours, 'cpu') };
}

/** Geometric. */
function mean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}

/** What a set of runs comes to, in words. */
function verdict(results: readonly (Figures & { readonly name: string })[]): string {
  const slower = results.filter(({ speed }) => speed < 1);
  const names = slower.map(({ name, speed }) => `${name} ${speed.toFixed(2)}`);
  return (
    `${mean(results.map(({ speed }) => speed)).toFixed(2)} times as fast as QEMU (geometric mean of medians); slower in ` +
    `${slower.length} of ${results.length}${slower.length > 0 ? ` (${names.join(', ')})` : ''}`
  );
}

function readOptions(args: string[]): { rounds: number; members: readonly Member[] } {
  const { values } = parseArgs({
    args,
    options: { rounds: { type: 'string', default: '3' }, only: { type: 'string' } },
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000)
    throw new Error('--rounds takes a number from 1 to 1000');
  const names = values.only?.split(',');
  const unknown = names?.find((name) => !MEMBERS.some((member) => member.name === name));
  if (unknown !== undefined)
    throw new Error(`--only: no member ${unknown}; there are ${MEMBERS.map(({ name }) => name)}`);
  return { rounds, members: names === undefined ? MEMBERS : MEMBERS.filter(({ name }) => names.includes(name)) };
}

export async function guestBench(args: string[]): Promise<void> {
  const { rounds, members } = readOptions(args);
  const qemu = qemuVersion();
  const { kernel, kernelVersion } = await defaultGuest();
  const { tree, packages } = await debianPrograms();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const initrd = join(folder, 'initrd');
    writeFileSync(initrd, benchImage(tree, members));
    const [ours, other] = [vivarium(kernel, initrd), qemuTcg(kernel, initrd)];
    for (let i = 0; i < rounds; i++)
      for (const machine of [ours, other]) await round(machine, join(folder, `cache-${i}`));
    checkOutputs([ours, other]);

    const first = members.map(({ name }) => ({ name, ...figures(name, ours.first, other.first) }));
    const later = members.map(({ name }) => ({ name, ...figures(name, ours.later, other.later) }));
    const resident = [ours, other].map((machine) => summarize(machine.resident).median / 2 ** 20) as [number, number];
    const cells = ({ vivarium, qemu, speed, cpuSpeed }: Figures): string[] => {
      return [vivarium.toFixed(0), qemu.toFixed(0), speed.toFixed(2), cpuSpeed.toFixed(2)];
    };
    const means = (results: readonly Figures[]): string[] => [
      '',
      '',
      mean(results.map(({ speed }) => speed)).toFixed(2),
      mean(results.map(({ cpuSpeed }) => cpuSpeed)).toFixed(2),
    ];
    const rows = table([
      [
        'member',
        'what',
        'first: Vivarium ms',
        'QEMU ms',
        'speed',
        'by CPU',
        'later: Vivarium ms',
        'QEMU ms',
        'speed',
        'by CPU',
      ],
      ...members.map(({ name, what }, i) => [name, what, ...cells(first[i]!), ...cells(later[i]!)]),
      ['geometric mean', '', ...means(first), ...means(later)],
    ]);
    const verdicts =
      `Vivarium, where a guest runs a program for the first time, and no earlier one has: ${verdict(first)}. From then on: ${verdict(later)}. Every member always wrote the same.\n\n` +
      `Resident beyond guest RAM after the sets: Vivarium ${resident[0].toFixed(0)} MiB, QEMU ${resident[1].toFixed(0)} MiB.`;
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node} (V8 ${host.v8}), ` +
      `QEMU ${qemu}, gcc ${compilerVersion()}, guests of ${MEMORY} MiB and one processor with Linux ${kernelVersion}, ` +
      `${rounds} rounds, ${PASSES} runs of the set in each guest`;
    process.stdout.write(`\n${rows}\n\n${verdicts}\n${setting}\n`);
    if (members !== MEMBERS) return;
    const versions = Object.fromEntries(packages.map(({ name, version }) => [name, version]));
    writeResults(
      'guest',
      {
        host,
        qemu,
        gcc: compilerVersion(),
        kernelVersion,
        memoryMiB: MEMORY,
        rounds,
        resident,
        first,
        later,
        versions,
      },
      `# Programs in a guest\n\nMade by \`npm run bench -- guest\`: ${setting}. Times are medians; CPU is the processor time of the machine's process with all its threads.\n\n${rows}\n\n${verdicts}\n\n` +
        '![speed of each member against QEMU](guest.svg)\n',
      barChart("Speed in the guest, QEMU's translator = 1 (dots: first run)", [
        ...later.map(({ name, speed: value }, i) => ({ name, value, dot: first[i]!.speed })),
        {
          name: 'geometric mean',
          value: mean(later.map(({ speed }) => speed)),
          dot: mean(first.map(({ speed }) => speed)),
        },
      ]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
