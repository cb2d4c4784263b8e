/**
 * Picks kernel modules with all they depend on, and writes the tables by which modprobe(8) finds them. Debian's kernel
 * packages come without these tables: depmod(8) makes them at installation.
 */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { CpioEntry } from './cpio.ts';
import { GuestError } from './error.ts';
import type { ModuleInfo } from './modinfo.ts';
import { ModuleFormatError, moduleName, readModuleInfo } from './modinfo.ts';

/** What a guest on virtio devices needs. A kernel that has one of them built in, or not at all, goes without the file. */
export const GUEST_MODULES: readonly string[] = [
  'virtio_pci',
  'virtio_mmio',
  'virtio_blk',
  'virtio_net',
  'virtio_console',
  'virtio_balloon',
  'virtio_rng',
  'virtiofs',
  '9p',
  '9pnet_virtio',
  'vmw_vsock_virtio_transport',
  'overlay',
  'ext4',
];

/** More than the largest module of any Debian kernel. */
const MODULE_BYTES_MAX = 64 * 1024 * 1024;

/** A module of a kernel, read and unpacked. */
export interface KernelModule extends ModuleInfo {
  readonly name: string;
  /** Where it lies below /lib/modules/VERSION, without a compression's suffix. */
  readonly path: string;
  readonly data: Uint8Array;
}

/**
 * Reads `wanted` and what they depend on, in an order in which they can be loaded.
 * @param folder a kernel's /lib/modules/VERSION
 * @throws GuestError for a module that cannot be read, and for a dependency that is missing
 */
export async function collectModules(folder: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = await moduleFiles(folder);
  const done = new Map<string, KernelModule>();
  const open = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (done.has(name)) return;
    const path = files.get(name);
    if (path === undefined) throw new GuestError(`the kernel package lacks the module ${name}`);
    if (open.has(name)) throw new GuestError(`the kernel's module ${name} depends on itself`);
    open.add(name);
    const module = await readModule(folder, name, path);
    for (const dependency of module.depends) await visit(dependency);
    done.set(name, module);
  };
  for (const name of wanted) {
    if (files.has(name)) await visit(name);
  }
  return [...done.values()];
}

/** The modules and their tables as files below `root` ("lib/modules/VERSION"); parents are not among the entries. */
export function moduleEntries(root: string, modules: readonly KernelModule[]): CpioEntry[] {
  const file = (path: string, data: Uint8Array): CpioEntry => ({
    type: 'file',
    name: `${root}/${path}`,
    mode: 0o644,
    data,
  });
  return [
    ...modules.map((module) => file(module.path, module.data)),
    file('modules.dep', Buffer.from(dependencyTable(modules))),
    file('modules.alias', Buffer.from(aliasTable(modules))),
  ];
}

/** modules.dep(5): for each module all that it stands on, those to be loaded first at the end. */
export function dependencyTable(modules: readonly KernelModule[]): string {
  const above = new Map<string, readonly KernelModule[]>();
  let table = '';
  for (const module of modules) {
    const needed = new Set(module.depends.flatMap((name) => above.get(name) ?? []));
    // `modules` is in loading order, so its reverse is the table's.
    const ordered = modules.filter((other) => needed.has(other)).reverse();
    above.set(module.name, [module, ...ordered]);
    table += `${module.path}:${ordered.map((other) => ` ${other.path}`).join('')}\n`;
  }
  return table;
}

function aliasTable(modules: readonly KernelModule[]): string {
  return modules.flatMap(({ name, aliases }) => aliases.map((alias) => `alias ${alias} ${name}\n`)).join('');
}

async function moduleFiles(folder: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const paths = await readdir(join(folder, 'kernel'), { recursive: true });
  for (const path of paths.sort()) {
    const match = /([^/]+)\.ko(\.xz)?$/.exec(path);
    if (match?.[1] !== undefined) files.set(moduleName(match[1]), `kernel/${path}`);
  }
  return files;
}

async function readModule(folder: string, name: string, path: string): Promise<KernelModule> {
  const file = join(folder, path);
  const packed = path.endsWith('.xz');
  const data = packed ? await unpackXz(file) : await readFile(file);
  try {
    return { name, path: packed ? path.slice(0, -3) : path, data, ...readModuleInfo(data) };
  } catch (error) {
    if (error instanceof ModuleFormatError) throw new GuestError(`the kernel's module ${name}: ${error.message}`);
    throw error;
  }
}

async function unpackXz(file: string): Promise<Uint8Array> {
  try {
    const options = { encoding: 'buffer', maxBuffer: MODULE_BYTES_MAX } as const;
    return (await promisify(execFile)('xz', ['--decompress', '--stdout', file], options)).stdout;
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new GuestError(
      missing
        ? 'the kernel modules are packed, and xz (package xz-utils) is not installed'
        : `xz cannot unpack ${file}`,
    );
  }
}
