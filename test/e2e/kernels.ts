/** Debian's kernels for the tests, fetched once and kept beside the default guest. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { parseBzImage } from '../../src/arch/x86_64/kernel/bzimage.ts';
import { joinPieces, unpackPayload } from '../../src/arch/x86_64/kernel/decompress.ts';
import { type CpioEntry, missingParents, writeCpio } from '../../src/guest/cpio.ts';
import { type Guest, prepareGuest } from '../../src/guest/index.ts';
import { collectModules, moduleEntries } from '../../src/guest/modules.ts';
import { cacheFolder } from '../../src/host/cache-folder.ts';
import { readCpio } from '../guest/cpio-reader.ts';

const folder = join(cacheFolder(), 'test');

export function defaultGuest(): Promise<Guest> {
  return prepareGuest({ progress: () => {} });
}

/** The default guest's busybox, which needs no libraries. */
export function busyboxOf(guest: Guest): Uint8Array {
  const busybox = readCpio(gunzipSync(readFileSync(guest.initrd))).find(({ name }) => name === 'bin/busybox');
  if (busybox?.type !== 'file') throw new Error(`${guest.initrd} has no busybox`);
  return busybox.data;
}

/** The modules that a guest with the generic kernel needs for its devices, and where the kernel's package has them. */
const MODULE_FOLDERS = ['drivers/virtio', 'fs/9p', 'fs/fscache', 'fs/fuse', 'fs/netfs', 'net/9p'];

/** The generic kernel, which is what linux-image-amd64 stands for: its bzImage, and its /lib/modules/VERSION with some modules. */
export interface GenericKernel {
  readonly image: string;
  readonly version: string;
  readonly modules: string;
}

export function genericKernel(): GenericKernel {
  const kept = join(folder, 'generic');
  if (!existsSync(kept)) fetchGenericKernel(kept);
  const [version] = readdirSync(join(kept, 'modules'));
  if (version === undefined) throw new Error(`${kept} has no modules`);
  return { image: join(kept, 'vmlinuz'), version, modules: join(kept, 'modules', version) };
}

function fetchGenericKernel(kept: string): void {
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
    const [version] = readdirSync(join(work, 'unpacked/lib/modules'));
    mkdirSync(join(work, 'generic'));
    renameSync(join(boot, image as string), join(work, 'generic/vmlinuz'));
    for (const part of MODULE_FOLDERS) {
      const to = join(work, 'generic/modules', version as string, 'kernel', part);
      mkdirSync(dirname(to), { recursive: true });
      renameSync(join(work, 'unpacked/lib/modules', version as string, 'kernel', part), to);
    }
    renameSync(join(work, 'generic'), kept);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Writes the ELF that is in a bzImage to `path`. */
export function extractVmlinux(bzImage: string, path: string): void {
  const { payload } = parseBzImage(readFileSync(bzImage));
  if (payload === undefined) throw new Error(`${bzImage} has no payload`);
  writeFileSync(path, joinPieces(unpackPayload(payload)));
}

/**
 * Writes an initrd of the default guest with more files in it, and their folders, to `path`: the kernel unpacks one archive over the
 * other.
 */
export function extendInitrd(guest: Guest, entries: readonly CpioEntry[], path: string): void {
  const have = new Set<string>();
  const whole = entries.flatMap((entry) => [...missingParents(entry.name, have), entry]);
  writeFileSync(path, Buffer.concat([readFileSync(guest.initrd), gzipSync(writeCpio(whole))]));
}

/** The same for the generic kernel, with those of its modules that are named. Returns its bzImage. */
export async function extendGenericInitrd(
  modules: readonly string[],
  entries: readonly CpioEntry[],
  path: string,
): Promise<string> {
  const generic = genericKernel();
  const wanted = await collectModules(generic.modules, modules);
  const root = `lib/modules/${generic.version}`;
  extendInitrd(await defaultGuest(), [...moduleEntries(root, wanted), ...entries], path);
  return generic.image;
}
