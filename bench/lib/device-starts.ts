// What `npm run bench -- devices` measures, in a bundle of its own.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceModel } from '../../src/virtio/backend.ts';
import { balloonModel } from '../../src/virtio/balloon/model.ts';
import { blockModel } from '../../src/virtio/block/model.ts';
import { fsModel } from '../../src/virtio/fs/model.ts';
import { userNetModel } from '../../src/virtio/net/user-model.ts';
import { p9Model } from '../../src/virtio/p9/model.ts';
import { rngModel } from '../../src/virtio/rng/model.ts';
import { closeMemory, createMemory } from '../../src/vm/memory.ts';
import { VirtioDevices } from '../../src/vm/virtio-devices.ts';
import { devicesOf } from '../../test/cli/processes.ts';

/** Of each group of devices. */
export interface DeviceStarts {
  /** Milliseconds until all of them serve their queues, of each run. */
  readonly times: number[];
  /** Proportional set sizes of each process then, MiB. */
  readonly sizes: number[];
}

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

/** Starts each kind of device, then all at once, so many times; `folder` is for what they share. */
export async function startDevices(runs: number, folder: string): Promise<Record<string, DeviceStarts>> {
  const kinds = kindsIn(folder);
  const groups = [...Object.entries(kinds).map(([name, make]) => [name, [make]] as const)];
  const all = [...groups, [`all ${groups.length} at once`, Object.values(kinds)] as const];
  // What the monitor loads for its first jail.
  await startAll([rngModel()]);
  const results = Object.fromEntries(all.map(([name]) => [name, { times: [], sizes: [] } as DeviceStarts]));
  for (let run = 0; run < runs; run++) {
    for (const [name, makers] of all) {
      const { time, sizes } = await startAll(makers.map((make) => make()));
      results[name]!.times.push(time);
      results[name]!.sizes.push(...sizes);
    }
  }
  return results;
}
