// `npm run bench -- soak [--minutes N]`: boots a guest on the built-in processor and runs the set of `bench guest` in it, again and
// again. Each member must always write the same, and the process must not grow.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { defaultGuest } from '../src/cli/guest.ts';
import { benchImage } from './guest/image.ts';
import { MEMBERS } from './guest/members.ts';
import { debianPrograms } from './guest/packages.ts';
import { residentBeyondRam } from './guest/process-files.ts';
import { GuestSession } from './guest/session.ts';
import { MEMORY, vivarium } from './guest.ts';
import { describeHost, table, writeResults } from './lib/report.ts';

const MIB = 2 ** 20;
/** What the process may grow by from the second round to the last. */
const GROWTH = 1.25;

export async function soakBench(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { minutes: { type: 'string', default: '60' } } });
  const minutes = Number(values.minutes);
  if (!(minutes > 0 && minutes <= 10_000)) throw new Error('--minutes takes a number above 0, 10000 at most');
  const { kernel } = await defaultGuest();
  const { tree } = await debianPrograms();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-soak-'));
  try {
    const initrd = join(folder, 'initrd');
    writeFileSync(initrd, benchImage(tree, MEMBERS));
    const { name, command, args: machine } = vivarium(kernel, initrd);
    const session = new GuestSession(name, command, machine);
    try {
      await soak(session, minutes);
      await session.powerOff();
    } finally {
      session.kill();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function soak(session: GuestSession, minutes: number): Promise<void> {
  const deadline = performance.now() + minutes * 60_000;
  const known = new Map<string, string>();
  const rounds: { seconds: number; residentMiB: number }[] = [];
  for (;;) {
    const runs = await session.set();
    for (const { name, checksum } of runs) {
      const first = known.get(name) ?? checksum;
      known.set(name, first);
      if (checksum !== first)
        throw new Error(`${name} wrote something else in round ${rounds.length + 1}: ${checksum}`);
    }
    const seconds = runs.reduce((sum, { wall }) => sum + wall, 0) / 1000;
    const residentMiB = residentBeyondRam(session.pid, MEMORY * MIB) / MIB;
    rounds.push({ seconds, residentMiB });
    process.stdout.write(
      `round ${rounds.length}: ${seconds.toFixed(1)} s, ${residentMiB.toFixed(0)} MiB beyond guest RAM\n`,
    );
    if (performance.now() > deadline) break;
    session.again();
  }
  report(minutes, rounds);
  const [, second = rounds[0]] = rounds;
  const [last] = rounds.slice(-1);
  if (second && last && last.residentMiB > second.residentMiB * GROWTH) {
    throw new Error(`the process grew from ${second.residentMiB.toFixed(0)} to ${last.residentMiB.toFixed(0)} MiB`);
  }
}

function report(minutes: number, rounds: readonly { seconds: number; residentMiB: number }[]): void {
  const host = describeHost();
  const rows = table([
    ['round', '', 'seconds', 'MiB beyond guest RAM'],
    ...rounds.map(({ seconds, residentMiB }, i) => [`${i + 1}`, '', seconds.toFixed(1), residentMiB.toFixed(0)]),
  ]);
  writeResults(
    'soak',
    { host, minutes, rounds },
    `# Soak\n\nMade by \`npm run bench -- soak --minutes ${minutes}\`: ${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, ` +
      `Node ${host.node}. The set of \`npm run bench -- guest\` in one guest of ${MEMORY} MiB, again and again; every member wrote the same ` +
      `each time.\n\n${rows}\n`,
  );
}
