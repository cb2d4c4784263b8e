// Programs of the Debian system, unpacked from its packages with the libraries they need.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Apt, type Package } from '../../src/guest/apt.ts';
import { hasContent, requireSpace } from '../../src/guest/disk.ts';
import { lockFile } from '../../src/guest/lock.ts';
import { runTool } from '../../src/guest/tools.ts';
import { cacheFolder } from '../../src/host/cache-folder.ts';

/** Names of Debian 12. */
const PACKAGES: readonly string[] = [
  ...['coreutils', 'cpp-12', 'dash', 'grep', 'gzip', 'lua5.4', 'openssl', 'perl-base', 'python3.11-minimal', 'tcc'],
  ...[
    'xz-utils',
    'zstd',
    'libacl1',
    'libattr1',
    'libc6',
    'libcrypt1',
    'libexpat1',
    'libgcc-s1',
    'libgmp10',
    'libisl23',
  ],
  ...['liblz4-1', 'liblzma5', 'libmpc3', 'libmpfr6', 'libpcre2-8-0', 'libpython3.11-minimal', 'libreadline8'],
  ...['libselinux1', 'libssl3', 'libstdc++6', 'libtinfo6', 'libzstd1', 'zlib1g'],
];

export interface Programs {
  /** Folder with the unpacked tree. */
  readonly tree: string;
  readonly packages: readonly Package[];
}

/**
 * Fetches and unpacks what is not there yet, below the default guest's folder.
 * @throws GuestError with one line for people
 */
export async function debianPrograms(): Promise<Programs> {
  const folder = join(cacheFolder(), 'bench');
  const downloads = join(folder, 'downloads');
  await mkdir(downloads, { recursive: true });
  const lock = await lockFile(join(folder, 'lock'), () => {}, undefined);
  try {
    const tool = { lockFd: lock.fd };
    const makeRoom = (bytes: number): Promise<void> => requireSpace(folder, bytes);
    const options = { folder: join(folder, 'apt'), progress: () => {}, makeRoom, tool };
    const packages = await Apt.fetch(options, async (apt) => {
      const all = await apt.describe(PACKAGES);
      const missing: Package[] = [];
      for (const each of all) {
        if (!(await hasContent(join(downloads, each.file), each.size, each.sha256))) missing.push(each);
      }
      if (missing.length > 0) {
        process.stdout.write(`fetching ${missing.length} Debian packages\n`);
        await apt.download(missing, downloads, () => {});
      }
      return all;
    });
    const hash = createHash('sha256').update(packages.map(({ sha256 }) => sha256).join());
    const tree = join(folder, `tree-${hash.digest('hex').slice(0, 12)}`);
    const partial = join(folder, 'unpacking');
    if (!existsSync(tree)) {
      await rm(partial, { recursive: true, force: true });
      await mkdir(partial);
      for (const { file } of packages) await runTool('dpkg-deb', ['--extract', join(downloads, file), partial], tool);
      await rename(partial, tree);
    }
    return { tree, packages };
  } finally {
    lock.release();
  }
}
