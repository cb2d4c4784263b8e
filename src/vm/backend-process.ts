/** Back ends in processes of their own, each in a jail of its own. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SharedDirectory } from '../fs/shared-directory.ts';
import { BUNDLE_FOLDER } from '../host/bundle.ts';
import type { Poller } from '../host/poller.ts';
import { type DeviceProcess, type DeviceProcessOptions, startDeviceProcess } from '../jail/device-process.ts';
import { allIds } from '../jail/id-maps.ts';
import type { BackendStart } from '../virtio/backend-start.ts';
import type { SandboxConfig } from './config.ts';
import type { RunningBackend } from './virtio-devices.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Where a shared directory is in its device's root. */
const SHARED = '/shared';

/** What a device's jail has beyond an empty root. */
interface Jail {
  /** Name of the policy of its system calls. */
  readonly policy: string;
  /** Does it have the host's network? */
  readonly network?: 'host';
  /** Does it see a directory of the host, which its parameters name? */
  readonly sharesDirectory?: true;
}

const JAILS: Readonly<Record<string, Jail>> = {
  balloon: { policy: 'balloon_device' },
  block: { policy: 'block_device' },
  console: { policy: 'console_device' },
  fs: { policy: 'fs_device', sharesDirectory: true },
  net: { policy: 'net_device' },
  net_user: { policy: 'net_user_device', network: 'host' },
  p9: { policy: '9p_device', sharesDirectory: true },
  rng: { policy: 'rng_device' },
  vhost_net: { policy: 'vhost_net_device' },
  vhost_vsock: { policy: 'vhost_vsock_device' },
  vsock: { policy: 'vsock_device' },
};

/** Starts a back end in a jail. */
export function startProcess(start: BackendStart, sandbox: SandboxConfig, poller: Poller): RunningBackend {
  const started = startJailed(start, sandbox, poller);
  return { ended: endOf(started), kill: () => void started.then((device) => device.kill()).catch(() => {}) };
}

async function startJailed(
  { fds, ...data }: BackendStart,
  sandbox: SandboxConfig,
  poller: Poller,
): Promise<DeviceProcess> {
  const jail = JAILS[data.device];
  if (jail === undefined) throw new Error(`${data.device} has no jail: run with --disable-sandbox`);
  const options = { policy: jail.policy, ...sandbox, bundle: builtBundle(`jailed-${data.device}`), fds } as const;
  if (!jail.sharesDirectory) {
    return startDeviceProcess({ ...options, data, network: jail.network ?? 'none' }, poller);
  }
  const { directory, view } = viewOf(data.params as unknown as SharedDirectory);
  return startDeviceProcess({ ...options, ...view, data: { ...data, params: directory } }, poller);
}

/** How a jailed process sees a directory of the host: what is to be shared in there, and what else its jail needs for it. */
export function viewOf<T extends Pick<SharedDirectory, 'path' | 'readOnly' | 'uid' | 'gid'>>(
  directory: T,
): { readonly directory: T; readonly view: Pick<DeviceProcessOptions, 'binds' | 'network' | 'proc' | 'users'> } {
  const { path, readOnly, uid, gid } = directory;
  // With a number of the guest's for its own user, it acts for that one alone.
  const actsForAll = process.geteuid?.() === 0 && uid === null && gid === null;
  return {
    directory: { ...directory, path: SHARED },
    view: {
      binds: [{ source: path, target: SHARED, readOnly }],
      network: 'none',
      proc: true,
      users: actsForAll ? allIds() : undefined,
    },
  };
}

/** Why it has ended, in one line: undefined if that was in order. */
export async function endOf(started: Promise<DeviceProcess>): Promise<string | undefined> {
  try {
    const { status, cause } = await (await started).ended;
    return status === 0 ? undefined : cause;
  } catch (error) {
    return (error as Error).message;
  }
}

/**
 * Path of a jailed process's bundle. Code that has changed must have been built: threads would run other code than processes do. Bundles are
 * all as old.
 */
export function builtBundle(name: string): string {
  const bundle = join(ROOT, `build/${name}.cjs`);
  if (BUNDLE_FOLDER !== undefined) return bundle;
  const built = statSync(bundle, { throwIfNoEntry: false });
  if (built === undefined) throw new Error(`${bundle} is missing: run npm run build`);
  const list = join(ROOT, 'build/bundles.sources');
  if (!existsSync(list)) return bundle;
  for (const source of readFileSync(list, 'utf8').split('\n')) {
    const status = statSync(join(ROOT, source), { throwIfNoEntry: false });
    if (status !== undefined && status.mtimeMs > built.mtimeMs) {
      throw new Error(`${bundle} is older than ${source}: run npm run build`);
    }
  }
  return bundle;
}
