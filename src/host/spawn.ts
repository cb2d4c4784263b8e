/** Other programs as children of this process: posix_spawn(3), waitpid(2). */
import { constants } from 'node:os';
import { closeDescriptor, duplicateDescriptor } from './descriptor.ts';
import { OsError } from './errno.ts';
import { addressOf, check, libc, uninterrupted } from './ffi.ts';

const POSIX_SPAWN_SETSIGDEF = 0x4;
const POSIX_SPAWN_SETSIGMASK = 0x8;
const POSIX_SPAWN_SETSID = 0x80;
/** Bytes, more than any C library has: posix_spawnattr_t has 336, posix_spawn_file_actions_t 80. */
const OPAQUE = 512;
/** Bytes of sigset_t. */
const SIGSET_SIZE = 128;

const spawn = libc(
  'int posix_spawn(void *pid, const char *path, const void *actions, const void *attr, const void *argv, const void *envp)',
);
const initActions = libc('int posix_spawn_file_actions_init(void *actions)');
const addDuplicate = libc('int posix_spawn_file_actions_adddup2(void *actions, int fd, int newfd)');
const addFolder = libc('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)');
const destroyActions = libc('int posix_spawn_file_actions_destroy(void *actions)');
const initAttributes = libc('int posix_spawnattr_init(void *attr)');
const setFlags = libc('int posix_spawnattr_setflags(void *attr, short flags)');
const setDefaults = libc('int posix_spawnattr_setsigdefault(void *attr, const void *set)');
const setMask = libc('int posix_spawnattr_setsigmask(void *attr, const void *set)');
const destroyAttributes = libc('int posix_spawnattr_destroy(void *attr)');
const waitpid = libc('int waitpid(int pid, void *status, int options)');

export interface SpawnOptions {
  /** The names that begin with it, and what they are. */
  readonly env: Readonly<Record<string, string>>;
  /** What the program has as descriptors 0, 1 and so on. */
  readonly fds: readonly number[];
  /** The folder that it begins in. */
  readonly folder: string;
}

/** How a program ended: one of the two. */
export interface ProgramEnd {
  readonly status?: number;
  readonly signal?: NodeJS.Signals | undefined;
}

/** These functions return their error. */
function require0(name: string, result: number): void {
  if (result !== 0) throw new OsError(name, result);
}

/** A list of texts for C: addresses, 0, and then what they are of. To be kept alive as long as it is used. */
function textList(texts: readonly string[]): Uint8Array {
  const encoded = texts.map((text) => Buffer.from(`${text}\0`));
  let at = (texts.length + 1) * 8;
  const list = new Uint8Array(encoded.reduce((sum, { length }) => sum + length, at));
  const view = new DataView(list.buffer);
  const start = addressOf(list.buffer);
  for (const [i, bytes] of encoded.entries()) {
    view.setBigUint64(i * 8, start + BigInt(at), true);
    list.set(bytes, at);
    at += bytes.length;
  }
  return list;
}

/**
 * Starts the program at an absolute path, in a session of its own, without what this process ignores or blocks of signals, and returns its number, which is its
 * own until reapProgram(). Node's spawn() copies this process's page tables first: milliseconds, and a fault afterwards
 * for each page that is written. Descriptors that are not closed at exec are the program's, too. Throws OsError.
 */
export function spawnProgram(path: string, args: readonly string[], { env, fds, folder }: SpawnOptions): number {
  const [actions, attributes, pid] = [new Uint8Array(OPAQUE), new Uint8Array(OPAQUE), new Int32Array(1)];
  const raised: number[] = [];
  require0('posix_spawn_file_actions_init', initActions(actions));
  require0('posix_spawnattr_init', initAttributes(attributes));
  try {
    // Above all that they become: none is replaced before its turn.
    for (const fd of fds) raised.push(duplicateDescriptor(fd, fds.length));
    for (const [i, fd] of raised.entries()) require0('posix_spawn', addDuplicate(actions, fd, i));
    require0('posix_spawn', addFolder(actions, folder));
    setFlags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    setDefaults(attributes, new Uint8Array(SIGSET_SIZE).fill(0xff));
    setMask(attributes, new Uint8Array(SIGSET_SIZE));
    const names = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    require0('posix_spawn', spawn(pid, path, actions, attributes, textList([path, ...args]), textList(names)));
  } finally {
    for (const fd of raised) closeDescriptor(fd);
    destroyActions(actions);
    destroyAttributes(attributes);
  }
  return pid[0] as number;
}

/** Waits for the end of a program of spawnProgram(). Throws OsError. */
export function reapProgram(pid: number): ProgramEnd {
  const word = new Int32Array(1);
  check(
    'waitpid',
    uninterrupted(() => waitpid(pid, word, 0)),
  );
  const status = word[0] as number;
  const signal = status & 0x7f;
  return signal === 0 ? { status: (status >> 8) & 0xff } : { signal: signalNamed(signal) };
}

export function signalNamed(number: number): NodeJS.Signals | undefined {
  const names = Object.entries(constants.signals) as [NodeJS.Signals, number][];
  return names.find(([, value]) => value === number)?.[0];
}
