// `npm run bench -- block`: a disk in a booted guest, raw and qcow2, on Vivarium and on QEMU's translator (TCG), in turns, by fio; and how
// long one read of 4 KiB takes on the host's side alone, from the driver's notification to the interrupt.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import { defaultGuest } from '../src/cli/guest.ts';
import { extendInitrd } from '../test/e2e/kernels.ts';
import { JOBS, ROUNDS, runFio, SCRIPT, SECONDS } from './block/fio.ts';
import { makeFioDisk } from './block/fio-disk.ts';
import { allocationRate, readLatency } from './block/host-side.ts';
import { makeImage } from './block/image.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { type Summary, summarize } from './lib/statistics.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
/** Memory of the guests, in MiB. */
const MEMORY = 256;
/** Size of the disk, in MiB. */
const SIZE = 128;
/** Reads of which the host's side is timed. */
const READS = 5000;
/** Milliseconds between them. */
const PAUSE = 1;
/** Clusters of a new qcow2 image that are written to. */
const ALLOCATIONS = 8192;

/** The kernel's checks of its own ciphers are most of a boot, and nothing of what is timed. */
const PARAMS = 'quiet cryptomgr.notests';

type Format = 'raw' | 'qcow2';

interface Machine {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly format: Format;
  readonly image: string;
  /** Requests a second of each run, by round and job. */
  readonly rates: Map<string, number[]>;
}

function machines(kernel: string, initrd: string, fioDisk: string, folder: string): Machine[] {
  return (['raw', 'qcow2'] as const).flatMap((format) => {
    const image = join(folder, `disk.${format}`);
    const one = (name: string, command: string, args: readonly string[]): Machine => ({
      name: `${name}, ${format}`,
      command,
      args,
      format,
      image,
      rates: new Map(),
    });
    const drive = (id: string, options: string): string[] => [
      ...['-drive', `${options},if=none,id=${id}`, '-device', `virtio-blk-pci,drive=${id}`],
    ];
    return [
      one('Vivarium', process.execPath, [
        ...[VIVARIUM, 'run', '--hypervisor', 'soft', '--mem', `${MEMORY}`, '-p', PARAMS, '-d', fioDisk],
        ...[format === 'raw' ? '--rwdisk' : '--rwqcow', image, '--initrd', initrd, kernel],
      ]),
      one('QEMU TCG', QEMU, [
        ...['-accel', 'tcg', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config', '-no-reboot'],
        ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd],
        ...drive('fio', `file=${fioDisk},format=raw,readonly=on`),
        ...drive('disk', `file=${image},format=${format},cache=writeback,discard=unmap`),
        ...['-append', `${BASE_COMMAND_LINE} ${PARAMS}`],
      ]),
    ];
  });
}

function describeLatency({ median, min }: Summary): string {
  return `median ${median.toFixed(1)} us, least ${min.toFixed(1)} us`;
}

export async function blockBench(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { runs: { type: 'string', default: '3' } } });
  const runs = parseRuns(values.runs);
  const qemu = qemuVersion();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const guest = await defaultGuest();
    const initrd = join(folder, 'initrd');
    const data = Buffer.from(SCRIPT);
    extendInitrd(guest, [{ type: 'file', name: 'etc/init.d/console', mode: 0o755, data }], initrd);
    const fioDisk = join(folder, 'fio.ext4');
    makeFioDisk(fioDisk, folder);
    const latencyOf = async (pause: number) => summarize(await readLatency(join(folder, 'latency.img'), READS, pause));
    const latency = { together: await latencyOf(0), apart: await latencyOf(PAUSE) };
    process.stdout.write(
      `host side of a read: ${describeLatency(latency.together)}; apart: ${describeLatency(latency.apart)}\n`,
    );
    const allocations = await allocationRate(join(folder, 'allocations.qcow2'), ALLOCATIONS);
    process.stdout.write(`qcow2 clusters allocated a second: ${allocations.toFixed(0)}\n`);
    const all = machines(guest.kernel, initrd, fioDisk, folder);
    for (let run = 0; run < runs; run++) {
      for (const { name, command, args, format, image, rates } of all) {
        makeImage(image, format, SIZE);
        for (const [job, rate] of await runFio(command, args)) {
          rates.set(job, [...(rates.get(job) ?? []), rate]);
          process.stdout.write(`${name}: ${job} ${rate} a second\n`);
        }
      }
    }
    const rateOf = ({ rates }: Machine, job: string): number => summarize(rates.get(job) ?? []).median;
    const rows = JOBS.flatMap(({ name: job, what, depth }) =>
      all.map((machine) => {
        const reference = all.find(({ format, command }) => format === machine.format && command === QEMU)!;
        const columns = ROUNDS.flatMap((round) => {
          const rate = rateOf(machine, `${round}-${job}`);
          return [rate.toFixed(0), (rate / rateOf(reference, `${round}-${job}`)).toFixed(2)];
        });
        return [what, machine.name, `${depth}`, ...columns];
      }),
    );
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}, ` +
      `QEMU ${qemu}, guests of ${MEMORY} MiB and one processor`;
    const page = [
      `Requests a second, by fio (libaio, past the guest's cache) on a disk of ${SIZE} MiB; medians of ${runs} ` +
        `run${runs === 1 ? '' : 's'} of ${SECONDS} s. All jobs run one after the other, and then once more: at first nothing has been ` +
        'translated, and the image of a qcow2 disk is empty.',
      table([['work', 'machine', 'depth', 'first', 'of QEMU', 'later', 'of QEMU'], ...rows]),
      'One read of 4 KiB of a raw image by a jailed device, from the notification to the interrupt (the measuring thread waits awake), ' +
        `${READS} times: one after the other ${describeLatency(latency.together)}; ` +
        `with pauses of ${PAUSE} ms, in which the device falls asleep, ${describeLatency(latency.apart)}.`,
      `Clusters of 64 KiB that one after the other are allocated in a new qcow2 image, by writes of 4 KiB to a jailed device: ` +
        `${allocations.toFixed(0)} a second (${ALLOCATIONS}, the flush at the end included).`,
      setting,
    ].join('\n\n');
    process.stdout.write(`\n${page}\n`);
    const measured = all.map(({ name, rates }) => ({
      name,
      ...Object.fromEntries([...rates].map(([job, times]) => [job, summarize(times)])),
    }));
    writeResults('block', { host, qemu, latency, allocations, machines: measured }, `# Disks\n\n${page}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
