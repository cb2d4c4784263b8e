import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

const FIO = '/usr/bin/fio';

/** Room on the disk, in MiB: fio has libraries for storage of all kinds. */
const SIZE = 256;

/** Makes an ext4 image at `path` with the host's fio and its libraries, to be the root of fio alone. `folder` is scratch. */
export function makeFioDisk(path: string, folder: string): void {
  if (!existsSync(FIO)) throw new Error('fio is needed in the guest: apt-get install --no-install-recommends fio');
  const root = join(folder, 'fio-root');
  for (const name of ['dev', 'proc', 'sys', 'tmp']) mkdirSync(join(root, name), { recursive: true });
  const libraries = execFileSync('ldd', [FIO], { encoding: 'utf8' }).match(/\/\S+/g) ?? [];
  for (const file of [FIO, ...libraries]) {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    copyFileSync(file, join(root, file));
  }
  execFileSync('/sbin/mke2fs', ['-q', '-t', 'ext4', '-d', root, path, `${SIZE}M`]);
}
