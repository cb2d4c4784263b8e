/** Debian's kernels for the tests, fetched once and kept beside the default guest. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parseBzImage } from '../../src/arch/x86_64/kernel/bzimage.ts';
import { unpackPayload } from '../../src/arch/x86_64/kernel/decompress.ts';
import { type CpioEntry, writeCpio } from '../../src/guest/cpio.ts';
import { defaultGuestFolder, type Guest, prepareGuest } from '../../src/guest/index.ts';

const folder = join(defaultGuestFolder(), 'test');

export function defaultGuest(): Promise<Guest> {
  return prepareGuest({ progress: () => {} });
}

/** The generic kernel's bzImage, which is what linux-image-amd64 stands for. */
export function genericKernel(): string {
  const kept = join(folder, 'vmlinuz-generic');
  if (existsSync(kept)) return kept;
  const work = join(folder, `work-${process.pid}`);
  mkdirSync(work, { recursive: true });
  try {
    const run = (command: string, ...args: string[]): string =>
      execFileSync(command, args, { cwd: work, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    const output = run('apt-cache', 'depends', 'linux-image-amd64');
    const name = /Depends: (linux-image-\S+-amd64)/.exec(output)?.[1];
    if (name === undefined) throw new Error(`linux-image-amd64 depends on no kernel: ${output}`);
    run('apt-get', '-qq', '-o', 'APT::Sandbox::User=root', 'download', name);
    const [deb] = readdirSync(work).filter((file) => file.endsWith('.deb'));
    run('dpkg-deb', '--extract', deb as string, 'unpacked');
    const boot = join(work, 'unpacked/boot');
    const [image] = readdirSync(boot).filter((file) => file.startsWith('vmlinuz-'));
    renameSync(join(boot, image as string), kept);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return kept;
}

/** Writes the ELF that is in a bzImage to `path`. */
export function extractVmlinux(bzImage: string, path: string): void {
  const { payload } = parseBzImage(readFileSync(bzImage));
  if (payload === undefined) throw new Error(`${bzImage} has no payload`);
  writeFileSync(path, unpackPayload(payload).elf);
}

/** Writes an initrd of the default guest with more files in it to `path`: the kernel unpacks one archive over the other. */
export function extendInitrd(guest: Guest, entries: readonly CpioEntry[], path: string): void {
  writeFileSync(path, Buffer.concat([readFileSync(guest.initrd), gzipSync(writeCpio(entries))]));
}
