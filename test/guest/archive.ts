/** A little Debian archive in a folder, and an apt configuration that knows no other source and no lists. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import { elfModule } from './elf-module.ts';

export const KERNEL_VERSION = '9.8.7-1-cloud-amd64';
export const KERNEL_BYTES = Buffer.alloc(300_000, 'kernel');
export const BUSYBOX_BYTES = Buffer.from('busybox');

export interface Archive {
  /** Holds the archive, and room for the test's own files. */
  readonly folder: string;
  /** The packages' file names. */
  readonly kernelFile: string;
  /** Writes the index; `fields` replaces fields of the kernel package. */
  writeIndex(fields?: Readonly<Record<string, string>>): void;
}

/** Makes the archive, and has apt use it (by the variable APT_CONFIG) until the test ends. */
export function makeArchive(t: TestContext): Archive {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-archive-'));
  const modules = `lib/modules/${KERNEL_VERSION}/kernel`;
  const image = `linux-image-${KERNEL_VERSION}`;
  const stanzas = [
    buildPackage(folder, image, {
      [`boot/vmlinuz-${KERNEL_VERSION}`]: KERNEL_BYTES,
      [`${modules}/drivers/virtio_blk.ko`]: elfModule(['depends=virtio', 'alias=virtio:d2']),
      [`${modules}/drivers/virtio.ko`]: elfModule(['depends=']),
    }),
    buildPackage(folder, 'busybox-static', { 'bin/busybox': BUSYBOX_BYTES }),
    buildPackage(folder, 'linux-image-cloud-amd64', {}, `Depends: ${image} (= 1.0)\n`),
  ];
  const writeIndex = (fields: Readonly<Record<string, string>> = {}): void => {
    let kernel = stanzas[0] ?? '';
    for (const [name, value] of Object.entries(fields))
      kernel = kernel.replace(new RegExp(`^${name}: .*$`, 'm'), `${name}: ${value}`);
    writeFileSync(join(folder, 'Packages'), [kernel, ...stanzas.slice(1)].join('\n'));
  };
  writeIndex();
  writeFileSync(join(folder, 'sources.list'), `deb [trusted=yes] copy:${folder} ./\n`);
  mkdirSync(join(folder, 'none'));
  const lines = [
    'Acquire::Retries "0";',
    `Dir::Etc::sourcelist "${folder}/sources.list";`,
    `Dir::Etc::sourceparts "${folder}/none";`,
    `Dir::State::lists "${folder}/none";`,
  ];
  writeFileSync(join(folder, 'apt.conf'), lines.join('\n'));
  process.env.APT_CONFIG = join(folder, 'apt.conf');
  t.after(() => {
    delete process.env.APT_CONFIG;
    rmSync(folder, { recursive: true });
  });
  return { folder, kernelFile: `${image}_1.0_amd64.deb`, writeIndex };
}

function buildPackage(folder: string, name: string, files: Readonly<Record<string, Uint8Array>>, extra = ''): string {
  const root = join(folder, 'roots', name);
  const control = `Package: ${name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\nInstalled-Size: 400\n${extra}`;
  for (const [path, data] of Object.entries({ ...files, 'DEBIAN/control': Buffer.from(control) })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), data);
  }
  const file = `${name}_1.0_amd64.deb`;
  execFileSync('dpkg-deb', ['--root-owner-group', '-Znone', '--build', root, join(folder, file)]);
  const sha256 = createHash('sha256')
    .update(readFileSync(join(folder, file)))
    .digest('hex');
  return `${control}Filename: ./${file}\nSize: ${statSync(join(folder, file)).size}\nSHA256: ${sha256}\n`;
}
