/** bubblewrap's command line for a device process: its namespaces, and the files that it sees until it locks itself in. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { KOFFI_FILE, koffiFile } from '../host/ffi.ts';
import { type Capability, CHANNEL_FD, JAIL_ROOT, LOCK_CAPABILITIES } from './protocol.ts';

/** A folder of the host that stays visible in the device's root. */
export interface Bind {
  /** Path on the host. */
  readonly source: string;
  /** Absolute path in the device's root; `/` for all of it. */
  readonly target: string;
  readonly readOnly: boolean;
}

/**
 * What V8 is told. One thread collects garbage, in a young generation that is small, because a device makes little of it; one
 * thread compiles in the background. SIGUSR1, which would open a debugger's port, does nothing. Strings have the hashes that Node was built with,
 * which to replace by secret ones takes an eighth of Node's start: who makes them collide slows a device that is his own.
 */
const NODE_FLAGS = [
  '--max-semi-space-size=1',
  '--single-threaded',
  '--v8-pool-size=1',
  '--disable-sigusr1',
  '--no-rehash-snapshot',
];

/** Where shared libraries are. */
const LIBRARIES = ['/lib', '/lib64', '/usr/lib', '/usr/lib64', '/etc/ld.so.cache'];

/** The path of bubblewrap's command: an installed one, or the one in a folder; undefined where there is none. */
export function findBubblewrap(folder = ''): string | undefined {
  return [...(process.env.PATH ?? '').split(delimiter), folder]
    .filter((one) => one !== '')
    .map((one) => join(one, 'bwrap'))
    .find((file) => existsSync(file));
}

/**
 * Arguments for bwrap. `statusFd` is the descriptor where it tells the process's number and end. With `awaitsUsers` it tells the number at
 * the next one, too, and waits until it can read from the process's channel: the users and groups of the namespace are then there.
 */
export function bubblewrapArguments(options: {
  readonly bundle: string;
  readonly statusFd: number;
  readonly binds: readonly Bind[];
  readonly hostNetwork: boolean;
  readonly awaitsUsers: boolean;
  /** What the process has beyond what it locks itself in with. */
  readonly capabilities: readonly Capability[];
  /** Is /proc in the device's root? */
  readonly proc: boolean;
}): string[] {
  const { bundle, statusFd, binds, hostNetwork, awaitsUsers, capabilities, proc } = options;
  const namespaces = ['user', 'pid', 'ipc', 'uts', 'cgroup', ...(hostNetwork ? [] : ['net'])];
  return [
    ...namespaces.map((name) => `--unshare-${name}`),
    '--as-pid-1',
    ...['--cap-drop', 'ALL', ...[...LOCK_CAPABILITIES, ...capabilities].flatMap((name) => ['--cap-add', name])],
    ...['--json-status-fd', String(statusFd)],
    ...(awaitsUsers ? ['--userns-block-fd', String(CHANNEL_FD), '--info-fd', String(statusFd + 1)] : []),
    ...LIBRARIES.flatMap((path) => ['--ro-bind-try', path, path]),
    ...['--ro-bind', process.execPath, '/node'],
    ...['--ro-bind', bundle, '/device.cjs'],
    ...['--ro-bind', koffiFile(), `/${KOFFI_FILE}`],
    ...['--proc', '/proc'],
    // libuv keeps a descriptor of it, and where it is not there, one of the root folder.
    ...['--dev-bind', '/dev/null', '/dev/null'],
    ...rootArguments(binds, proc),
    ...['/node', ...NODE_FLAGS, '/device.cjs'],
  ];
}

/** The device's root: an empty one, or what is bound there. */
function rootArguments(binds: readonly Bind[], proc: boolean): string[] {
  const whole = binds.find(({ target }) => target === '/');
  const inside = binds.filter((bind) => bind !== whole);
  const bindOption = ({ readOnly }: Bind): string => (readOnly ? '--ro-bind' : '--bind');
  return [
    ...(whole === undefined ? ['--tmpfs', JAIL_ROOT] : [bindOption(whole), whole.source, JAIL_ROOT]),
    ...inside.flatMap((bind) => [bindOption(bind), bind.source, JAIL_ROOT + bind.target]),
    ...(proc ? ['--proc', `${JAIL_ROOT}/proc`] : []),
    ...(whole === undefined ? ['--remount-ro', JAIL_ROOT] : []),
  ];
}
