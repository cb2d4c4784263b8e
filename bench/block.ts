// `npm run bench -- block`: a disk in a booted guest, raw and qcow2, on Vivarium and on QEMU's translator (TCG), in turns; and how long one
// read of 4 KiB takes on the host's side alone, from the driver's notification to the interrupt.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import { defaultGuest } from '../src/cli/guest.ts';
import type { CpioEntry } from '../src/guest/cpio.ts';
import { extendInitrd } from '../test/e2e/kernels.ts';
import { makeImage } from './block/image.ts';
import { readLatency } from './block/latency.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { summarize } from './lib/statistics.ts';
import { type TimedMachine, timedWork, timeInTurns } from './lib/timed-work.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
/** Memory of the guests, in MiB. */
const MEMORY = 256;
/** Size of the disk, and of what is written and read in large pieces, in MiB. */
const SIZE = 128;
/** Requests of 4 KiB, one after the other. */
const SMALL = 2000;
/** Reads of which the host's side is timed. */
const READS = 5000;

/** What is timed, in this order, as the guest's shell does it. */
const WORK = {
  write: `dd if=/dev/zero of=/dev/vda bs=1M count=${SIZE} conv=fsync 2>/dev/null`,
  read: `dd if=/dev/vda of=/dev/null bs=1M count=${SIZE} 2>/dev/null`,
  smallwrite: `dd if=/dev/zero of=/dev/vda bs=4k count=${SMALL} oflag=direct 2>/dev/null`,
  smallread: `dd if=/dev/vda of=/dev/null bs=4k count=${SMALL} iflag=direct 2>/dev/null`,
} as const;
type Work = keyof typeof WORK;
const NAMES = Object.keys(WORK) as Work[];
const WHAT: Readonly<Record<Work, string>> = {
  write: `write ${SIZE} MiB in pieces of 1 MiB, and fsync`,
  read: `read ${SIZE} MiB in pieces of 1 MiB`,
  smallwrite: `${SMALL} writes of 4 KiB past the guest's cache`,
  smallread: `${SMALL} reads of 4 KiB past the guest's cache`,
};

/** In the place of the default guest's console script. */
const SCRIPT = `#!/bin/sh
${timedWork(WORK)}
poweroff
sleep 60
`;

/** The kernel's checks of its own ciphers are most of a boot, and nothing of what is timed. */
const PARAMS = 'quiet cryptomgr.notests';

type Format = 'raw' | 'qcow2';

interface Machine extends TimedMachine<Work> {
  readonly format: Format;
  readonly image: string;
}

function machines(kernel: string, initrd: string, folder: string): Machine[] {
  return (['raw', 'qcow2'] as const).flatMap((format) => {
    const image = join(folder, `disk.${format}`);
    const one = (name: string, command: string, args: readonly string[]): Machine => ({
      name: `${name}, ${format}`,
      command,
      args,
      format,
      image,
      times: { write: [], read: [], smallwrite: [], smallread: [] },
    });
    return [
      one('Vivarium', process.execPath, [
        ...[VIVARIUM, 'run', '--hypervisor', 'soft', '--mem', `${MEMORY}`, '-p', PARAMS],
        ...[format === 'raw' ? '--rwdisk' : '--rwqcow', image, '--initrd', initrd, kernel],
      ]),
      one('QEMU TCG', QEMU, [
        ...['-accel', 'tcg', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config', '-no-reboot'],
        ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd],
        ...['-drive', `file=${image},format=${format},if=none,id=disk,cache=writeback,discard=unmap`],
        ...['-device', 'virtio-blk-pci,drive=disk', '-append', `${BASE_COMMAND_LINE} ${PARAMS}`],
      ]),
    ];
  });
}

export async function blockBench(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { runs: { type: 'string', default: '3' } } });
  const runs = parseRuns(values.runs);
  const qemu = qemuVersion();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const guest = await defaultGuest();
    const initrd = join(folder, 'initrd');
    const own: CpioEntry[] = [
      ...['etc', 'etc/init.d'].map((name): CpioEntry => ({ type: 'directory', name, mode: 0o755 })),
      { type: 'file', name: 'etc/init.d/console', mode: 0o755, data: Buffer.from(SCRIPT) },
    ];
    extendInitrd(guest, own, initrd);
    const latency = summarize(await readLatency(join(folder, 'latency.img'), READS));
    process.stdout.write(`host side of a read: ${latency.median.toFixed(1)} us\n`);
    const all = machines(guest.kernel, initrd, folder);
    await timeInTurns(all, NAMES, runs, ({ image, format }) => makeImage(image, format, SIZE));
    const rows = NAMES.flatMap((work) =>
      all.map(({ name, format, times }) => {
        const { median, min, max } = summarize(times[work]);
        const reference = all.find((other) => other.format === format && other.command === QEMU)!;
        const ratio = (median / summarize(reference.times[work]).median).toFixed(2);
        return [WHAT[work], name, `${runs}`, ...[median, min, max].map((time) => time.toFixed(0)), ratio];
      }),
    );
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}, ` +
      `QEMU ${qemu}, guests of ${MEMORY} MiB and one processor`;
    const page = [
      table([['work', 'machine', 'runs', 'median ms', 'min', 'max', 'of QEMU'], ...rows]),
      `One read of 4 KiB of a raw image, the back end in a thread, from the notification to the interrupt, ${READS} times: median ` +
        `${latency.median.toFixed(1)} us, least ${latency.min.toFixed(1)} us.`,
      setting,
    ].join('\n\n');
    process.stdout.write(`\n${page}\n`);
    const summaries = all.map(({ name, times }) => ({
      name,
      ...Object.fromEntries(NAMES.map((work) => [work, summarize(times[work])])),
    }));
    writeResults('block', { host, qemu, latency, machines: summaries }, `# Disks\n\n${page}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
