/**
 * Makes the lab's kernel and initramfs, from Debian's packages, in the cache folder:
 *
 *     lock          held while anything below is changed
 *     building/     the lab in the making
 *     lab-RECIPE/   a finished lab; it appears by one rename
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { Apt, type KernelMetaPackage, type Package } from '../src/guest/apt.ts';
import { type CpioEntry, missingParents, writeCpio } from '../src/guest/cpio.ts';
import { requireSpace } from '../src/guest/disk.ts';
import { GuestError } from '../src/guest/error.ts';
import { lockFile } from '../src/guest/lock.ts';
import { collectModules } from '../src/guest/modules.ts';
import { runTool } from '../src/guest/tools.ts';
import { cacheFolder } from '../src/host/cache-folder.ts';

/** The kernel for all machines: the one for virtual machines has no KVM. */
const KERNEL: KernelMetaPackage = 'linux-image-amd64';

const MODULES: readonly string[] = [
  'virtio_pci',
  '9p',
  '9pnet_virtio',
  '9pnet_fd',
  'virtio_net',
  'virtio_console',
  'overlay',
  'kvm_amd',
  'tun',
  'vhost_net',
  'vhost_vsock',
  'vsock_loopback',
];

/** The lab's files. */
export interface Lab {
  /** Path of a bzImage: Debian's kernel for all machines. */
  readonly kernel: string;
  /** Path of the initramfs. */
  readonly initrd: string;
}

/**
 * Returns the lab; makes it if needed, `log` says so.
 * @throws GuestError with one line for people
 */
export async function prepareLab(log: (line: string) => void): Promise<Lab> {
  const init = readFileSync(new URL('init', import.meta.url));
  const recipe = createHash('sha256').update(init).update(MODULES.join()).digest('hex').slice(0, 12);
  const parent = cacheFolder();
  const folder = join(parent, `lab-${recipe}`);
  const lab = { kernel: join(folder, 'vmlinuz'), initrd: join(folder, 'initrd.gz') };
  if (existsSync(folder)) return lab;
  await mkdir(parent, { recursive: true });
  const lock = await lockFile(join(parent, 'lab-lock'), () => log('lab: another process makes it'), undefined);
  const building = join(parent, 'lab-building');
  try {
    if (existsSync(folder)) return lab;
    await rm(building, { recursive: true, force: true });
    await mkdir(join(building, 'root'), { recursive: true });
    await mkdir(join(building, 'lab'));
    await build(building, init, lock.fd, log);
    await rename(join(building, 'lab'), folder);
  } finally {
    await rm(building, { recursive: true, force: true });
    lock.release();
  }
  return lab;
}

async function build(building: string, init: Uint8Array, lockFd: number, log: (line: string) => void): Promise<void> {
  const tool = { lockFd, signal: undefined };
  log("lab: fetching Debian's kernel");
  const packages = await fetchPackages(building, tool);
  const root = join(building, 'root');
  for (const { file } of packages) await runTool('dpkg-deb', ['--extract', join(building, file), root], tool);
  log('lab: making its initramfs');
  const [kernel] = (await readdir(join(root, 'boot'))).filter((name) => name.startsWith('vmlinuz-'));
  if (kernel === undefined) throw new GuestError('the kernel package has no kernel');
  const modules = await collectModules(
    await either(join(root, 'lib/modules'), join(root, 'usr/lib/modules'), kernel.slice('vmlinuz-'.length)),
    MODULES,
  );
  const busybox = await readFile(await either(join(root, 'bin'), join(root, 'usr/bin'), 'busybox'));
  const file = (name: string, mode: number, data: Uint8Array): CpioEntry => ({ type: 'file', name, mode, data });
  const files = [
    file('init', 0o755, init),
    file('bin/busybox', 0o755, busybox),
    file('mods/list', 0o644, Buffer.from(modules.map(({ name }) => `${name}\n`).join(''))),
    ...modules.map(({ name, data }) => file(`mods/${name}`, 0o644, data)),
  ];
  const have = new Set<string>();
  const entries = files.flatMap((entry) => [...missingParents(entry.name, have), entry]);
  for (const name of ['proc', 'sys', 'dev']) entries.push({ type: 'directory', name, mode: 0o755 });
  await writeFile(join(building, 'lab/initrd.gz'), await promisify(gzip)(writeCpio(entries), { level: 1 }));
  await copyFile(join(root, 'boot', kernel), join(building, 'lab/vmlinuz'));
}

/** The kernel and busybox, into `folder`: by the host's package lists, or new ones where it has none. */
async function fetchPackages(
  folder: string,
  tool: { readonly lockFd: number; readonly signal: undefined },
): Promise<readonly Package[]> {
  const makeRoom = (bytes: number): Promise<void> => requireSpace(folder, bytes);
  return Apt.fetch({ folder: join(folder, 'apt'), progress: () => {}, makeRoom, tool }, async (apt) => {
    const { kernel, busybox } = await apt.resolve(KERNEL);
    await apt.download([kernel, busybox], folder, () => {});
    return [kernel, busybox];
  });
}

/** `name` in the first of two folders that has it. */
async function either(first: string, second: string, name: string): Promise<string> {
  return existsSync(join(first, name)) ? join(first, name) : join(second, name);
}
