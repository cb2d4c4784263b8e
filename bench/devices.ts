// `npm run bench -- devices`: how long device processes take to start, from the monitor's call until they serve their queues, each alone
// and all at once; and what memory they have then.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { DeviceModel } from '../src/virtio/backend.ts';
import { balloonModel } from '../src/virtio/balloon/model.ts';
import { blockModel } from '../src/virtio/block/model.ts';
import { fsModel } from '../src/virtio/fs/model.ts';
import { userNetModel } from '../src/virtio/net/user-model.ts';
import { p9Model } from '../src/virtio/p9/model.ts';
import { rngModel } from '../src/virtio/rng/model.ts';
import { closeMemory, createMemory } from '../src/vm/memory.ts';
import { VirtioDevices } from '../src/vm/virtio-devices.ts';
import { devicesOf } from '../test/cli/processes.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { summarize } from './lib/statistics.ts';

/** Bytes. */
const DISK_SIZE = 1 << 20;
const MEMORY_SIZE = 64 << 20;

type Kinds = Readonly<Record<string, () => DeviceModel>>;

function kindsIn(folder: string): Kinds {
  const disk = join(folder, 'disk');
  const path = join(folder, 'shared');
  writeFileSync(disk, Buffer.alloc(DISK_SIZE));
  mkdirSync(path);
  const shared = { path, tag: 'shared', readOnly: false, uid: null, gid: null };
  return {
    disk: () => blockModel({ path: disk, format: 'raw', writable: true }, 1),
    'random numbers': rngModel,
    balloon: balloonModel,
    'user network': () => userNetModel({ kind: 'user', allow: [], deny: [], published: [] }),
    'shared directory, 9P': () => p9Model({ ...shared, protocol: { type: 'p9' } }),
    'shared directory, virtio-fs': () => fsModel({ ...shared, protocol: { type: 'fs', cache: 'auto' } }),
  };
}

/** Proportional set size of a process, MiB. */
function proportionalSize(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
}

/** Starts the devices at once, and ends them. Milliseconds until all serve, and MiB of each. */
async function startAll(models: readonly DeviceModel[]): Promise<{ readonly time: number; readonly sizes: number[] }> {
  const memory = createMemory(MEMORY_SIZE, true);
  const devices = new VirtioDevices(
    models,
    'pci',
    memory,
    {},
    {
      log: () => {},
      failed: (line) => process.stderr.write(`${line}\n`),
      interrupt: () => {},
      event: () => {},
    },
  );
  const begun = performance.now();
  await devices.start();
  const time = performance.now() - begun;
  const sizes = devicesOf(process.pid).map(proportionalSize);
  await devices.close();
  closeMemory(memory);
  return { time, sizes };
}

export async function devicesBench(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { runs: { type: 'string', default: '10' } } });
  const runs = parseRuns(values.runs);
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const kinds = kindsIn(folder);
    const groups = [...Object.entries(kinds).map(([name, make]) => [name, [make]] as const)];
    const all = [...groups, [`all ${groups.length} at once`, Object.values(kinds)] as const];
    // What the monitor loads for its first jail.
    await startAll([rngModel()]);
    const results = new Map(all.map(([name]) => [name, { times: [] as number[], sizes: [] as number[] }]));
    for (let run = 0; run < runs; run++) {
      for (const [name, makers] of all) {
        const { time, sizes } = await startAll(makers.map((make) => make()));
        results.get(name)!.times.push(time);
        results.get(name)!.sizes.push(...sizes);
      }
    }
    const rows = [...results].map(([name, { times, sizes }]) => {
      const [time, size] = [summarize(times), summarize(sizes)];
      const cells = [time.median, time.min, time.max, size.median, size.max].map((value) => value.toFixed(0));
      return [name, `${runs}`, ...cells];
    });
    const host = describeHost();
    const page = [
      table([['device', 'runs', 'median ms', 'min', 'max', 'PSS MiB', 'max'], ...rows]),
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}`,
    ].join('\n\n');
    process.stdout.write(`${page}\n`);
    const measured = Object.fromEntries(
      [...results].map(([name, { times, sizes }]) => [name, { time: summarize(times), size: summarize(sizes) }]),
    );
    writeResults('devices', { host, measured }, `# Device processes\n\n${page}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
