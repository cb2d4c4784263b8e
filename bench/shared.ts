// `npm run bench -- shared`: files of a shared directory, in a booted guest: by 9P and by virtio-fs on Vivarium, by 9P (virtfs) on
// QEMU's translator (TCG), in turns. The kernel is Debian's generic one, because the cloud kernel has no 9P. All of them without the guest's
// page cache, as 9P's client is by default, and with it, which is most of the work then: each is compared with its like. A virtio-fs client
// that has a cache writes through it (cache=auto), and looks again after a second; 9P's (cache=loose) does neither.
//
// Written and read in pieces of 1 MiB, with the guest's cache empty; then an archive of 10,000 small files is unpacked. At the end of each the
// host has everything. The times are the host's, from a line that the guest prints to the next.

import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BASE_COMMAND_LINE } from '../src/arch/x86_64/cmdline.ts';
import type { CachePolicy } from '../src/fs/shared-directory.ts';
import type { CpioEntry } from '../src/guest/cpio.ts';
import { extendGenericInitrd } from '../test/e2e/kernels.ts';
import { QEMU, qemuVersion } from './lib/qemu.ts';
import { describeHost, table, writeResults } from './lib/report.ts';
import { parseRuns } from './lib/runs.ts';
import { summarize } from './lib/statistics.ts';
import { type TimedMachine, timedWork, timeInTurns } from './lib/timed-work.ts';

const VIVARIUM = fileURLToPath(new URL('../bin/vivarium', import.meta.url));
/** Memory of the guests, in MiB. */
const MEMORY = 512;
/** Size of the large file, in MiB: one that takes a while, as with less it is a measure of how long new code takes. */
const LARGE = 256;
const DEFAULT_FILES = '10000';
const FILE_SIZE = 1024;
const TAG = 'bench';

/** What is timed, in this order, as the guest's shell does it. */
const WORK = {
  write: `dd if=/dev/zero of=/mnt/large bs=1M count=${LARGE} conv=fsync 2>/dev/null`,
  read: 'dd if=/mnt/large of=/dev/null bs=1M 2>/dev/null',
  // By virtio-fs all is the host's when a file is closed, and an unmount has the host write its whole file system to the disk. A 9P client
  // may have some of it in its cache alone until then.
  unpack: 'tar xf /files.tar -C /mnt/files && { [ $kind = fs ] || umount /mnt; }',
} as const;
type Work = keyof typeof WORK;
const NAMES = Object.keys(WORK) as Work[];

const MOUNT_9P = `mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=$cache ${TAG} /mnt`;
// With the read-ahead of the default guest's mounts.
const MOUNT_FS = `mount -t virtiofs ${TAG} /mnt; for file in /sys/class/bdi/0:*/read_ahead_kb; do echo 1024 >$file; done`;

/** In the place of the default guest's console script. */
const SCRIPT = `#!/bin/sh
for item in $(cat /proc/cmdline); do
  case $item in bench=*) kind=\${item#bench=} ;; cache=*) cache=\${item#cache=} ;; esac
done
if [ $kind = fs ]; then ${MOUNT_FS}; else ${MOUNT_9P}; fi
mkdir /mnt/files
${timedWork(WORK)}
poweroff
sleep 60
`;

/** Headers of ustar, and a file of FILE_SIZE bytes after each. */
function archive(files: number): Buffer {
  const blocks: Buffer[] = [];
  for (let i = 0; i < files; i++) {
    const header = Buffer.alloc(512);
    header.write(`folder-${Math.floor(i / 100)}/file-${i}`, 0);
    header.write('0000644\x000000000\x000000000\0', 100);
    header.write(`${FILE_SIZE.toString(8).padStart(11, '0')}\0${'0'.repeat(11)}\0        0`, 124);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    blocks.push(header, Buffer.alloc(FILE_SIZE, i));
  }
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

interface Machine extends TimedMachine<Work> {
  /** Has the guest a cache of the files' pages? */
  readonly cached: boolean;
  readonly ours: boolean;
}

function machines(kernel: string, initrd: string, path: string): Machine[] {
  const times = (): Machine['times'] => ({ write: [], read: [], unpack: [] });
  /** `fs`: virtio-fs' policy of caching; without, it is 9P. */
  const ours = (name: string, cached: boolean, fs?: CachePolicy): Machine => ({
    name: `Vivarium, ${name}`,
    cached,
    ours: true,
    command: process.execPath,
    args: [
      ...[VIVARIUM, 'run', '--hypervisor', 'soft', '--mem', `${MEMORY}`],
      ...['-p', `quiet bench=${fs === undefined ? 'p9' : 'fs'} cache=${cached ? 'loose' : 'none'}`],
      ...['--shared-dir', `${path}:${TAG},${fs === undefined ? 'type=p9' : `type=fs,cache=${fs}`}`],
      ...['--initrd', initrd, kernel],
    ],
    times: times(),
  });
  const qemu = (name: string, cached: boolean): Machine => ({
    name: `QEMU TCG, ${name}`,
    cached,
    ours: false,
    command: QEMU,
    args: [
      ...['-accel', 'tcg', '-machine', 'pc', '-m', `${MEMORY}`, '-nodefaults', '-no-user-config', '-no-reboot'],
      ...['-display', 'none', '-serial', 'stdio', '-kernel', kernel, '-initrd', initrd],
      ...['-virtfs', `local,path=${path},mount_tag=${TAG},security_model=none,multidevs=remap`],
      ...['-append', `${BASE_COMMAND_LINE} quiet bench=p9 cache=${cached ? 'loose' : 'none'}`],
    ],
    times: times(),
  });
  return [
    ours('9P', false),
    ours('virtio-fs', false, 'never'),
    qemu('9P', false),
    ours('9P, cached', true),
    ours('virtio-fs, cached', true, 'auto'),
    qemu('9P, cached', true),
  ];
}

/** An initrd of the default guest with the generic kernel's modules, the script and the archive. Returns the kernel. */
function writeInitrd(path: string, files: number): Promise<string> {
  const own: CpioEntry[] = [
    { type: 'file', name: 'etc/init.d/console', mode: 0o755, data: Buffer.from(SCRIPT) },
    { type: 'file', name: 'files.tar', mode: 0o644, data: archive(files) },
  ];
  return extendGenericInitrd(['virtio_pci', '9p', '9pnet_virtio', 'virtiofs'], own, path);
}

export async function sharedBench(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { runs: { type: 'string', default: '3' }, files: { type: 'string', default: DEFAULT_FILES } },
  });
  const runs = parseRuns(values.runs);
  const files = Number(values.files);
  if (!Number.isInteger(files) || files < 1 || files > 100_000)
    throw new Error('--files takes a number from 1 to 100000');
  const qemu = qemuVersion();
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-bench-'));
  try {
    const initrd = join(folder, 'initrd');
    const kernel = await writeInitrd(initrd, files);
    const path = join(folder, 'shared');
    const all = machines(kernel, initrd, path);
    let done = 0;
    await timeInTurns(all, NAMES, runs, () => {
      // What was unpacked stays: for minutes ext4 passes over the inodes of files that were deleted, each time that it looks for a free one.
      if (existsSync(path)) renameSync(path, join(folder, `done-${done++}`));
      mkdirSync(path);
    });
    const results = all.map(({ name, cached, ours, times }) => ({
      name,
      cached,
      ours,
      write: summarize(times.write),
      read: summarize(times.read),
      unpack: summarize(times.unpack),
    }));
    const what: Readonly<Record<Work, string>> = {
      write: `write ${LARGE} MiB and fsync`,
      read: `read ${LARGE} MiB`,
      unpack: `unpack ${files} files of ${FILE_SIZE} bytes`,
    };
    const rows = NAMES.flatMap((work) =>
      results.map((result) => {
        const { median, min, max } = result[work];
        const like = results.find(({ cached, ours }) => cached === result.cached && !ours)!;
        const ratio = (median / like[work].median).toFixed(2);
        return [what[work], result.name, `${runs}`, ...[median, min, max].map((time) => time.toFixed(0)), ratio];
      }),
    );
    const page = table([['work', 'machine', 'runs', 'median ms', 'min', 'max', 'of QEMU'], ...rows]);
    const host = describeHost();
    const setting =
      `${host.date.slice(0, 10)}, ${host.cpu}, ${host.cores} cores, Linux ${host.kernel}, Node ${host.node}, ` +
      `QEMU ${qemu}, guests of ${MEMORY} MiB and one processor`;
    process.stdout.write(`\n${page}\n\n${setting}\n`);
    writeResults(
      'shared',
      { host, qemu, memoryMiB: MEMORY, machines: results },
      `# Shared directories\n\nMade by \`npm run bench -- shared\`: ${setting}.\n\n${page}\n`,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
