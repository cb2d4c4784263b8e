// `npm run bench -- guest`: a set of programs inside a booted guest, on Vivarium and on QEMU's translator (TCG), in turns.

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
/** Memory of the guests, in MiB. */
export const MEMORY = 512;

export interface Machine {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Runs of the set, one list a round. */
  readonly rounds: MemberRun[][];
  /** Resident bytes beyond guest RAM after the set, one a round. */
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
    rounds: [],
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
    rounds: [],
    resident: [],
  };
}

async function round({ name, command, args, rounds, resident }: Machine): Promise<void> {
  const session = new GuestSession(name, command, args);
  try {
    rounds.push(await session.set());
    resident.push(residentBeyondRam(session.pid, MEMORY * 2 ** 20));
    await session.powerOff();
  } finally {
    session.kill();
  }
  const total = rounds.at(-1)!.reduce((sum, { wall }) => sum + wall, 0);
  process.stdout.write(`${name}: ${(total / 1000).toFixed(1)} s\n`);
}

/** All runs of a member must have written the same. */
function checkOutputs(all: readonly Machine[]): void {
  const known = new Map<string, string>();
  for (const { name: machine, rounds } of all) {
    for (const { name, checksum } of rounds.flat()) {
      const first = known.get(name) ?? checksum;
      known.set(name, first);
      if (checksum !== first) throw new Error(`${name} on ${machine} wrote something else: ${checksum}, not ${first}`);
    }
  }
}

function figures(machine: Machine, member: string): { wall: number; cpu: number } {
  const runs = machine.rounds.flat().filter(({ name }) => name === member);
  return { wall: summarize(runs.map(({ wall }) => wall)).median, cpu: summarize(runs.map(({ cpu }) => cpu)).median };
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
    for (let i = 0; i < rounds; i++) for (const machine of [ours, other]) await round(machine);
    checkOutputs([ours, other]);

    const results = members.map(({ name, what }) => {
      const [vivarium, tcg] = [figures(ours, name), figures(other, name)];
      return { name, what, vivarium, qemu: tcg, speed: tcg.wall / vivarium.wall, cpuSpeed: tcg.cpu / vivarium.cpu };
    });
    const mean = (values: readonly number[]): number => {
      return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
    };
    const speed = mean(results.map((result) => result.speed));
    const cpuSpeed = mean(results.map((result) => result.cpuSpeed));
    const resident = [ours, other].map((machine) => summarize(machine.resident).median / 2 ** 20) as [number, number];
    const rows = table([
      ['member', 'what', 'Vivarium ms', 'QEMU ms', 'speed', 'Vivarium CPU ms', 'QEMU CPU ms', 'speed by CPU'],
      ...results.map((result) => [
        ...[result.name, result.what, result.vivarium.wall.toFixed(0), result.qemu.wall.toFixed(0)],
        ...[
          result.speed.toFixed(2),
          result.vivarium.cpu.toFixed(0),
          result.qemu.cpu.toFixed(0),
          result.cpuSpeed.toFixed(2),
        ],
      ]),
      ['geometric mean', '', '', '', speed.toFixed(2), '', '', cpuSpeed.toFixed(2)],
    ]);
    const slower = results.filter((result) => result.speed < 1).map(({ name }) => name);
    const verdict =
      `Vivarium is ${speed.toFixed(2)} times as fast as QEMU (geometric mean of medians); slower in ${slower.length} of ` +
      `${results.length}${slower.length > 0 ? `: ${slower.join(', ')}` : ''}. Every member wrote the same on both.\n\n` +
      `Resident beyond guest RAM after the set: Vivarium ${resident[0].toFixed(0)} MiB, QEMU ${resident[1].toFixed(0)} MiB.`;
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node} (V8 ${host.v8}), ` +
      `QEMU ${qemu}, gcc ${compilerVersion()}, guests of ${MEMORY} MiB and one processor with Linux ${kernelVersion}, ` +
      `${rounds} rounds`;
    process.stdout.write(`\n${rows}\n\n${verdict}\n${setting}\n`);
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
        speed,
        cpuSpeed,
        resident,
        results,
        versions,
      },
      `# Programs in a guest\n\nMade by \`npm run bench -- guest\`: ${setting}. Times are medians; CPU is the processor time of the machine's process with all its threads.\n\n${rows}\n\n${verdict}\n\n` +
        '![speed of each member against QEMU](guest.svg)\n',
      barChart("Speed in the guest, QEMU's translator = 1", [
        ...results.map(({ name, speed: value }) => ({ name, value })),
        { name: 'geometric mean', value: speed },
      ]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
