import { runInJail } from '../jail/inside.ts';
import type { BackendFactory } from '../virtio/backend.ts';
import type { BackendStart } from '../virtio/backend-start.ts';
import { prepareBackend } from '../virtio/device-main.ts';

/** Runs a back end in a process of its own: what the bundles of jailed back ends begin with. */
export function runJailed(create: BackendFactory): void {
  void runInJail(async ({ data, fds }) => prepareBackend({ ...(data as Omit<BackendStart, 'fds'>), fds }, create));
}
