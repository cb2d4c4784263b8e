/**
 * Makes a root disk for the default guest: a small Debian with apt and a compiler, as a qcow2 image, beside what prepare.ts makes:
 *
 *     system-downloads/  its packages, as far as they have come; gone once the image is there
 *     building-rootfs/   the image in the making, which nobody else can look into
 *     rootfs-RECIPE/     the image and its rootfs.json; it appears by one rename
 *
 * mmdebstrap installs the packages, as root or in a user namespace; mke2fs makes a file system of them, while they still belong
 * to whom they belong in the guest; Vivarium makes an image of that.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, openSync } from 'node:fs';
import { chmod, mkdir, open, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { copyDisk } from '../disk/convert.ts';
import { ImageFile } from '../disk/image-file.ts';
import { backingOf, openLayers } from '../disk/layers.ts';
import { createQcow2 } from '../disk/qcow2/create.ts';
import { openQcow2 } from '../disk/qcow2/open.ts';
import { cacheFolder } from '../host/cache-folder.ts';
import { Apt } from './apt.ts';
import { fileSize, hasContent, readJsonFile, requireSpace, writeWhole } from './disk.ts';
import { explainFailure, GuestError } from './error.ts';
import { type FileLock, lockFile } from './lock.ts';
import type { GuestOptions } from './prepare.ts';
import type { GuestProgress } from './progress.ts';
import { CUSTOMIZATION, SYSTEM_PACKAGES } from './rootfs-system.ts';
import { runTool, STATUS_FD, type ToolOptions } from './tools.ts';

/** Size of the guest's disk, bytes: most of it is room, which takes none on the host. */
const DISK_SIZE = 8 * 2 ** 30;
/** What the making takes on the host at most: packages, the system unpacked, file system and image; bytes. */
const NEEDED = 2_000_000_000;
const WHAT = 'the root disk';

/** mmdebstrap says on standard error what it begins; from here on, how far it then is. */
const STAGES: readonly (readonly [RegExp, number])[] = [
  [/^I: running apt-get update/, 0.05],
  [/^I: downloading packages/, 0.1],
  [/^I: extracting archives/, 0.2],
  [/^I: installing essential packages/, 0.35],
  [/^I: installing remaining packages/, 0.55],
  [/^I: running --customize-hook/, 0.85],
];

/**
 * The hook that makes a file system of the system's folder, $1. What is mounted on it, /proc above all, stays outside: a bind mount
 * does not show it. Where nobody may mount, nothing is.
 */
const MAKE_FILE_SYSTEM = `\
from="$1"
mkdir "$1.bare"
if mount --bind "$1" "$1.bare"; then from="$1.bare"; fi
mke2fs -q -F -t ext4 -L vivarium -m 1 -E lazy_itable_init=1,root_owner=0:0 -d "$from" /proc/self/fd/${STATUS_FD}
status=$?
umount "$1.bare"
rmdir "$1.bare"
exit $status
`;

/**
 * Returns the path of the root disk's image; makes it if it is not there. Downloads that were cut off go on.
 * @throws GuestError with one line for people, or the signal's reason
 */
export async function prepareRootfs(options: GuestOptions): Promise<string> {
  const folder = resolve(options.folder ?? cacheFolder());
  try {
    return await new RootfsPreparation(folder, options).run();
  } catch (error) {
    options.signal?.throwIfAborted();
    throw explainFailure(error, WHAT, folder, NEEDED);
  }
}

class RootfsPreparation {
  readonly #folder: string;
  readonly #target: string;
  readonly #progress: (event: GuestProgress) => void;
  readonly #signal: AbortSignal | undefined;

  constructor(folder: string, { progress, signal }: GuestOptions) {
    this.#folder = folder;
    this.#target = join(folder, `rootfs-${recipe()}`);
    this.#progress = progress;
    this.#signal = signal;
  }

  async run(): Promise<string> {
    const ready = await this.#finished();
    if (ready !== undefined) return ready;
    await mkdir(this.#folder, { recursive: true });
    const wait = (): void => this.#progress({ step: 'wait', fraction: 0 });
    const lock = await lockFile(join(this.#folder, 'lock'), wait, this.#signal);
    try {
      // Another process may have been making it.
      return (await this.#finished()) ?? (await this.#make(lock));
    } finally {
      lock.release();
    }
  }

  async #finished(): Promise<string | undefined> {
    const image = join(this.#target, 'root.qcow2');
    const stamp = await readJsonFile(join(this.#target, 'rootfs.json'));
    return stamp !== undefined && (await fileSize(image)) === stamp.bytes ? image : undefined;
  }

  async #make(lock: FileLock): Promise<string> {
    const building = join(this.#folder, 'building-rootfs');
    await rm(building, { recursive: true, force: true });
    await requireSpace(this.#folder, NEEDED);
    const tool: ToolOptions = { lockFd: lock.fd, signal: this.#signal };
    // Root of a user namespace is nobody to this folder: what he needs of it he is given open.
    await mkdir(building, { mode: 0o700 });
    try {
      const downloads = join(this.#folder, 'system-downloads');
      const { apt, sources } = await this.#download(downloads, tool);
      const disk = join(building, 'root.ext4');
      await this.#install(await mmdebstrap(apt, building, tool), sources, downloads, disk, tool);
      const made = join(building, 'made');
      await mkdir(made);
      await this.#writeImage(disk, join(made, 'root.qcow2'));
      const bytes = await fileSize(join(made, 'root.qcow2'));
      await writeWhole(join(made, 'rootfs.json'), `${JSON.stringify({ bytes, sources })}\n`);
      await rm(this.#target, { recursive: true, force: true });
      await rename(made, this.#target);
      await rm(downloads, { recursive: true });
    } finally {
      await rm(building, { recursive: true, force: true });
    }
    await rm(join(this.#folder, 'apt'), { recursive: true, force: true });
    const image = await this.#finished();
    if (image === undefined) throw new GuestError(`${WHAT} in ${this.#folder} was changed while it was made`);
    return image;
  }

  /** Fetches the packages; apt checks them against the archive's signed lists. */
  async #download(
    folder: string,
    tool: ToolOptions,
  ): Promise<{ readonly apt: Apt; readonly sources: readonly string[] }> {
    const options = {
      folder: join(this.#folder, 'apt'),
      progress: this.#report('lists'),
      makeRoom: (bytes: number) => requireSpace(this.#folder, bytes),
      tool,
    };
    return Apt.fetch(options, async (apt) => {
      const sources = await apt.debianSources();
      this.#report('system-packages')(0);
      await apt.downloadSystem(
        ['?essential', '?priority(required)', 'apt', ...SYSTEM_PACKAGES],
        folder,
        this.#report('system-packages'),
      );
      return { apt, sources };
    });
  }

  /** Installs the system into a folder that mmdebstrap makes and takes away, and makes a file system of it. */
  async #install(
    [command, ...first]: readonly [string, ...string[]],
    sources: readonly string[],
    downloads: string,
    disk: string,
    tool: ToolOptions,
  ): Promise<void> {
    const report = this.#report('system');
    report(0);
    const file = await open(disk, 'wx+');
    try {
      await file.truncate(DISK_SIZE);
      // A user namespace's root opens it again by the descriptor; the folder around it lets nobody else in.
      await chmod(disk, 0o666);
      const args = [
        '--variant=minbase',
        '--format=null',
        `--include=${SYSTEM_PACKAGES.join(',')}`,
        // What was downloaded is not downloaded again.
        '--setup-hook=mkdir -p "$1/var/cache/apt/archives"',
        `--setup-hook=sync-in ${quoted(downloads)} /var/cache/apt/archives`,
        `--customize-hook=${CUSTOMIZATION}`,
        `--customize-hook=${MAKE_FILE_SYSTEM}`,
        suiteOf(sources),
        '/dev/null',
        ...sources,
      ];
      await runTool(command, [...first, ...args], {
        ...tool,
        extraFd: file.fd,
        errorLine: (line) => {
          const stage = STAGES.find(([pattern]) => pattern.test(line));
          if (stage !== undefined) report(stage[1]);
        },
      });
    } finally {
      await file.close();
    }
    report(1);
  }

  async #writeImage(from: string, to: string): Promise<void> {
    const report = this.#report('image');
    report(0);
    const source = backingOf(openLayers(from, { format: 'raw', writable: false }))!;
    const fd = openSync(to, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o644);
    try {
      createQcow2(new ImageFile(fd, to), { size: source.size });
      const image = openQcow2(fd, to, true, undefined);
      await copyDisk(source, image, { progress: report, ...(this.#signal && { signal: this.#signal }) });
      image.close();
    } finally {
      closeSync(fd);
      source.close();
    }
  }

  #report(step: GuestProgress['step']): (fraction: number) => void {
    return (fraction) => this.#progress({ step, fraction });
  }
}

/**
 * How to run mmdebstrap: the host's, or one of the archive's, which needs no installation.
 * @throws GuestError where it can be had in no way
 */
async function mmdebstrap(apt: Apt, folder: string, tool: ToolOptions): Promise<[string, ...string[]]> {
  try {
    await runTool('mmdebstrap', ['--version'], tool);
    return ['mmdebstrap'];
  } catch (error) {
    tool.signal?.throwIfAborted();
    if (!(error instanceof GuestError)) throw error;
  }
  const [found] = await apt.describe(['mmdebstrap']);
  await apt.download([found!], folder, () => {});
  const file = join(folder, found!.file);
  if (!(await hasContent(file, found!.size, found!.sha256))) {
    throw new GuestError('a downloaded package differs from its description in the lists; try again');
  }
  const unpacked = join(folder, 'mmdebstrap');
  await runTool('dpkg-deb', ['--extract', file, unpacked], tool);
  return ['perl', join(unpacked, 'usr/bin/mmdebstrap')];
}

/** The release's name, from lines as debianSources() gives them: the shortest, which has no `-security` behind it. */
function suiteOf(sources: readonly string[]): string {
  const names = sources.map((line) => line.split(' ').at(-2)!);
  return names.sort((a, b) => a.length - b.length)[0]!;
}

/** A word for mmdebstrap's own hooks, which they split as a shell does. */
function quoted(path: string): string {
  return `'${path.replaceAll("'", `'\\''`)}'`;
}

/** Names what goes into the image beside the packages' versions. */
function recipe(): string {
  return createHash('sha256')
    .update([DISK_SIZE, ...SYSTEM_PACKAGES, CUSTOMIZATION].join('\n'))
    .digest('hex')
    .slice(0, 12);
}
