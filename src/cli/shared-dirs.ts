// The options --shared-dir and --mount.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { CACHE_POLICIES, type CachePolicy, type SharedDirectory } from '../fs/shared-directory.ts';
import { MAX_FS_TAG } from '../virtio/fs/model.ts';
import { MAX_P9_TAG } from '../virtio/p9/model.ts';
import { integer, oneOf } from './options.ts';

/** A directory for the default guest, which mounts it at boot. */
export interface SharedMount {
  readonly path: string;
  readonly readOnly: boolean;
  /** Absolute path in the guest. */
  readonly target: string;
}

/** The kernel's command line has no quoting that the guest's init would understand. */
const TARGET = /^(\/[\w.@%+=-]+)+$/;
/** 0xffffffff is no id. */
const MAX_ID = 2 ** 32 - 2;

/** The absolute path of a directory. Throws InvalidArgumentError. */
export function directory(path: string): string {
  if (path === '') throw new InvalidArgumentError('it takes the path of a directory');
  try {
    if (statSync(path).isDirectory()) return resolve(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const absent = code === 'ENOENT' || code === 'ENOTDIR';
    throw new InvalidArgumentError(absent ? `there is no directory ${path}: make it` : (error as Error).message);
  }
  throw new InvalidArgumentError(`${path} is no directory`);
}

/** PATH:TAG[,OPTION...]: the path ends at the first colon. */
export function parseSharedDirectory(text: string): SharedDirectory {
  const colon = text.indexOf(':');
  if (colon < 0) throw new InvalidArgumentError('it takes the path of a directory, a colon and a tag');
  const path = directory(text.slice(0, colon));
  const [tag = '', ...items] = text.slice(colon + 1).split(',');
  const given = new Map<string, string>();
  for (const item of items) {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(item) ?? [];
    if (!['type', 'ro', 'uid', 'gid', 'cache'].includes(name) || (value === undefined) !== (name === 'ro')) {
      throw new InvalidArgumentError(
        `${item}: the options are type=p9|fs, ro, uid=N, gid=N and cache=auto|always|never`,
      );
    }
    if (given.has(name)) throw new InvalidArgumentError(`${name} is there twice`);
    given.set(name, value ?? '');
  }
  const type = oneOf(['p9', 'fs'])(given.get('type') ?? 'p9');
  const cache = given.get('cache');
  if (type === 'p9' && cache !== undefined) {
    throw new InvalidArgumentError("cache is an option of type=fs: with 9P it is one of the guest's mount");
  }
  const most = type === 'p9' ? MAX_P9_TAG : MAX_FS_TAG;
  const length = Buffer.byteLength(tag);
  if (length === 0 || length > most || tag.includes('\0')) {
    throw new InvalidArgumentError(`a tag has 1 to ${most} bytes${type === 'fs' ? ' with type=fs' : ''}`);
  }
  const id = (name: string): number | null => {
    const value = given.get(name);
    return value === undefined ? null : integer(0, MAX_ID, `for ${name} a number`)(value);
  };
  return {
    path,
    tag,
    readOnly: given.has('ro'),
    uid: id('uid'),
    gid: id('gid'),
    protocol:
      type === 'p9'
        ? { type }
        : { type, cache: cache === undefined ? 'auto' : oneOf<CachePolicy>(CACHE_POLICIES)(cache) },
  };
}

/** HOST:GUEST[:ro] */
export function parseMount(text: string): SharedMount {
  const [path = '', target, mode, ...rest] = text.split(':');
  if (target === undefined || rest.length > 0 || (mode !== undefined && mode !== 'ro')) {
    throw new InvalidArgumentError(
      'it takes a directory of the host, a colon and an absolute path in the guest, and perhaps :ro',
    );
  }
  if (!TARGET.test(target)) {
    throw new InvalidArgumentError(
      `${target}: in the guest it takes an absolute path of letters, digits and . _ - + @ % =`,
    );
  }
  return { path: directory(path), readOnly: mode === 'ro', target };
}

/**
 * All shared directories, and what the default guest's kernel is told of those to mount. Where the monitor is not run by root, its
 * user's files are root's in the guest.
 */
export function sharedDirectories(
  shared: readonly SharedDirectory[],
  mounts: readonly SharedMount[],
): { readonly directories: readonly SharedDirectory[]; readonly params: readonly string[] } {
  const id = process.geteuid?.() === 0 ? null : 0;
  const mounted = mounts.map(
    ({ path, readOnly }, index): SharedDirectory => ({
      ...{ path, readOnly, uid: id, gid: id },
      tag: `mount${index}`,
      protocol: { type: 'fs', cache: 'auto' },
    }),
  );
  const directories = [...shared, ...mounted];
  const twice = directories.find(({ tag }, index) => directories.findIndex((other) => other.tag === tag) !== index);
  if (twice !== undefined) throw new Error(`two shared directories have the tag ${twice.tag}: give another to one`);
  return {
    directories,
    params: mounts.map(
      ({ target, readOnly }, index) => `vivarium.mount=mount${index}:${target}${readOnly ? ':ro' : ''}`,
    ),
  };
}
