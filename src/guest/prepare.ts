/**
 * Makes the default guest, an unmodified Debian kernel and an initramfs, in a cache folder:
 *
 *     lock          held while anything below is changed
 *     downloads/    packages, and packages.json that describes them once all are complete
 *     apt/          lists, while they are needed and the host has none
 *     building/     the guest in the making
 *     guest-RECIPE/ a finished guest and its guest.json; it appears by one rename
 *
 * RECIPE changes with what this version would put into the initramfs beside the packages.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { cacheFolder } from '../host/cache-folder.ts';
import type { Package } from './apt.ts';
import { Apt } from './apt.ts';
import { fileSize, hasContent, readJsonFile, requireSpace, writeWhole } from './disk.ts';
import { explainFailure, GuestError } from './error.ts';
import { writeInitramfs } from './initramfs.ts';
import type { FileLock } from './lock.ts';
import { lockFile } from './lock.ts';
import { collectModules, GUEST_MODULES } from './modules.ts';
import type { GuestProgress } from './progress.ts';
import { runTool } from './tools.ts';

export interface GuestOptions {
  /** The cache folder; made if needed. */
  readonly folder?: string;
  readonly progress: (event: GuestProgress) => void;
  readonly signal?: AbortSignal;
}

export interface Guest {
  /** Path of a bzImage. */
  readonly kernel: string;
  /** Path of a gzipped initramfs. */
  readonly initrd: string;
  /** What `uname -r` says in the guest. */
  readonly kernelVersion: string;
}

interface Packages {
  readonly kernel: Package;
  readonly busybox: Package;
}

/** Room for the initramfs, packed, in bytes. */
const INITRD_BYTES = 16 * 1024 * 1024;

/**
 * Returns the default guest; makes what is missing of it. What an earlier run finished is not done again.
 * @throws GuestError with one line for people, or the signal's reason
 */
export async function prepareGuest(options: GuestOptions): Promise<Guest> {
  const preparation = new Preparation(resolve(options.folder ?? cacheFolder()), options);
  try {
    return await preparation.run();
  } catch (error) {
    options.signal?.throwIfAborted();
    throw explainFailure(error, 'the default guest', preparation.folder, preparation.needed);
  }
}

class Preparation {
  readonly folder: string;
  readonly #progress: (event: GuestProgress) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #guestFolder: string;
  /** What the step under way takes, in bytes. */
  needed = 0;

  constructor(folder: string, options: GuestOptions) {
    this.folder = folder;
    this.#progress = options.progress;
    this.#signal = options.signal;
    this.#guestFolder = join(folder, `guest-${recipe()}`);
  }

  async run(): Promise<Guest> {
    const ready = await this.#finished();
    if (ready !== undefined) return ready;
    await mkdir(this.folder, { recursive: true });
    const wait = (): void => this.#progress({ step: 'wait', fraction: 0 });
    const lock = await lockFile(join(this.folder, 'lock'), wait, this.#signal);
    try {
      // Another process may have been making it.
      return (await this.#finished()) ?? (await this.#make(lock));
    } finally {
      lock.release();
    }
  }

  async #finished(): Promise<Guest | undefined> {
    const stamp = await readJsonFile(join(this.#guestFolder, 'guest.json'));
    if (typeof stamp?.kernelVersion !== 'string') return undefined;
    const guest = guestFiles(this.#guestFolder, stamp.kernelVersion);
    const sizes = await Promise.all([fileSize(guest.kernel), fileSize(guest.initrd)]);
    return sizes[0] === stamp.kernelBytes && sizes[1] === stamp.initrdBytes ? guest : undefined;
  }

  async #make(lock: FileLock): Promise<Guest> {
    const building = join(this.folder, 'building');
    await rm(building, { recursive: true, force: true });
    const packages = await this.#packages(lock);
    try {
      await this.#build(lock, packages, building);
      await rm(this.#guestFolder, { recursive: true, force: true });
      await rename(join(building, 'guest'), this.#guestFolder);
    } finally {
      await rm(building, { recursive: true, force: true });
    }
    await rm(join(this.folder, 'apt'), { recursive: true, force: true });
    const guest = await this.#finished();
    if (guest === undefined) throw new GuestError(`the default guest in ${this.folder} was changed while it was made`);
    return guest;
  }

  /** Complete packages in downloads/, fetched if they are not there yet. */
  async #packages(lock: FileLock): Promise<Packages> {
    const downloads = join(this.folder, 'downloads');
    const stamp = join(downloads, 'packages.json');
    const earlier = (await readJsonFile(stamp)) as Partial<Packages> | undefined;
    if (isPackage(earlier?.kernel) && isPackage(earlier?.busybox)) {
      const packages = { kernel: earlier.kernel, busybox: earlier.busybox };
      if (await allComplete(downloads, packages)) return packages;
    }
    await mkdir(downloads, { recursive: true });
    const options = {
      folder: join(this.folder, 'apt'),
      progress: this.#report('lists'),
      makeRoom: (bytes: number) => this.#makeRoom(bytes),
      tool: { lockFd: lock.fd, signal: this.#signal },
    };
    const packages = await Apt.fetch(options, (apt) => this.#fetch(apt, downloads));
    await writeWhole(stamp, `${JSON.stringify(packages, undefined, 2)}\n`);
    return packages;
  }

  async #fetch(apt: Apt, downloads: string): Promise<Packages> {
    const packages = await apt.resolve();
    const all = [packages.kernel, packages.busybox];
    const files = new Set(all.map(({ file }) => file));
    for (const other of await readdir(downloads)) {
      if (!files.has(other)) await rm(join(downloads, other), { recursive: true });
    }
    await this.#makeRoom(all.reduce((sum, { size, installedSize }) => sum + size + installedSize, INITRD_BYTES));
    await apt.download(all, downloads, this.#report('download'));
    if (await allComplete(downloads, packages)) return packages;
    for (const file of files) await rm(join(downloads, file), { force: true });
    throw new GuestError('a downloaded package differs from its description in the lists; try again');
  }

  async #build(lock: FileLock, { kernel, busybox }: Packages, building: string): Promise<void> {
    await this.#makeRoom(kernel.installedSize + busybox.installedSize + INITRD_BYTES);
    const unpacked = join(building, 'unpacked');
    const guestFolder = join(building, 'guest');
    await mkdir(unpacked, { recursive: true });
    await mkdir(guestFolder);
    const report = this.#report('unpack');
    for (const [index, { file }] of [kernel, busybox].entries()) {
      report(index / 2);
      const tool = { lockFd: lock.fd, signal: this.#signal };
      await runTool('dpkg-deb', ['--extract', join(this.folder, 'downloads', file), unpacked], tool);
    }
    report(1);
    this.#report('initramfs')(0);
    const kernelFile = await only(join(unpacked, 'boot'), 'vmlinuz-');
    const kernelVersion = basename(kernelFile).slice('vmlinuz-'.length);
    // Later Debian releases have /usr/bin and /usr/lib alone.
    const program = await either(join(unpacked, 'bin/busybox'), join(unpacked, 'usr/bin/busybox'));
    const modules = await either(join(unpacked, 'lib/modules'), join(unpacked, 'usr/lib/modules'));
    const kernelModules = await collectModules(join(modules, kernelVersion), GUEST_MODULES);
    const initramfs = writeInitramfs(kernelVersion, await readFile(program), kernelModules);
    const packed = await promisify(gzip)(initramfs, { level: 9 });
    this.#signal?.throwIfAborted();
    const guest = guestFiles(guestFolder, kernelVersion);
    await writeWhole(guest.kernel, await readFile(kernelFile));
    await writeWhole(guest.initrd, packed);
    const stamp = { kernelVersion, kernelBytes: await fileSize(guest.kernel), initrdBytes: packed.length };
    await writeWhole(
      join(guestFolder, 'guest.json'),
      `${JSON.stringify({ ...stamp, packages: [kernel, busybox] }, undefined, 2)}\n`,
    );
    this.#report('initramfs')(1);
  }

  async #makeRoom(bytes: number): Promise<void> {
    this.needed = bytes;
    await requireSpace(this.folder, bytes);
  }

  #report(step: GuestProgress['step']): (fraction: number) => void {
    return (fraction) => this.#progress({ step, fraction });
  }
}

function guestFiles(folder: string, kernelVersion: string): Guest {
  return {
    kernel: join(folder, `vmlinuz-${kernelVersion}`),
    initrd: join(folder, `initrd.img-${kernelVersion}`),
    kernelVersion,
  };
}

/** Names what goes into the initramfs beside the packages. */
function recipe(): string {
  const hash = createHash('sha256').update(writeInitramfs('any', new Uint8Array(), []));
  return hash.update(GUEST_MODULES.join(' ')).digest('hex').slice(0, 12);
}

async function allComplete(folder: string, { kernel, busybox }: Packages): Promise<boolean> {
  const results = [kernel, busybox].map(({ file, size, sha256 }) => hasContent(join(folder, file), size, sha256));
  return (await Promise.all(results)).every(Boolean);
}

function isPackage(value: unknown): value is Package {
  if (typeof value !== 'object' || value === null) return false;
  const { name, version, file, size, installedSize, sha256 } = value as Record<string, unknown>;
  const texts = [name, version, file, sha256].every((text) => typeof text === 'string');
  return texts && basename(file as string) === file && [size, installedSize].every(Number.isSafeInteger);
}

async function only(folder: string, prefix: string): Promise<string> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.startsWith(prefix));
  if (names.length !== 1 || names[0] === undefined)
    throw new GuestError(`the kernel package has ${names.length} kernels`);
  return join(folder, names[0]);
}

async function either(first: string, second: string): Promise<string> {
  if ((await fileSize(first)) !== undefined) return first;
  if ((await fileSize(second)) !== undefined) return second;
  throw new GuestError(`a package lacks ${basename(first)}`);
}
