// The host is low on memory: the balloon takes memory that the guest uses for files, and it goes back to the host. It is made low for a group of
// processes alone, which reads a file larger than what it may have; pressure stall information tells of that, too.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from '../../src/control/client.ts';
import { lowMemorySource } from '../../src/control/low-memory/source.ts';
import { Poller } from '../../src/host/poller.ts';
import { LONG, RunningGuest } from './running-guest.ts';

const MIB = 2 ** 20;
const TMPFS_MAGIC = 0x0102_1994;
/** Far more than the group has. */
const FILE_SIZE = 180 * MIB;
const LIMIT = 8 * MIB;
/** A sixteenth of what a balloon may take from this guest, MiB. */
const STEP = 16;
/** A guest that has given nothing back for this time, milliseconds, has nothing more to give. */
const SETTLED = 3000;

const folder = mkdtempSync(join(tmpdir(), 'vivarium-low-memory-'));
/** One for the guest, one for the group: what is in the host's memory for another already, a group reads without any of its own. */
const [disk, file] = ['disk', 'file'].map((name) => join(folder, name)) as [string, string];
for (const path of [disk, file]) {
  writeFileSync(path, '');
  truncateSync(path, FILE_SIZE);
}
after(() => rmSync(folder, { recursive: true, force: true }));

/** Where groups are, and the file that limits one: cgroups of version 2, or of version 1. */
const GROUPS = [
  ['/sys/fs/cgroup', 'memory.max'],
  ['/sys/fs/cgroup/memory', 'memory.limit_in_bytes'],
] as const;

/** A group of processes that may have little memory; undefined: there can be none. */
function makeGroup(): string | undefined {
  for (const [root, limit] of GROUPS) {
    const group = join(root, `vivarium-test-${process.pid}`);
    try {
      mkdirSync(group);
    } catch {
      continue;
    }
    if (existsSync(join(group, limit))) {
      writeFileSync(join(group, limit), String(LIMIT));
      return group;
    }
    rmdirSync(group);
  }
  return undefined;
}

/** Why the host cannot be watched, or false. */
async function withoutSource(): Promise<string | false> {
  const source = lowMemorySource();
  if (source === undefined) return 'no pressure stall information';
  const poller = new Poller();
  try {
    source.watch(poller, () => {})();
    return false;
  } catch (error) {
    return (error as Error).message;
  } finally {
    await poller.close();
  }
}

test('a host that is low on memory gets some of the guest’s', async (t) => {
  // Every machine on this host gives memory then.
  if (process.env['VIVARIUM_LOW_MEMORY'] === undefined) return t.skip('with VIVARIUM_LOW_MEMORY=1 it is done');
  const why = await withoutSource();
  if (why !== false) return t.skip(why);
  if (statfsSync(folder).type === TMPFS_MAGIC) return t.skip('temporary files are memory here');
  const group = makeGroup();
  if (group === undefined) return t.skip('no group of processes can be made');
  t.after(async () => {
    for (const deadline = Date.now() + LONG; existsSync(group) && Date.now() < deadline; await sleep(50)) {
      try {
        for (const pid of readFileSync(join(group, 'cgroup.procs'), 'latin1').split('\n').filter(Boolean)) {
          process.kill(Number(pid), 'SIGKILL');
        }
        rmdirSync(group);
      } catch {
        // Some have not ended yet.
      }
    }
  });

  const socket = join(folder, 'machine.sock');
  const run = RunningGuest.run('-m', '512', '-p', 'quiet cryptomgr.notests', '--socket', socket, '--disk', disk);
  t.after(() => run.kill());
  await run.shell();
  // Little is free then, and much is used for files. As long as somebody has the disk open, what was read stays in memory.
  await run.command('dd if=/dev/zero of=/tmp/large bs=1M count=200');
  await run.command('exec 3</dev/vda; cat <&3 >/dev/null');
  /** Guest memory that the monitor has resident, MiB. */
  const resident = (): number =>
    Number(/^RssShmem:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${run.child.pid}/status`, 'latin1'))?.[1]) / 1024;
  const target = async (): Promise<number> => ((await ask(socket, 'GET', '/balloon')) as { size: number }).size / MIB;
  // What is free by now goes back by itself.
  let before = resident();
  for (let last = 0; last !== before; before = resident()) {
    last = before;
    await sleep(SETTLED);
  }
  assert.ok(before > 300, `${before} MiB`);
  assert.equal(await target(), 0);

  const loop = `echo $$ >${group}/cgroup.procs && exec timeout -k 0 120 sh -c 'while cat ${file} >/dev/null; do :; done'`;
  spawn('sh', ['-c', loop], { stdio: ['ignore', 'ignore', 'inherit'] });
  const deadline = Date.now() + LONG;
  const becomes = async (condition: () => Promise<boolean>): Promise<void> => {
    while (!(await condition())) {
      const state = `the balloon is to have ${await target()} MiB; resident: ${resident()} of ${before} MiB`;
      assert.ok(Date.now() < deadline, state);
      await sleep(200);
    }
  };
  await becomes(async () => (await target()) >= 4 * STEP);
  assert.equal((await target()) % STEP, 0);
  await becomes(async () => resident() < before - 3 * STEP);
  assert.deepEqual(run.complaints, []);
});
