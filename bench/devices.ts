// `npm run bench -- devices`: how long device processes take to start, from the monitor's call until they serve their queues, each alone
// and all at once; and what memory they have then.

import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire, enableCompileCache } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { bundle } from '../scripts/bundle.ts';
import type { DeviceStarts } from './lib/device-starts.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { summarize } from './lib/statistics.ts';

const NAME = 'device-starts';

/** The code is loaded as the program's is: from a bundle, beside those of its threads and processes. */
async function measure(runs: number): Promise<Record<string, DeviceStarts>> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  const file = resolve(`build/${NAME}.cjs`);
  process.env['NODE_COMPILE_CACHE'] = enableCompileCache().directory;
  try {
    await bundle({ [NAME]: `bench/lib/${NAME}.ts` }, resolve('build'));
    const { startDevices } = createRequire(import.meta.url)(file) as typeof import('./lib/device-starts.ts');
    return await startDevices(runs, folder);
  } finally {
    for (const path of [file, folder]) rmSync(path, { recursive: true, force: true });
  }
}

export async function devicesBench(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { runs: { type: 'string', default: '10' } } });
  const runs = parseRuns(values.runs);
  const results = Object.entries(await measure(runs)).map(
    ([name, { times, sizes }]) => [name, summarize(times), summarize(sizes)] as const,
  );
  const rows = results.map(([name, time, size]) => {
    const cells = [time.median, time.min, time.max, size.median, size.max].map((value) => value.toFixed(0));
    return [name, `${runs}`, ...cells];
  });
  const host = describeHost();
  const page = [
    table([['device', 'runs', 'median ms', 'min', 'max', 'PSS MiB', 'max'], ...rows]),
    `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}`,
  ].join('\n\n');
  process.stdout.write(`${page}\n`);
  const measured = Object.fromEntries(results.map(([name, time, size]) => [name, { time, size }]));
  writeResults('devices', { host, measured }, `# Device processes\n\n${page}\n`);
}
